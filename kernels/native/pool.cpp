// The thread pool: how workers wait, and how tasks are handed out.
//
// **Waiting.** A worker without work looks for some for about 20 microseconds, the pause between two steps of a Block,
// then for about 100 more, the pause between two Blocks, in which it offers its core to anybody at each look; then it sleeps in
// the kernel. Spinning longer would take the core from another peer on this machine; sleeping at once would cost two
// system calls for each of the hundred steps of a token, and the time until the system wakes it.
//
// **Waking.** Linux likes to wake a thread on the core of whoever wakes it, and where it does not know that cores share a
// cache, as in many virtual machines, it then leaves the worker waiting there for milliseconds while other cores idle (2
// ms in the median, seen with two cores). So a worker may run anywhere but on the core that its caller is on.
#include "pool.hpp"

#include <algorithm>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

#include "float_mode.hpp"

namespace shoal {
namespace {

constexpr int kLooks = 400;
constexpr int kOffers = 200;

inline void breathe() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Whether ``holds`` comes true while one looks.
template <typename Condition>
bool soon(const Condition& holds) {
  for (int i = 0; i < kLooks; ++i) {
    if (holds()) return true;
    breathe();
  }
  for (int i = 0; i < kOffers; ++i) {
    if (holds()) return true;
    std::this_thread::yield();
  }
  return holds();
}

}  // namespace

Pool::Pool(int threads) {
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  } catch (...) {  // the system gives no more: those that run are ended, and the caller hears of it
    close();
    throw;
  }
}

Pool::~Pool() { close(); }

void Pool::close() {
  closing_ = true;
  ++calls_;
  calls_.notify_all();
  for (auto& worker : workers_) worker.join();
  workers_.clear();
}

bool Pool::take_one() {
  // A task that was taken keeps run() from returning, so task_ and context_ stand still until it is done.
  int left = remaining_.load(std::memory_order_acquire);
  do {
    if (left == 0) return false;
  } while (!remaining_.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel, std::memory_order_acquire));
  task_(context_, tasks_ - left);
  if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  return true;
}

void Pool::run(int tasks, void (*task)(void*, int), void* context) {
  if (workers_.empty() || tasks <= 1) {
    for (int i = 0; i < tasks; ++i) task(context, i);
    return;
  }
  task_ = task;
  context_ = context;
  tasks_ = tasks;
  unfinished_.store(tasks, std::memory_order_relaxed);
  remaining_.store(tasks, std::memory_order_release);
  calls_.fetch_add(1, std::memory_order_seq_cst);
  if (asleep_.load(std::memory_order_seq_cst) > 0) {
    keep_off_this_core();
    calls_.notify_all();
  }
  while (take_one()) {
  }
  if (soon([this] { return unfinished_.load(std::memory_order_acquire) == 0; })) return;
  for (int left; (left = unfinished_.load(std::memory_order_acquire)) != 0;) unfinished_.wait(left);
}

void Pool::keep_off_this_core() {
#if defined(__linux__)
  const int core = sched_getcpu();
  cpu_set_t cores;
  if (core < 0 || core == kept_off_ || sched_getaffinity(0, sizeof cores, &cores) != 0) return;
  CPU_CLR(core, &cores);
  if (CPU_COUNT(&cores) == 0) return;
  for (auto& worker : workers_) pthread_setaffinity_np(worker.native_handle(), sizeof cores, &cores);
  kept_off_ = core;
#endif
}

void Pool::work() {
  FloatMode mode;
  uint32_t seen = 0;
  const auto called = [&] { return calls_.load(std::memory_order_acquire) != seen; };
  while (true) {
    if (!soon(called)) {
      asleep_.fetch_add(1, std::memory_order_seq_cst);
      calls_.wait(seen, std::memory_order_seq_cst);
      asleep_.fetch_sub(1, std::memory_order_seq_cst);
    }
    seen = calls_.load(std::memory_order_acquire);  // before closing_: a close after it is another call
    if (closing_.load()) return;
    while (take_one()) {
    }
  }
}

}  // namespace shoal
