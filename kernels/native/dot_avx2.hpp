// A tile of the INT8 product with AVX2, which has no exact product of bytes: weights are widened to 16 bits, even and
// odd channels apart, and multiplied in pairs (at most 2 * 255 * 127, exact in INT32).
#pragma once

#include "table.hpp"
#include "vector.hpp"

namespace shoal::SHOAL_VARIANT {

inline constexpr int kTileRows = 2;  // 8 accumulators of half a panel, 2 registers of weights, 4 of activations

// See dot_avx512.hpp.
template <int R>
static inline void tile(const uint8_t* panel, int groups, const int8_t* values, const float* scales,
                        const int32_t* starts, float* y) {
  const size_t stride = (size_t)groups * kGroup;
  for (int i = 0; i < R * kPanel; ++i) y[i] = 0.0f;
  const __m256i low = _mm256_set1_epi32(0x00FF00FF);
  for (int group = 0; group < groups; ++group, panel += kPanelGroupBytes, values += kGroup) {
    for (int half = 0; half < 2; ++half) {
      __m256i dot[R][4];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int n = 0; n < 4; ++n) dot[r][n] = _mm256_set1_epi32(starts[(size_t)r * groups + group]);
#pragma GCC unroll 1
      for (int quad = 0; quad < kGroup / 4; ++quad) {
        __m256i even[R], odd[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          int32_t four;
          __builtin_memcpy(&four, values + r * stride + quad * 4, 4);
          const __m256i a = _mm256_set1_epi32(four);
          even[r] = _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8);
          odd[r] = _mm256_srai_epi16(a, 8);
        }
#pragma GCC unroll 4
        for (int n = 0; n < 4; ++n) {
          const __m256i w = _mm256_loadu_si256((const __m256i*)(panel + quad * 256 + half * 128 + n * 32));
          const __m256i w_even = _mm256_and_si256(w, low), w_odd = _mm256_srli_epi16(w, 8);
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r)
            dot[r][n] = _mm256_add_epi32(dot[r][n], _mm256_add_epi32(_mm256_madd_epi16(w_even, even[r]),
                                                                     _mm256_madd_epi16(w_odd, odd[r])));
        }
      }
      const uint8_t* halves = panel + kGroup * kPanel + half * kPanel;
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) {
        const __m256 step = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(halves + 16 * n)));
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          float* at = y + r * kPanel + 32 * half + 8 * n;
          const __m256 scale = _mm256_set1_ps(scales[(size_t)r * groups + group]);
          const __m256 term = _mm256_mul_ps(_mm256_cvtepi32_ps(dot[r][n]), _mm256_mul_ps(step, scale));
          _mm256_storeu_ps(at, _mm256_add_ps(_mm256_loadu_ps(at), term));
        }
      }
    }
  }
}

}  // namespace shoal::SHOAL_VARIANT
