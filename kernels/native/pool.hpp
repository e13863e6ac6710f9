// Threads that share the work of one call and sleep between calls. Knows tasks by number alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace shoal {

// The calling thread works too, and hands out tasks one at a time, so a worker that wakes late, or whose core belongs to
// another process just now, delays nobody: it finds nothing left to do. The caller waits only for tasks that were begun.
class Pool {
 public:
  explicit Pool(int threads);  // throws std::system_error where the system refuses a thread
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  __attribute__((always_inline)) int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Tasks must not throw. Calls task(context, i) once for every i in 0 .. tasks - 1, in about ascending order, and returns when all are done.
  void run(int tasks, void (*task)(void*, int), void* context);

 private:
  void work();
  void close();
  bool take_one();
  void keep_off_this_core();

  std::vector<std::thread> workers_;
  // Written by run() only while no task is left; read by whoever has taken one.
  void (*task_)(void*, int) = nullptr;
  void* context_ = nullptr;
  int tasks_ = 0;
  alignas(64) std::atomic<int> remaining_{0};   // not yet taken
  alignas(64) std::atomic<int> unfinished_{0};  // not yet done
  alignas(64) std::atomic<uint32_t> calls_{0};  // workers sleep on it
  std::atomic<int> asleep_{0};
  std::atomic<bool> closing_{false};
  int kept_off_ = -1;  // the core that workers may not run on; run() alone knows it
};

// Runs a callable object on the pool; alone where there is nothing to share.
template <typename Function>
inline __attribute__((always_inline)) void parallel(Pool& pool, int tasks, const Function& function) {
  pool.run(
      tasks, [](void* context, int task) { (*static_cast<const Function*>(context))(task); },
      const_cast<Function*>(&function));
}

}  // namespace shoal
