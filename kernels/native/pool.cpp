// The thread pool: how workers wait, and how tasks are handed out.
//
// A worker looks for work for a few microseconds, which is about the pause between two steps of a Block, and then sleeps
// in the kernel. Spinning longer would take the core from another peer on this machine; sleeping at once would cost two
// system calls for each of the hundred steps of a token.
#include "pool.hpp"

#include <algorithm>

#include "float_mode.hpp"

namespace shoal {
namespace {

constexpr int kLooks = 400;  // about 10 to 20 microseconds

inline void breathe() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
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
  if (asleep_.load(std::memory_order_seq_cst) > 0) calls_.notify_all();
  while (take_one()) {
  }
  for (int looks = 0; looks < kLooks; ++looks) {
    if (unfinished_.load(std::memory_order_acquire) == 0) return;
    breathe();
  }
  for (int left; (left = unfinished_.load(std::memory_order_acquire)) != 0;) unfinished_.wait(left);
}

void Pool::work() {
  FloatMode mode;
  uint32_t seen = 0;
  while (true) {
    int looks = 0;
    while (calls_.load(std::memory_order_acquire) == seen && looks < kLooks) {
      breathe();
      ++looks;
    }
    if (calls_.load(std::memory_order_acquire) == seen) {
      asleep_.fetch_add(1, std::memory_order_seq_cst);
      calls_.wait(seen, std::memory_order_seq_cst);
      asleep_.fetch_sub(1, std::memory_order_seq_cst);
    }
    if (closing_.load()) return;
    seen = calls_.load(std::memory_order_acquire);
    while (take_one()) {
    }
  }
}

}  // namespace shoal
