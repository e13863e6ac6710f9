// What crosses between the border (module.cpp) and the variants: plain structs of pointers and sizes, and the table of
// functions that every variant fills. Knows no instruction set, no Python, owns no memory.
#pragma once

#include <cstddef>
#include <cstdint>

#define SHOAL_INLINE inline __attribute__((always_inline))

namespace shoal {

class Pool;

inline constexpr int kLanes = 16;      // of every sum, see kernels/elementary.py
inline constexpr int kGroup = 64;      // input channels that share a scale
inline constexpr int kPanel = 64;      // output rows that lie together
inline constexpr int kPage = 32;       // token slots of a Page
inline constexpr int kMostHeadDim = 512;
inline constexpr size_t kPanelGroupBytes = kGroup * kPanel + 2 * kPanel;  // weights, then FP16 scales

// An INT8 matrix as kernels/panels.py packs it: [panels, groups, kPanelGroupBytes].
struct Matrix {
  const uint8_t* data = nullptr;
  const float* bias = nullptr;  // [out] or null
  int out = 0;
  int in = 0;
  SHOAL_INLINE int groups() const { return (in + kGroup - 1) / kGroup; }
  SHOAL_INLINE int panels() const { return (out + kPanel - 1) / kPanel; }
  SHOAL_INLINE size_t panel_bytes() const { return groups() * kPanelGroupBytes; }
};

// Activations: values [rows, groups * kGroup], scales [rows, groups], and the start of each dot product, -128 * the sum
// of the group's values, because weights are stored as w + 128.
struct Activations {
  int8_t* values = nullptr;
  float* scales = nullptr;
  int32_t* starts = nullptr;
  int rows = 0;
  int groups = 0;
};

// One Seat's rows of a Batch: tokens position .. position + count, its Pages in order.
struct Seat {
  const int32_t* pages;
  int first_row;
  int position;
  int count;
};

struct Rows {
  const Seat* seats;
  int num_seats;
  int count;
  const int64_t* slots;  // [count]: page * kPage + offset
  const float* cos;      // [count, head_dim / 2]
  const float* sin;
};

struct Shape {
  int heads, kv_heads, head_dim;
  float eps;
  int window;      // 0: none
  float softcap;   // 0: none
};

// Keys and values, FP16 as bits: [pages, kv_heads, kPage, head_dim].
struct Pages {
  uint16_t* k;
  uint16_t* v;
};

struct Block {
  const float* norm1;
  Matrix qkv;
  const float* q_norm;  // [head_dim] or null
  const float* k_norm;
  Matrix o;
  const float* norm2;
  Matrix gate_up;
  Matrix down;
  Shape shape;
};

// One variant. Every function gives the same bits in all of them, whatever the number of threads in the pool.
struct Kernels {
  const char* name;
  void (*quantize)(Pool&, const float* x, int rows, int width, Activations out);
  void (*norm)(Pool&, const float* x, const float* weight, int rows, int width, float eps, float* out);
  void (*norm_quantize)(Pool&, const float* x, const float* weight, int rows, int width, float eps, Activations out);
  void (*gated_quantize)(Pool&, const float* gate_up, int rows, int inner, Activations out);
  void (*starts)(Pool&, Activations x);
  // out = x @ matrix.T + bias, plus ``residual`` [rows, out] where it is not null; out and residual may be the same.
  void (*linear)(Pool&, Activations x, const Matrix&, const float* residual, float* out);
  void (*rope)(Pool&, const float* x, const float* cos, const float* sin, int rows, int heads, int head_dim, float* out);
  void (*write_kv)(Pool&, const float* k, const float* v, size_t stride, const Rows&, const Shape&, Pages);
  void (*attention)(Pool&, const float* q, size_t stride, const Rows&, const Shape&, Pages, float* out);
  void (*embedding_rows)(Pool&, const Matrix&, const int64_t* ids, int count, float* out);
  size_t (*block_scratch)(const Block&, int rows);  // bytes
  // x [rows, hidden] -> out [rows, hidden], not the same; ``scratch`` has block_scratch's bytes, 64-byte aligned.
  void (*block)(Pool&, const float* x, const Block&, const Rows&, Pages, char* scratch, float* out);
};

extern const Kernels kernels_portable;
#ifdef SHOAL_HAVE_AVX2
extern const Kernels kernels_avx2;
#endif
#ifdef SHOAL_HAVE_AVX512
extern const Kernels kernels_avx512;
#endif

}  // namespace shoal
