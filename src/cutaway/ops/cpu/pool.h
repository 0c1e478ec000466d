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

// Inside `parallel`: nobody passes wait() before all `threads` have come to it. Waits by spinning, as the next
// operation starts within microseconds; after a while it sleeps, so that other programs have the core.
class Barrier {
    std::atomic<int> waiting{0};
    alignas(64) std::atomic<int> round{0};  // 64: in a cache line of its own, which waiting threads keep reading
    std::atomic<int> asleep{0};

  public:
    void wait(int threads);
};
