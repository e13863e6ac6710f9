// Sixteen lanes: the vector types and the few operations on them that compilers do not give by operators. Included by
// variant.cpp alone, once per instruction set; everything lives in the variant's own namespace, so that no function
// compiled for AVX-512 is ever linked into the code of an older machine.
//
// + - * / and comparisons are the compiler's own on vector types: one IEEE operation a lane, never fused
// (-ffp-contract=off). One 64-byte vector is one register of AVX-512, two of AVX2, four of SSE2 or NEON.
#pragma once

#include <cstddef>
#include <cstdint>

#include "table.hpp"

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#pragma GCC diagnostic ignored "-Wpsabi"

namespace shoal::SHOAL_VARIANT {

using f32x16 = float __attribute__((vector_size(64)));
using i32x16 = int32_t __attribute__((vector_size(64)));
using u32x16 = uint32_t __attribute__((vector_size(64)));
using i8x16 = int8_t __attribute__((vector_size(16)));

SHOAL_INLINE f32x16 load(const float* from) {
  f32x16 v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

SHOAL_INLINE void store(float* to, f32x16 v) { __builtin_memcpy(to, &v, sizeof v); }

SHOAL_INLINE f32x16 all(float value) { return f32x16{} + value; }

// For gcc 12, which likes to read a hundred numbers first, more than there are registers, to keep them on the stack and
// to follow each sum to its end before it begins the next one. in_order() keeps it from reading memory earlier than
// written here; in_register(v) makes it compute ``v`` here, once.
SHOAL_INLINE void in_order() { asm volatile("" ::: "memory"); }

SHOAL_INLINE f32x16 in_register(f32x16 v) {
#if defined(__AVX512F__)
  asm volatile("" : "+v"(v));
#endif
  return v;
}

// The first ``count`` of sixteen, zeros behind.
SHOAL_INLINE f32x16 load_some(const float* from, int count) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
#else
  float some[16] = {};
  for (int i = 0; i < count; ++i) some[i] = from[i];
  return load(some);
#endif
}

SHOAL_INLINE void store_some(float* to, f32x16 v, int count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)v);
#else
  for (int i = 0; i < count; ++i) to[i] = v[i];
#endif
}

// load_some where ``count`` may be sixteen and more.
SHOAL_INLINE f32x16 load_most(const float* from, int count) { return count >= 16 ? load(from) : load_some(from, count); }

SHOAL_INLINE void store_most(float* to, f32x16 v, int count) {
  if (count >= 16) {
    store(to, v);
  } else {
    store_some(to, v, count);
  }
}

#if defined(__AVX2__) && !defined(__AVX512F__)
// gcc 12 takes some operations on two registers' worth of lanes apart, number by number; these it is given in halves.
template <typename Function>
SHOAL_INLINE f32x16 in_halves(f32x16 v, const Function& function) {
  __m256 half[2];
  __builtin_memcpy(half, &v, 64);
  half[0] = function(half[0]);
  half[1] = function(half[1]);
  __builtin_memcpy(&v, half, 64);
  return v;
}
#endif

// For values that are whole numbers already.
SHOAL_INLINE i32x16 to_int(f32x16 v) {
#if defined(__AVX512F__)
  return (i32x16)_mm512_cvttps_epi32((__m512)v);
#elif defined(__AVX2__)
  return (i32x16)in_halves(v, [](__m256 x) { return _mm256_castsi256_ps(_mm256_cvttps_epi32(x)); });
#else
  return __builtin_convertvector(v, i32x16);
#endif
}

// Half to even, for |v| < 2^22: adding 1.5 * 2^23 leaves no room for a fraction.
SHOAL_INLINE f32x16 round_even(f32x16 v) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_roundscale_ps((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  return (v + 12582912.0f) - 12582912.0f;
#endif
}

// NaN in ``v`` stays: x86's minimum and maximum return their second operand then, and a comparison is false.
SHOAL_INLINE f32x16 clamp(f32x16 v, float least, float most) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_min_ps(_mm512_set1_ps(most), _mm512_max_ps(_mm512_set1_ps(least), (__m512)v));
#elif defined(__AVX2__)
  return in_halves(
      v, [=](__m256 x) { return _mm256_min_ps(_mm256_set1_ps(most), _mm256_max_ps(_mm256_set1_ps(least), x)); });
#else
  v = v < least ? all(least) : v;
  return v > most ? all(most) : v;
#endif
}

SHOAL_INLINE f32x16 larger(f32x16 a, f32x16 b) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return a > b ? a : b;
#endif
}

SHOAL_INLINE u32x16 larger(u32x16 a, u32x16 b) { return a > b ? a : b; }

// Sixteen integers within a byte's range.
SHOAL_INLINE void store_bytes(int8_t* to, i32x16 v) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  __m256i half[2];
  __builtin_memcpy(half, &v, 64);
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(half[0], half[1]), 0xD8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
#else
  const i8x16 bytes = __builtin_convertvector(v, i8x16);
#endif
  __builtin_memcpy(to, &bytes, 16);
}

SHOAL_INLINE float root(float v) { return __builtin_sqrtf(v); }

// FP16, as bits.

SHOAL_INLINE float half_to_float(uint16_t half) {
#if defined(__F16C__)
  return _cvtsh_ss(half);
#else
  const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
  uint32_t exponent = (half >> 10) & 31u, fraction = half & 0x3FFu, bits;
  if (exponent == 31) {
    bits = sign | 0x7F800000u | (fraction << 13);
  } else if (exponent != 0) {
    bits = sign | ((exponent + 112) << 23) | (fraction << 13);
  } else {  // a subnormal is its fraction times 2^-24, which is exact
    const float magnitude = (float)fraction * 0x1p-24f;
    __builtin_memcpy(&bits, &magnitude, 4);
    bits |= sign;
  }
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
#endif
}

SHOAL_INLINE uint16_t float_to_half(float value) {  // rounds half to even
#if defined(__F16C__)
  return _cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT);
#else
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  const uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
  bits &= 0x7FFFFFFFu;
  if (bits > 0x7F800000u) return sign | 0x7E00u;
  if (bits >= 0x477FF000u) return sign | 0x7C00u;  // 65520 and more
  if (bits < 0x38800000u) {                         // below 2^-14: a multiple of 2^-24, rounded by adding 0.5
    float magnitude;
    __builtin_memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    uint32_t shifted;
    __builtin_memcpy(&shifted, &magnitude, 4);
    return (uint16_t)(sign | (shifted - 0x3F000000u));
  }
  return (uint16_t)(sign | ((bits - 0x38000000u + 0xFFFu + ((bits >> 13) & 1u)) >> 13));
#endif
}

SHOAL_INLINE f32x16 load_half(const uint16_t* from) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from));
#elif defined(__F16C__)
  const __m256 half[2] = {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from)),
                          _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(from + 8)))};
  f32x16 v;
  __builtin_memcpy(&v, half, 64);
  return v;
#else
  float values[16];
  for (int i = 0; i < 16; ++i) values[i] = half_to_float(from[i]);
  return load(values);
#endif
}

}  // namespace shoal::SHOAL_VARIANT
