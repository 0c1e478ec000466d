// Borrows the pool and implements the barrier; see pool.h.

#include "pool.h"

#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

Pool pool = {nullptr, nullptr, nullptr};

EXPORT void borrow_pool(void *run, void *number, void *count) {
    pool.number = (int (*)())number;
    pool.count = (int (*)())count;
    pool.run = (decltype(pool.run))run;
}

void Barrier::wait(int threads) {
    if (threads == 1) return;
    const int mine = round.load(std::memory_order_relaxed);
    // "acquire" and "release": what each thread wrote before it came is seen by all who pass.
    if (waiting.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
        waiting.store(0, std::memory_order_relaxed);
        round.store(mine + 1, std::memory_order_release);
        return;
    }
    for (int turns = 0; round.load(std::memory_order_acquire) == mine; turns++) {
#if defined(__x86_64__)
        _mm_pause();  // tells the CPU that this is a spinning loop
#endif
        if (turns > 20000) std::this_thread::yield();  // about half a millisecond: the others have no core
    }
}

// The trivial kernel that shows the way from Python through the pool and back: how many threads came.
EXPORT int count_threads(int threads) {
    std::atomic<int> came{0};
    Barrier barrier;
    parallel(threads, [&](int, int all) {
        came.fetch_add(1);
        barrier.wait(all);
    });
    return came.load();
}
