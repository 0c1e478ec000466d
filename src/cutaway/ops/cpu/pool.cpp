// Borrows the pool, and lets threads wait for each other; see pool.h.

#include "pool.h"

#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

Pool pool = {nullptr, nullptr, nullptr};

EXPORT void borrow_pool(void *run, void *number, void *count) {
    pool.number = (int (*)())number;
    pool.count = (int (*)())count;
    pool.run = (decltype(pool.run))run;
}

// Looks that often before it sleeps: some 30 to 100 microseconds, longer than one thread is ever behind the other on a
// quiet machine.
constexpr int LOOKS = 2000;

void Tally::wait_long(int least) {
    for (int looks = 0; looks < LOOKS; looks++) {
        if (number.load(std::memory_order_acquire) >= least) return;
#if defined(__x86_64__)
        _mm_pause();  // tells the CPU that this is a spinning loop
#endif
    }
    asleep.fetch_add(1);
    for (int sum; (sum = number.load()) < least;) {
#if defined(__linux__)
        // Sleeps until `wake`, or not at all if the number is no longer `sum`: Linux compares and falls asleep in one.
        syscall(SYS_futex, &number, FUTEX_WAIT_PRIVATE, sum, nullptr, nullptr, 0);
#else
        std::this_thread::yield();
#endif
    }
    asleep.fetch_sub(1);
}

void Tally::wake() {
#if defined(__linux__)
    syscall(SYS_futex, &number, FUTEX_WAKE_PRIVATE, 1 << 30, nullptr, nullptr, 0);
#endif
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
