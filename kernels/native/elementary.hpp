// The elementary functions of profile c8, operation by operation as kernels/elementary.py defines them.
#pragma once

#include "vector.hpp"

namespace shoal::SHOAL_VARIANT {

inline constexpr float kLowest = -3.4028234663852886e38f;

// Lane i of the first and lane i + 8 of the second half added, then four and four, two and two, one and one; and + 0.
SHOAL_INLINE float tree(f32x16 v) {
#if defined(__AVX512F__)
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two))) + 0.0f;
#else
  float lanes[16];
  store(lanes, v);
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lanes[i] = lanes[i] + lanes[i + width];
  return lanes[0] + 0.0f;
#endif
}

// One level of sixteen trees at once: ``a`` and ``b`` each hold kWidth / 2 vectors that are folded to 32 / kWidth lanes.
// What b's lanes are added to moves into b's places, and the other way about: one shuffle and one blend, where
// taking both halves of both would be two shuffles, which are dearer.
template <int kWidth>
SHOAL_INLINE f32x16 fold_lanes(f32x16 a, f32x16 b) {
  if constexpr (kWidth == 2) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31) +
           __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23);
  } else if constexpr (kWidth == 4) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 20, 21, 22, 23, 8, 9, 10, 11, 28, 29, 30, 31) +
           __builtin_shufflevector(a, b, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
  } else if constexpr (kWidth == 8) {
    return __builtin_shufflevector(a, b, 0, 1, 18, 19, 4, 5, 22, 23, 8, 9, 26, 27, 12, 13, 30, 31) +
           __builtin_shufflevector(a, b, 2, 3, 16, 17, 6, 7, 20, 21, 10, 11, 24, 25, 14, 15, 28, 29);
  } else {
    return __builtin_shufflevector(a, b, 0, 17, 2, 19, 4, 21, 6, 23, 8, 25, 10, 27, 12, 29, 14, 31) +
           __builtin_shufflevector(a, b, 1, 16, 3, 18, 5, 20, 7, 22, 9, 24, 11, 26, 13, 28, 15, 30);
  }
}

// Sixteen trees at once, for two sets of sixteen vectors: lane t of ``a`` is tree(the first set's t) but for the last
// + 0. ``vectors_of(t, a, b)`` makes them, so that no more than a few are alive at a time; they are asked for in the
// order that fold_lanes undoes, with the four bits of t reversed. (Results come back through references: gcc 12 keeps
// structs of vectors in memory.)
template <int kFirst, int kWidth, typename Function>
SHOAL_INLINE void trees(const Function& vectors_of, f32x16& a, f32x16& b) {
  if constexpr (kWidth == 1) {
    vectors_of((kFirst & 1) * 8 + (kFirst & 2) * 2 + (kFirst & 4) / 2 + (kFirst & 8) / 8, a, b);
  } else {
    f32x16 c, d;
    trees<kFirst, kWidth / 2>(vectors_of, a, b);
    trees<kFirst + kWidth / 2, kWidth / 2>(vectors_of, c, d);
    a = fold_lanes<kWidth>(a, c);
    b = fold_lanes<kWidth>(b, d);
  }
}

SHOAL_INLINE f32x16 exp(f32x16 x) {
  f32x16 r = clamp(x, -88.0f, 88.0f);
  const f32x16 k = round_even(r * 0x1.715476p+0f);
  r = r - k * 0x1.62e4p-1f;
  r = r - k * 0x1.7f7d1cp-20f;
  f32x16 p = r * 0x1.6a2434p-10f;
  p = (p + 0x1.1239e2p-7f) * r;
  p = (p + 0x1.5558f2p-5f) * r;
  p = (p + 0x1.555492p-3f) * r;
  p = p + 0x1.fffffcp-2f;
  p = p * (r * r) + r + 1.0f;
  return p * (f32x16)((to_int(k) + 127) << 23);
}

SHOAL_INLINE f32x16 silu(f32x16 x) { return x / (exp(-x) + 1.0f); }

SHOAL_INLINE f32x16 tanh(f32x16 x) { return 1.0f - 2.0f / (exp(x + x) + 1.0f); }

}  // namespace shoal::SHOAL_VARIANT
