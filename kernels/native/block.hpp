// A whole Block: the steps of kernels/reference.py's ``block`` in order, on one piece of scratch memory.
#pragma once

#include "attention.hpp"
#include "linear.hpp"
#include "rows.hpp"

namespace shoal::SHOAL_VARIANT {

// Cuts pieces from a buffer, cache line after cache line; from null it only counts.
struct Scratch {
  char* base;
  size_t used = 0;

  template <typename T>
  SHOAL_INLINE T* take(size_t count) {
    T* piece = base ? (T*)(base + used) : nullptr;
    used += (count * sizeof(T) + 63) / 64 * 64;
    return piece;
  }

  SHOAL_INLINE Activations activations(int rows, int width) {
    const int groups = (width + kGroup - 1) / kGroup;
    const size_t count = (size_t)rows * groups;
    int8_t* values = take<int8_t>(count * kGroup);
    float* scales = take<float>(count);
    return {values, scales, take<int32_t>(count), rows, groups};
  }
};

struct Buffers {
  Activations hidden, seen_q, inner_q;
  float *qkv, *seen, *gate_up;
};

SHOAL_INLINE Buffers buffers(Scratch& scratch, const Block& block, int rows) {
  Buffers all;
  const int seen = block.shape.heads * block.shape.head_dim;
  all.hidden = scratch.activations(rows, block.qkv.in);
  all.seen_q = scratch.activations(rows, seen);
  all.inner_q = scratch.activations(rows, block.down.in);
  all.qkv = scratch.take<float>((size_t)rows * block.qkv.out);
  all.seen = scratch.take<float>((size_t)rows * seen);
  all.gate_up = scratch.take<float>((size_t)rows * block.gate_up.out);
  return all;
}

static size_t block_scratch(const Block& block, int rows) {
  Scratch scratch{nullptr};
  buffers(scratch, block, rows);
  return scratch.used;
}

static void block(Pool& pool, const float* x, const Block& block, const Rows& rows, Pages pages, char* memory,
                  float* out) {
  const Shape& shape = block.shape;
  const int count = rows.count, hidden = block.qkv.in, dim = shape.head_dim;
  const size_t width = block.qkv.out;
  Scratch scratch{memory};
  const Buffers all = buffers(scratch, block, count);

  norm_quantize(pool, x, block.norm1, count, hidden, shape.eps, all.hidden);
  linear(pool, all.hidden, block.qkv, nullptr, all.qkv);
  each_row(pool, count, [&](int row) {
    float* heads = all.qkv + row * width;
    const float *cos = rows.cos + (size_t)row * (dim / 2), *sin = rows.sin + (size_t)row * (dim / 2);
    for (int head = 0; head < shape.heads + shape.kv_heads; ++head) {
      float* at = heads + (size_t)head * dim;
      const float* weight = head < shape.heads ? block.q_norm : block.k_norm;
      if (weight) norm_row(at, weight, dim, shape.eps, at);
      rotate(at, cos, sin, dim, at);
    }
    const float* k = heads + (size_t)shape.heads * dim;
    write_row_kv(k, k + (size_t)shape.kv_heads * dim, rows.slots[row], shape, pages);
  });
  attention(pool, all.qkv, width, rows, shape, pages, all.seen);
  quantize(pool, all.seen, count, block.o.in, all.seen_q);
  linear(pool, all.seen_q, block.o, x, out);
  norm_quantize(pool, out, block.norm2, count, hidden, shape.eps, all.hidden);
  linear(pool, all.hidden, block.gate_up, nullptr, all.gate_up);
  gated_quantize(pool, all.gate_up, count, block.down.in, all.inner_q);
  linear(pool, all.inner_q, block.down, out, out);
}

}  // namespace shoal::SHOAL_VARIANT
