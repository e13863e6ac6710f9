// A tile of the INT8 product in plain C++, which compilers turn into whatever vectors the machine has.
#pragma once

#include "table.hpp"
#include "vector.hpp"

namespace shoal::SHOAL_VARIANT {

inline constexpr int kTileRows = 1;

// See dot_avx512.hpp.
template <int R>
static inline void tile(const uint8_t* panel, int groups, const int8_t* values, const float* scales,
                        const int32_t* starts, float* y) {
  static_assert(R == 1);
  for (int n = 0; n < kPanel; ++n) y[n] = 0.0f;
  for (int group = 0; group < groups; ++group, panel += kPanelGroupBytes, values += kGroup) {
    int32_t dot[kPanel];
    for (int n = 0; n < kPanel; ++n) dot[n] = starts[group];
    for (int quad = 0; quad < kGroup / 4; ++quad) {
      const uint8_t* w = panel + quad * 4 * kPanel;
      const int16_t a0 = values[4 * quad], a1 = values[4 * quad + 1];
      const int16_t a2 = values[4 * quad + 2], a3 = values[4 * quad + 3];
      for (int n = 0; n < kPanel; ++n)
        dot[n] += (w[4 * n] * a0 + w[4 * n + 1] * a1) + (w[4 * n + 2] * a2 + w[4 * n + 3] * a3);
    }
    uint16_t halves[kPanel];
    __builtin_memcpy(halves, panel + kGroup * kPanel, sizeof halves);
    for (int n = 0; n < kPanel; ++n) y[n] = y[n] + (float)dot[n] * (half_to_float(halves[n]) * scales[group]);
  }
}

}  // namespace shoal::SHOAL_VARIANT
