// What Python holds between calls: matrices, Blocks and the rows of a Batch, checked when they are made, with references
// that keep their memory alive.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "border.hpp"
#include "table.hpp"

namespace shoal {

struct PyMatrix {
  Matrix view;
  nb::object data_owner, bias_owner;

  PyMatrix(nb::handle data, nb::handle bias, int64_t out, int64_t in) {
    require(out > 0 && in > 0 && out < (1 << 30) && in < (1 << 24),
            "a matrix of " + std::to_string(out) + " x " + std::to_string(in) + " is not possible");
    view.out = static_cast<int>(out);
    view.in = static_cast<int>(in);
    auto weights =
        checked<const uint8_t>(data, "data", {view.panels(), view.groups(), static_cast<int64_t>(kPanelGroupBytes)});
    auto added = checked_or_none<const float>(bias, "bias", {out});
    view.data = weights.data;
    view.bias = added.data;
    data_owner = weights.owner;
    bias_owner = added.owner;
  }
};

struct PyBlock {
  Block view;
  std::vector<nb::object> owners;

  PyBlock(nb::handle norm1, const PyMatrix& qkv, nb::handle q_norm, nb::handle k_norm, const PyMatrix& o,
          nb::handle norm2, const PyMatrix& gate_up, const PyMatrix& down, int heads, int kv_heads, int head_dim,
          double eps, int window, double softcap) {
    require(heads > 0 && kv_heads > 0 && heads < (1 << 20) && heads % kv_heads == 0,
            "heads: " + std::to_string(heads) + " query heads cannot share " + std::to_string(kv_heads));
    require(head_dim > 0 && head_dim % 2 == 0 && head_dim <= kMostHeadDim,
            "head_dim: expected an even number up to " + std::to_string(kMostHeadDim) + ", got " +
                std::to_string(head_dim));
    require(window >= 0 && softcap >= 0, "window and softcap: expected none or more than 0");
    const int hidden = qkv.view.in, inner = down.view.in;
    expect("qkv", qkv, (heads + 2 * kv_heads) * head_dim, hidden);
    expect("o", o, hidden, heads * head_dim);
    expect("gate_up", gate_up, 2 * inner, hidden);
    expect("down", down, hidden, inner);
    view.norm1 = keep(checked<const float>(norm1, "norm1", {hidden}));
    view.norm2 = keep(checked<const float>(norm2, "norm2", {hidden}));
    view.q_norm = keep(checked_or_none<const float>(q_norm, "q_norm", {head_dim}));
    view.k_norm = keep(checked_or_none<const float>(k_norm, "k_norm", {head_dim}));
    view.qkv = keep(qkv);
    view.o = keep(o);
    view.gate_up = keep(gate_up);
    view.down = keep(down);
    view.shape = {heads, kv_heads, head_dim, static_cast<float>(eps), window, static_cast<float>(softcap)};
  }

 private:
  static void expect(const char* name, const PyMatrix& matrix, int64_t out, int64_t in) {
    require(matrix.view.out == out && matrix.view.in == in,
            std::string(name) + ": expected a matrix " + shape_text(std::vector<int64_t>{out, in}) + ", got " +
                shape_text(std::vector<int64_t>{matrix.view.out, matrix.view.in}));
  }
  const float* keep(Array<const float> array) {
    owners.push_back(array.owner);
    return array.data;
  }
  Matrix keep(const PyMatrix& matrix) {
    owners.push_back(matrix.data_owner);
    owners.push_back(matrix.bias_owner);
    return matrix.view;
  }
};

// Whose the rows of a Batch are; made once a Batch and used by all its Blocks.
struct PyRows {
  std::vector<int32_t> pages;
  std::vector<Seat> seats;
  std::vector<int64_t> slots;
  int32_t most_page = -1;

  // ``given`` is a list of (pages, position, count).
  explicit PyRows(const nb::list& given) {
    std::vector<size_t> starts;
    int64_t first_row = 0;
    for (nb::handle item : given) {
      nb::tuple seat, its_pages;
      require(nb::try_cast<nb::tuple>(item, seat) && seat.size() == 3 && nb::try_cast<nb::tuple>(seat[0], its_pages),
              "seats: expected tuples of (tuple of Pages, position, count)");
      constexpr int64_t kMost = 1 << 29;
      const int64_t position = whole_number(seat[1], "seats: position", 0, kMost);
      const int64_t count = whole_number(seat[2], "seats: count", 1, kMost);
      const int64_t needed = (position + count + kPage - 1) / kPage;
      require(static_cast<int64_t>(its_pages.size()) >= needed,
              "seats: positions up to " + std::to_string(position + count) + " need " + std::to_string(needed) +
                  " Pages, got " + std::to_string(its_pages.size()));
      starts.push_back(pages.size());
      for (int64_t i = 0; i < needed; ++i) {
        pages.push_back(static_cast<int32_t>(whole_number(its_pages[i], "seats: page", 0, kMost)));
        most_page = std::max(most_page, pages.back());
      }
      for (int64_t at = position; at < position + count; ++at)
        slots.push_back(static_cast<int64_t>(pages[starts.back() + at / kPage]) * kPage + at % kPage);
      seats.push_back({nullptr, static_cast<int>(first_row), static_cast<int>(position), static_cast<int>(count)});
      first_row += count;
    }
    for (size_t i = 0; i < seats.size(); ++i) seats[i].pages = pages.data() + starts[i];
  }

  int64_t count() const { return static_cast<int64_t>(slots.size()); }
  Rows view(const float* cos = nullptr, const float* sin = nullptr) const {
    return {seats.data(), static_cast<int>(seats.size()), static_cast<int>(slots.size()), slots.data(), cos, sin};
  }
};

}  // namespace shoal
