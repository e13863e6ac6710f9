// The largest numbers of a row and where they stand. Comparisons alone: the same on every machine, so no variant's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace shoal {

// values and ids [k]: the k largest of row [width], largest first, the lower id first where several are equal. One pass
// with a heap of k: a number that is not among the k largest so far costs one comparison. Throws std::invalid_argument for
// NaN, which has no place in an order.
inline void top_k(const float* row, int64_t width, int64_t k, float* values, int64_t* ids) {
  const auto before = [row](int64_t a, int64_t b) { return row[a] > row[b] || (row[a] == row[b] && a < b); };
  std::vector<int64_t> best;  // a heap, the least of them on top
  best.reserve(static_cast<size_t>(k));
  for (int64_t id = 0; id < width && k > 0; ++id) {
    if (row[id] != row[id]) throw std::invalid_argument("logits: NaN has no place in an order");
    if (static_cast<int64_t>(best.size()) < k) {
      best.push_back(id);
      std::push_heap(best.begin(), best.end(), before);
    } else if (row[id] > row[best.front()]) {  // an equal one comes later, and stays behind
      std::pop_heap(best.begin(), best.end(), before);
      best.back() = id;
      std::push_heap(best.begin(), best.end(), before);
    }
  }
  std::sort(best.begin(), best.end(), before);
  for (size_t i = 0; i < best.size(); ++i) {
    ids[i] = best[i];
    values[i] = row[best[i]];
  }
}

}  // namespace shoal
