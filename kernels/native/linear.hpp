// The INT8 product of matrices: how rows and panels are cut into tiles and tasks.
//
// A panel of 64 outputs is read from memory once a call, whole, in the order in which it lies there; while it is in the
// second-level cache all rows pass over it, kTileRows at a time. With few rows the call takes the time of reading the
// weights, with many that of the products.
#pragma once

#include "pool.hpp"
#include "table.hpp"
#include "vector.hpp"

#if defined(__AVX512VNNI__)
#include "dot_avx512.hpp"
#elif defined(__AVX2__)
#include "dot_avx2.hpp"
#else
#include "dot_portable.hpp"
#endif

namespace shoal::SHOAL_VARIANT {

// y [rows of the tile, kPanel], then bias and residual, to out.
SHOAL_INLINE void finish(const float* y, int rows, int first_row, const Matrix& matrix, int panel,
                         const float* residual, float* out) {
  const int first = panel * kPanel;
  for (int r = 0; r < rows; ++r) {
    const size_t row = (size_t)(first_row + r) * matrix.out;
    for (int n = 0; n < kPanel && first + n < matrix.out; n += 16) {
      const int count = matrix.out - first - n;
      f32x16 v = load(y + r * kPanel + n);
      if (matrix.bias) v = v + load_most(matrix.bias + first + n, count);
      if (residual) v = load_most(residual + row + first + n, count) + v;
      store_most(out + row + first + n, v, count);
    }
  }
}

template <int R>
static inline void rows_of_tile(const Activations& x, const Matrix& matrix, int panel, int row, int count,
                                const float* residual, float* out) {
  if constexpr (R > 1) {
    if (count < R) return rows_of_tile<R - 1>(x, matrix, panel, row, count, residual, out);
  }
  alignas(64) float y[R * kPanel];
  const size_t scale = (size_t)row * x.groups;
  tile<R>(matrix.data + panel * matrix.panel_bytes(), x.groups, x.values + scale * kGroup, x.scales + scale,
          x.starts + scale, y);
  finish(y, R, row, matrix, panel, residual, out);
}

static void linear(Pool& pool, Activations x, const Matrix& matrix, const float* residual, float* out) {
  // A panel is a task, or a part of its rows where there are many rows and few panels a thread.
  const int panels = matrix.panels();
  int parts = 1;
  while (parts * panels < 8 * pool.threads() && x.rows / (2 * parts) >= 8 * kTileRows) parts *= 2;
  const int rows = ((x.rows + parts - 1) / parts + kTileRows - 1) / kTileRows * kTileRows;
  parallel(pool, panels * parts, [&](int task) {
    const int panel = task / parts, first = task % parts * rows;
    const int end = first + rows < x.rows ? first + rows : x.rows;
    for (int row = first; row < end; row += kTileRows)
      rows_of_tile<kTileRows>(x, matrix, panel, row, end - row, residual, out);
  });
}

}  // namespace shoal::SHOAL_VARIANT
