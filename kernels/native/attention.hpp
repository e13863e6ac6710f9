// Attention straight on the Pages, Page after Page with an online softmax, as kernels/paged_attention.py defines it.
//
// A task is one key-value head for some rows of one Seat: up to 16 queries (rows times the heads that share it), so
// that a Page's keys and values are made FP32 once for all of them. A query's numbers never meet another's.
#pragma once

#include "elementary.hpp"
#include "pool.hpp"
#include "rows.hpp"
#include "table.hpp"

namespace shoal::SHOAL_VARIANT {

inline constexpr int kQueries = 16;  // with a Page's keys and values they fit the first-level cache

// Where a head's channels are padded with zeros to whole vectors.
SHOAL_INLINE int padded(int head_dim) { return (head_dim + 15) & ~15; }

SHOAL_INLINE void page_to_floats(const uint16_t* page, int tokens, int head_dim, float* out) {
  const int stride = padded(head_dim);
  if (stride == head_dim) {
    const int count = tokens * head_dim;
    for (int at = 0; at < count; at += 16) store(out + at, load_half(page + at));
    for (int at = count; at < kPage * head_dim; at += 16) store(out + at, f32x16{});
  } else {
    for (int token = 0; token < kPage; ++token)
      for (int i = 0; i < stride; ++i)
        out[token * stride + i] = token < tokens && i < head_dim ? half_to_float(page[token * head_dim + i]) : 0.0f;
  }
}

// The dot products of two queries with sixteen keys: lane t of ``a`` is lane_sum(q * k[t]), of ``b`` lane_sum(r * k[t]).
SHOAL_INLINE void scores(const float* q, const float* r, const float* k, int vectors, f32x16& a, f32x16& b) {
  const auto lanes_of = [&](int token, f32x16& x, f32x16& y) __attribute__((always_inline)) {
    const float* key = k + token * 16 * vectors;
    f32x16 channels = in_register(load(key));
    x = load(q) * channels;
    y = load(r) * channels;
    for (int i = 1; i < vectors; ++i) {
      channels = in_register(load(key + 16 * i));
      x = x + load(q + 16 * i) * channels;
      y = y + load(r + 16 * i) * channels;
    }
  };
  trees<0, 16>(lanes_of, a, b);
  a = a + 0.0f;
  b = b + 0.0f;
}

// The same for 64 channels, both queries in registers.
SHOAL_INLINE void scores_of_64(const float* q, const float* r, const float* k, f32x16& a, f32x16& b) {
  const f32x16 q0 = in_register(load(q)), q1 = in_register(load(q + 16));
  const f32x16 q2 = in_register(load(q + 32)), q3 = in_register(load(q + 48));
  const f32x16 r0 = in_register(load(r)), r1 = in_register(load(r + 16));
  const f32x16 r2 = in_register(load(r + 32)), r3 = in_register(load(r + 48));
  const auto lanes_of = [&](int token, f32x16& x, f32x16& y) __attribute__((always_inline)) {
    const float* key = k + token * 64;
    const f32x16 k0 = in_register(load(key)), k1 = in_register(load(key + 16));
    x = q0 * k0 + q1 * k1;
    y = r0 * k0 + r1 * k1;
    const f32x16 k2 = in_register(load(key + 32)), k3 = in_register(load(key + 48));
    x = in_register(x + q2 * k2 + q3 * k3);
    y = in_register(y + r2 * k2 + r3 * k3);
  };
  trees<0, 16>(lanes_of, a, b);
  a = a + 0.0f;
  b = b + 0.0f;
}

// Of the sixteen lanes of lane_sum over a Page's tokens, the sum of lanes t, t + step, t + 2 step, ... for four queries,
// whose weights p lie kPage apart.
template <int kToken, int kStep>
SHOAL_INLINE void weighted(const float* v, int stride, const float* p, f32x16& a, f32x16& b, f32x16& c, f32x16& d) {
  if constexpr (kStep == 16) {
    in_order();
    const f32x16 x = in_register(load(v + kToken * stride)), y = in_register(load(v + (kToken + 16) * stride));
    const float *first = p + kToken, *second = p + kToken + 16;
    a = in_register(first[0] * x + second[0] * y);
    b = in_register(first[kPage] * x + second[kPage] * y);
    c = in_register(first[2 * kPage] * x + second[2 * kPage] * y);
    d = in_register(first[3 * kPage] * x + second[3 * kPage] * y);
  } else {
    f32x16 e, f, g, h;
    weighted<kToken, 2 * kStep>(v, stride, p, a, b, c, d);
    weighted<kToken + kStep, 2 * kStep>(v, stride, p, e, f, g, h);
    a = in_register(a + e);
    b = in_register(b + f);
    c = in_register(c + g);
    d = in_register(d + h);
  }
}

SHOAL_INLINE void add_to(float* sum, f32x16 page, float alpha) { store(sum, load(sum) * alpha + (page + 0.0f)); }

// The queries of one task.
struct Queries {
  alignas(64) float q[kQueries * kMostHeadDim];
  alignas(64) float sum[kQueries * kMostHeadDim];
  alignas(64) float p[(kQueries + 1) * kPage];  // one more than there are, for the second of a pair
  float most[kQueries], before[kQueries], total[kQueries], alpha[kQueries];
  int position[kQueries];
  int count;
};

// Two queries' scores for the 32 tokens of a Page, to where their weights will be.
SHOAL_INLINE void score(Queries& mine, int index, const float* keys, int stride) {
  const int vectors = stride / 16;
  const float* q = mine.q + (size_t)index * stride;
  const float* r = index + 1 < mine.count ? q + stride : q;
  for (int half = 0; half < 2; ++half) {
    const float* k = keys + half * 16 * stride;
    f32x16 a, b;
    if (vectors == 4) {
      scores_of_64(q, r, k, a, b);
    } else {
      scores(q, r, k, vectors, a, b);
    }
    float* to = mine.p + index * kPage + 16 * half;
    store(to, a);
    store(to + kPage, b);
  }
}

// One query's scores scaled and hidden where it must not see, and the largest so far. The next step is apart from this
// one, so that the processor can work on several queries at once: each alone is a long chain.
SHOAL_INLINE void find_most(Queries& mine, int index, int first_token, float scale, const Shape& shape) {
  const int position = mine.position[index];
  float* scores = mine.p + index * kPage;
  f32x16 s[2];
  for (int half = 0; half < 2; ++half) {
    s[half] = load(scores + 16 * half) * scale;
    if (shape.softcap > 0.0f) s[half] = tanh(s[half] / shape.softcap) * shape.softcap;
    const int first = first_token + 16 * half;
    const i32x16 token = first + i32x16{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const f32x16 hidden = all(-__builtin_inff());
    if (first + 15 > position) s[half] = token > position ? hidden : s[half];
    if (shape.window && first <= position - shape.window) s[half] = token <= position - shape.window ? hidden : s[half];
    store(scores + 16 * half, s[half]);
  }
  const f32x16 both = larger(s[0], s[1]);
  float most = mine.most[index];
#if defined(__AVX512F__)
  const float found = _mm512_reduce_max_ps((__m512)both);
  if (found > most) most = found;
#else
  for (int i = 0; i < 16; ++i) most = both[i] > most ? both[i] : most;
#endif
  mine.before[index] = mine.most[index];
  mine.most[index] = most;
}

// One query's weights from its scores: p, and how much what was summed so far shrinks.
SHOAL_INLINE void weigh(Queries& mine, int index) {
  float* scores = mine.p + index * kPage;
  const float most = mine.most[index], before = mine.before[index];
  const f32x16 p = exp(load(scores) - most), r = exp(load(scores + 16) - most);
  store(scores, p);
  store(scores + 16, r);
  const float alpha = most == before ? 1.0f : exp(all(before - most))[0];
  mine.alpha[index] = alpha;
  mine.total[index] = mine.total[index] * alpha + tree(p + r);
}

SHOAL_INLINE void fetch(const uint16_t* from, int count) {
  for (int at = 0; at < count; at += 32) __builtin_prefetch(from + at, 0, 2);
}

SHOAL_INLINE bool sees(const Queries& mine, int index, int first_token, int window) {
  const int position = mine.position[index];
  return first_token <= position && (window == 0 || first_token + kPage - 1 > position - window);
}

// Rows from_row .. from_row + count of one Seat, heads head .. head + heads of the key-value head.
static void attend(const float* q, size_t q_stride, const Seat& seat, int from_row, int count, int kv_head, int head,
                   int heads, const Shape& shape, const Pages& pages, float* out) {
  Queries mine;
  alignas(64) float keys[kPage * kMostHeadDim], values[kPage * kMostHeadDim];
  const int head_dim = shape.head_dim, stride = padded(head_dim);
  const float scale = 1.0f / root((float)head_dim);
  mine.count = count * heads;
  for (int i = 0; i < mine.count; ++i) {
    const float* from = q + (size_t)(seat.first_row + from_row + i / heads) * q_stride + (head + i % heads) * head_dim;
    for (int at = 0; at < stride; at += 16) {
      store(mine.q + i * stride + at, load_most(from + at, head_dim - at));
      store(mine.sum + i * stride + at, f32x16{});
    }
    mine.most[i] = kLowest;
    mine.total[i] = 0.0f;
    mine.position[i] = seat.position + from_row + i / heads;
  }
  for (int i = mine.count * kPage; i < ((mine.count + 3) & ~3) * kPage; ++i) mine.p[i] = 0.0f;

  const int written = seat.position + seat.count;  // slots from here on may hold another Seat's values
  const int oldest = mine.position[0] - shape.window + 1;
  const int first_page = shape.window && oldest > 0 ? oldest / kPage : 0;
  const int last_page = mine.position[mine.count - 1] / kPage;
  for (int page = first_page; page <= last_page; ++page) {
    const size_t at = ((size_t)seat.pages[page] * shape.kv_heads + kv_head) * kPage * head_dim;
    const int first_token = page * kPage;
    const int tokens = written - first_token < kPage ? written - first_token : kPage;
    page_to_floats(pages.k + at, tokens, head_dim, keys);
    page_to_floats(pages.v + at, tokens, head_dim, values);
    // The next Page lies anywhere: it is fetched piece by piece while this one is computed.
    const size_t after = seat.pages[page < last_page ? page + 1 : page];
    const size_t next = (after * shape.kv_heads + kv_head) * kPage * head_dim;
    const int piece = kPage * head_dim / ((mine.count + 1) / 2);
    for (int i = 0; i < mine.count; i += 2) {
      fetch(pages.k + next + (size_t)(i / 2) * piece, piece);
      fetch(pages.v + next + (size_t)(i / 2) * piece, piece);
      score(mine, i, keys, stride);
    }
    for (int i = 0; i < mine.count; ++i)
      if (sees(mine, i, first_token, shape.window)) find_most(mine, i, first_token, scale, shape);
    for (int i = 0; i < mine.count; ++i)
      if (sees(mine, i, first_token, shape.window)) weigh(mine, i);
    for (int i = 0; i < mine.count; i += 4) {
      bool seen[4];
      for (int j = 0; j < 4; ++j) seen[j] = i + j < mine.count && sees(mine, i + j, first_token, shape.window);
      if (!(seen[0] | seen[1] | seen[2] | seen[3])) continue;
      for (int c = 0; c < stride; c += 16) {
        f32x16 sum0, sum1, sum2, sum3;
        weighted<0, 1>(values + c, stride, mine.p + i * kPage, sum0, sum1, sum2, sum3);
        float* at = mine.sum + i * stride + c;
        if (seen[0]) add_to(at, sum0, mine.alpha[i]);
        if (seen[1]) add_to(at + stride, sum1, mine.alpha[i + 1]);
        if (seen[2]) add_to(at + 2 * stride, sum2, mine.alpha[i + 2]);
        if (seen[3]) add_to(at + 3 * stride, sum3, mine.alpha[i + 3]);
      }
    }
  }
  for (int i = 0; i < mine.count; ++i) {
    float* to = out + ((size_t)(seat.first_row + from_row + i / heads) * shape.heads + head + i % heads) * head_dim;
    for (int at = 0; at < head_dim; at += 16)
      store_most(to + at, load(mine.sum + i * stride + at) / mine.total[i], head_dim - at);
  }
}

// q [rows, heads, head_dim] with ``stride`` floats a row -> out [rows, heads * head_dim].
static void attention(Pool& pool, const float* q, size_t stride, const Rows& rows, const Shape& shape, Pages pages,
                      float* out) {
  const int ratio = shape.heads / shape.kv_heads;
  // Fewer heads a task where there would be fewer tasks than threads: one Session decoding with few key-value heads.
  int heads = ratio < kQueries ? ratio : kQueries;
  while (heads > 1 && rows.count * shape.kv_heads * ((ratio + heads - 1) / heads) < 2 * pool.threads())
    heads = (heads + 1) / 2;
  const int rows_each = kQueries / heads, chunks = (ratio + heads - 1) / heads;
  int blocks = 0;
  for (int i = 0; i < rows.num_seats; ++i) blocks += (rows.seats[i].count + rows_each - 1) / rows_each;
  const int units = shape.kv_heads * chunks;
  parallel(pool, blocks * units, [&](int task) {
    int block = task / units, index = 0;
    const int kv_head = task % units / chunks, chunk = task % chunks;
    for (; block >= (rows.seats[index].count + rows_each - 1) / rows_each; ++index)
      block -= (rows.seats[index].count + rows_each - 1) / rows_each;
    const Seat& seat = rows.seats[index];
    const int first = block * rows_each, left = seat.count - first;
    const int head = chunk * heads, width = ratio - head < heads ? ratio - head : heads;
    attend(q, stride, seat, first, left < rows_each ? left : rows_each, kv_head, kv_head * ratio + head, width, shape,
           pages, out);
  });
}

// Keys and values of one row to its slot, as FP16; what overflows counts as NaN, so that it cannot pass as finite.
SHOAL_INLINE void write_row(const float* from, uint16_t* to, int head_dim) {
  for (int i = 0; i < head_dim; ++i) {
    const uint16_t half = float_to_half(from[i]);
    to[i] = (half & 0x7C00u) == 0x7C00u ? 0x7E00u : half;
  }
}

SHOAL_INLINE void write_row_kv(const float* k, const float* v, int64_t slot, const Shape& shape, const Pages& pages) {
  for (int head = 0; head < shape.kv_heads; ++head) {
    const size_t at = (((size_t)(slot / kPage) * shape.kv_heads + head) * kPage + slot % kPage) * shape.head_dim;
    write_row(k + head * shape.head_dim, pages.k + at, shape.head_dim);
    write_row(v + head * shape.head_dim, pages.v + at, shape.head_dim);
  }
}

static void write_kv(Pool& pool, const float* k, const float* v, size_t stride, const Rows& rows, const Shape& shape,
                     Pages pages) {
  each_row(pool, rows.count,
           [&](int row) { write_row_kv(k + row * stride, v + row * stride, rows.slots[row], shape, pages); });
}

}  // namespace shoal::SHOAL_VARIANT
