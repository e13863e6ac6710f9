// What works on rows: norm, quantisation, rotation. Each output row depends on its own input row alone.
#pragma once

#include "elementary.hpp"
#include "pool.hpp"
#include "table.hpp"

namespace shoal::SHOAL_VARIANT {

inline constexpr int kRowsPerTask = 8;

// Rows of a Batch as tasks; a few rows are not worth waking anybody.
template <typename Function>
SHOAL_INLINE void each_row(Pool& pool, int rows, const Function& function) {
  auto task = [&](int index) {
    const int end = (index + 1) * kRowsPerTask < rows ? (index + 1) * kRowsPerTask : rows;
    for (int row = index * kRowsPerTask; row < end; ++row) function(row);
  };
  parallel(pool, (rows + kRowsPerTask - 1) / kRowsPerTask, task);
}

// One group of up to 64 values: integers, scale, and the start of the dot products.
SHOAL_INLINE void quantize_group(f32x16 (&x)[4], int8_t* values, float* scale, int32_t* start) {
  // The largest magnitude, compared as integers: so NaN counts as larger than infinity, and stays.
  u32x16 most = (u32x16)x[0] & 0x7FFFFFFFu;
  for (int i = 1; i < 4; ++i) most = larger(most, (u32x16)x[i] & 0x7FFFFFFFu);
  uint32_t amax_bits = 0x0D800000u;  // 2^-100
#if defined(__AVX512F__)
  const uint32_t found = _mm512_reduce_max_epu32((__m512i)most);
  if (found > amax_bits) amax_bits = found;
#else
  for (int i = 0; i < 16; ++i) amax_bits = most[i] > amax_bits ? most[i] : amax_bits;
#endif
  float amax;
  __builtin_memcpy(&amax, &amax_bits, 4);
  const float inverse = 127.0f / amax;
  *scale = amax / 127.0f;
  i32x16 sum = {};
  for (int i = 0; i < 4; ++i) {
    f32x16 q = round_even(x[i] * inverse);
    if (amax_bits >= 0x7F800000u) q = f32x16{};  // the scale says it all
    const i32x16 integers = to_int(q);
    sum += integers;
    store_bytes(values + 16 * i, integers);
  }
#if defined(__AVX512F__)
  *start = -128 * _mm512_reduce_add_epi32((__m512i)sum);
#else
  int32_t total = 0;
  for (int i = 0; i < 16; ++i) total += sum[i];
  *start = -128 * total;
#endif
}

// ``value_of(at)`` gives sixteen values from channel ``at``, zeros beyond the width.
template <typename Function>
SHOAL_INLINE void quantize_row(const Activations& out, int row, const Function& value_of) {
  for (int group = 0; group < out.groups; ++group) {
    f32x16 x[4];
    for (int i = 0; i < 4; ++i) x[i] = value_of(group * kGroup + 16 * i);
    const size_t at = (size_t)row * out.groups + group;
    quantize_group(x, out.values + at * kGroup, out.scales + at, out.starts + at);
  }
}

SHOAL_INLINE f32x16 load_within(const float* row, int at, int width) {
  return at + 16 <= width ? load(row + at) : at < width ? load_some(row + at, width - at) : f32x16{};
}

SHOAL_INLINE float inverse_of_norm(const float* x, int width, float eps) {
  f32x16 lanes = {};
  for (int at = 0; at < width; at += 16) {
    const f32x16 v = load_within(x, at, width);
    lanes = lanes + v * v;
  }
  return 1.0f / root(tree(lanes) / (float)width + eps);
}

static void quantize(Pool& pool, const float* x, int rows, int width, Activations out) {
  each_row(pool, rows, [&](int row) {
    const float* from = x + (size_t)row * width;
    quantize_row(out, row, [&](int at) { return load_within(from, at, width); });
  });
}

SHOAL_INLINE void norm_row(const float* x, const float* weight, int width, float eps, float* out) {
  const float inverse = inverse_of_norm(x, width, eps);
  for (int at = 0; at < width; at += 16) {
    const f32x16 y = (load_within(x, at, width) * inverse) * load_within(weight, at, width);
    store_most(out + at, y, width - at);
  }
}

static void norm(Pool& pool, const float* x, const float* weight, int rows, int width, float eps, float* out) {
  each_row(pool, rows, [&](int row) {
    const size_t at = (size_t)row * width;
    norm_row(x + at, weight, width, eps, out + at);
  });
}

static void norm_quantize(Pool& pool, const float* x, const float* weight, int rows, int width, float eps,
                          Activations out) {
  each_row(pool, rows, [&](int row) {
    const float* from = x + (size_t)row * width;
    const float inverse = inverse_of_norm(from, width, eps);
    quantize_row(out, row,
                 [&](int at) { return (load_within(from, at, width) * inverse) * load_within(weight, at, width); });
  });
}

static void gated_quantize(Pool& pool, const float* gate_up, int rows, int inner, Activations out) {
  each_row(pool, rows, [&](int row) {
    const float* gate = gate_up + (size_t)row * 2 * inner;
    quantize_row(out, row,
                 [&](int at) { return silu(load_within(gate, at, inner)) * load_within(gate + inner, at, inner); });
  });
}

static void starts(Pool& pool, Activations x) {
  each_row(pool, x.rows, [&](int row) {
    for (int group = 0; group < x.groups; ++group) {
      const size_t at = (size_t)row * x.groups + group;
      int32_t sum = 0;
      for (int i = 0; i < kGroup; ++i) sum += x.values[at * kGroup + i];
      x.starts[at] = -128 * sum;
    }
  });
}

// One head in place or to elsewhere: channel i turns with channel i + head_dim / 2.
SHOAL_INLINE void rotate(const float* x, const float* cos, const float* sin, int head_dim, float* out) {
  const int half = head_dim / 2;
  for (int at = 0; at < half; at += 16) {
    const int count = half - at;
    const f32x16 a = load_most(x + at, count), b = load_most(x + half + at, count);
    const f32x16 c = load_most(cos + at, count), s = load_most(sin + at, count);
    store_most(out + at, a * c - b * s, count);
    store_most(out + half + at, b * c + a * s, count);
  }
}

static void rope(Pool& pool, const float* x, const float* cos, const float* sin, int rows, int heads, int head_dim,
                 float* out) {
  each_row(pool, rows, [&](int row) {
    const size_t table = (size_t)row * (head_dim / 2);
    for (int head = 0; head < heads; ++head) {
      const size_t at = ((size_t)row * heads + head) * head_dim;
      rotate(x + at, cos + table, sin + table, head_dim, out + at);
    }
  });
}

static void embedding_rows(Pool& pool, const Matrix& table, const int64_t* ids, int count, float* out) {
  each_row(pool, count, [&](int row) {
    const int id = (int)ids[row], lane = id % kPanel;
    const uint8_t* panel = table.data + (size_t)(id / kPanel) * table.panel_bytes();
    float* to = out + (size_t)row * table.in;
    for (int group = 0; group < table.groups(); ++group, panel += kPanelGroupBytes) {
      uint16_t half;
      __builtin_memcpy(&half, panel + kGroup * kPanel + 2 * lane, 2);
      const float scale = half_to_float(half);
      for (int i = 0; i < kGroup && group * kGroup + i < table.in; ++i)
        to[group * kGroup + i] = (float)((int)panel[(i / 4) * 4 * kPanel + 4 * lane + i % 4] - 128) * scale;
    }
  });
}

}  // namespace shoal::SHOAL_VARIANT
