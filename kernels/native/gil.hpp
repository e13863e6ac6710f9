// Lets go of Python's lock while C++ computes.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>
#include <thread>

namespace shoal {

// As nanobind's gil_scoped_release, but for one case: while the interpreter ends, it would throw a daemon thread that asks for
// the lock out of C++ frames that nothing may be thrown through, and the process would abort. Such a thread waits here until
// the process is gone.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() {
    while (ending()) std::this_thread::sleep_for(std::chrono::hours(1));
    PyEval_RestoreThread(state_);
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  static bool ending() {
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
  }

  PyThreadState* state_;
};

}  // namespace shoal
