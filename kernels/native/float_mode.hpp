// The floating-point mode of profile c8 while this object lives: round to nearest even, subnormals kept. A library
// that was built with -ffast-math switches subnormals off for the thread that loads it.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <cstdint>

namespace shoal {

class FloatMode {
 public:
#if defined(__x86_64__)
  FloatMode() : before_(_mm_getcsr()) { _mm_setcsr(0x1F80); }
  ~FloatMode() { _mm_setcsr(before_); }

 private:
  uint32_t before_;
#elif defined(__aarch64__)
  FloatMode() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
  }
  ~FloatMode() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  uint64_t before_;
#endif
};

}  // namespace shoal
