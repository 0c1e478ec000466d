// The threads that kernels run on: torch's own, borrowed.
//
// Two pools of threads in one process fight: the threads of the one wait for work by spinning, on the very cores that
// the other's need. torch runs its loops on OpenMP's pool (libgomp), so build.py looks up three of that library's
// functions where torch has it loaded and hands their addresses to `borrow_pool`. Without them everything runs on the
// calling thread alone. OpenMP keeps a team for each thread that calls it: calls from several threads do not meet.
// Read next: vector.h

#pragma once
#include <atomic>

#include "export.h"

struct Pool {
    void (*run)(void (*body)(void *), void *data, unsigned threads, unsigned flags);  // GOMP_parallel
    int (*number)();                                                                  // omp_get_thread_num
    int (*count)();                                                                   // omp_get_num_threads
};
extern Pool pool;

// Runs body(thread, threads) once on each thread, `thread` being 0 .. threads - 1, and returns when all have returned.
// There may be fewer threads than asked for: what a thread does must follow from the numbers that it is given.
//     parallel(2, [&](int thread, int threads) { for (int i = thread; i < 100; i += threads) work(i); });
template <typename Body>
static inline void parallel(int threads, const Body &body) {
    if (threads <= 1 || !pool.run) {
        body(0, 1);
        return;
    }
    // A pool written in C takes a plain function and a pointer: here the function that calls what the pointer points to.
    auto one = [](void *data) { (*(const Body *)data)(pool.number(), pool.count()); };
    pool.run(one, (void *)&body, (unsigned)threads, 0);
}

// A number that threads raise, and wait for. They wait by spinning, as the next operation starts within microseconds;
// after a while they sleep, so that other programs have the core: perhaps the very thread that is waited for.
class Tally {
    alignas(64) std::atomic<int> number{0};  // 64: in a cache line of its own, which waiting threads keep reading
    std::atomic<int> asleep{0};
    void wake();
    void wait_long(int least);

  public:
    // One more; returns the sum. What this thread wrote before is seen by all who wait for it. Somebody may sleep until
    // the sum is `awaited`.
    int raise(int awaited) {
        const int sum = number.fetch_add(1) + 1;  // in one order with `asleep`: who is not seen asleep sees the sum
        if (sum == awaited && asleep.load()) wake();
        return sum;
    }
    // Returns when the sum is at least that.
    void wait_for(int least) {
        if (number.load(std::memory_order_acquire) < least) wait_long(least);
    }
};

// Inside `parallel`: nobody passes wait() before all `threads` have come to it.
class Barrier {
    std::atomic<int> next{0};
    Tally came;

  public:
    void wait(int threads) {
        const int round = next.fetch_add(1) / threads, all = (round + 1) * threads;  // how many will have come by then
        came.raise(all);
        came.wait_for(all);
    }
};
