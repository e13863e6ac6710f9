// A tile of the INT8 product with AVX-512 VNNI: R rows of activations times one panel of 64 outputs.
//
// The accumulators have a name each. gcc 12 leaves an array of them on the stack, however its loops are unrolled, and
// writes every element back at every step, which halves the speed; clang does not mind either way.
#pragma once

#include "table.hpp"
#include "vector.hpp"

namespace shoal::SHOAL_VARIANT {

inline constexpr int kTileRows = 6;  // 24 accumulators, 4 registers of weights, 1 of activations: 29 of 32

#define SHOAL_EACH_ROW(step) step(0) step(1) step(2) step(3) step(4) step(5)

#define SHOAL_START(r)                                                               \
  __m512i dot##r##0 = _mm512_setzero_si512();                                        \
  if constexpr (r < R) dot##r##0 = _mm512_set1_epi32(starts[(size_t)r * groups + group]); \
  __m512i dot##r##1 = dot##r##0, dot##r##2 = dot##r##0, dot##r##3 = dot##r##0;

#define SHOAL_DOT(r)                                         \
  if constexpr (r < R) {                                     \
    int32_t four;                                            \
    __builtin_memcpy(&four, values + r * stride + quad, 4);  \
    const __m512i a = _mm512_set1_epi32(four);               \
    add_products(dot##r##0, w0, a);                      \
    add_products(dot##r##1, w1, a);                      \
    add_products(dot##r##2, w2, a);                      \
    add_products(dot##r##3, w3, a);                      \
  }

#define SHOAL_FOLD(r)                                                       \
  if constexpr (r < R) {                                                    \
    const __m512 scale = _mm512_set1_ps(scales[(size_t)r * groups + group]); \
    fold(y + r * kPanel, dot##r##0, step0, scale);                          \
    fold(y + r * kPanel + 16, dot##r##1, step1, scale);                     \
    fold(y + r * kPanel + 32, dot##r##2, step2, scale);                     \
    fold(y + r * kPanel + 48, dot##r##3, step3, scale);                     \
  }

// dot += weights * activations, four channels a lane. As assembly, because gcc 12 copies each accumulator to another
// register and back around the intrinsic.
SHOAL_INLINE void add_products(__m512i& dot, __m512i weights, __m512i activations) {
  asm("vpdpbusd %2, %1, %0" : "+v"(dot) : "v"(weights), "v"(activations));
}

SHOAL_INLINE void fold(float* y, __m512i dot, __m512 step, __m512 scale) {
  const __m512 term = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(step, scale));
  _mm512_store_ps(y, _mm512_add_ps(_mm512_load_ps(y), term));
}

SHOAL_INLINE __m512 steps(const uint8_t* halves) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)halves));
}

// Adds groups in ascending order: y[r][n] = y[r][n] + float(dot) * (s_w * s_a), from +0. ``values``, ``scales`` and
// ``starts`` are those of the first row; y [R, kPanel] is aligned, 1.5 KB of first-level cache.
template <int R>
static inline void tile(const uint8_t* panel, int groups, const int8_t* values, const float* scales,
                        const int32_t* starts, float* y) {
  const size_t stride = (size_t)groups * kGroup;
  for (int i = 0; i < R * kPanel; i += 16) _mm512_store_ps(y + i, _mm512_setzero_ps());
  for (int group = 0; group < groups; ++group, panel += kPanelGroupBytes, values += kGroup) {
    SHOAL_EACH_ROW(SHOAL_START)
#pragma GCC unroll 1
    for (int quad = 0; quad < kGroup; quad += 4) {
      const uint8_t* w = panel + quad * kPanel;
      const __m512i w0 = _mm512_loadu_si512(w), w1 = _mm512_loadu_si512(w + 64);
      const __m512i w2 = _mm512_loadu_si512(w + 128), w3 = _mm512_loadu_si512(w + 192);
      SHOAL_EACH_ROW(SHOAL_DOT)
    }
    const uint8_t* halves = panel + kGroup * kPanel;
    const __m512 step0 = steps(halves), step1 = steps(halves + 32);
    const __m512 step2 = steps(halves + 64), step3 = steps(halves + 96);
    SHOAL_EACH_ROW(SHOAL_FOLD)
  }
}

#undef SHOAL_EACH_ROW
#undef SHOAL_START
#undef SHOAL_DOT
#undef SHOAL_FOLD

}  // namespace shoal::SHOAL_VARIANT
