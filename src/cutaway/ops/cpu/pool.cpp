// Borrows the pool and implements the barrier; see pool.h.

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

// Looks at `round` that often before it sleeps: some 30 to 100 microseconds, longer than one thread is ever behind the
// other on a quiet machine.
constexpr int LOOKS = 2000;

// Sleeps until `wake`, or not at all if `round` is no longer `mine`: Linux compares and begins to sleep in one.
static void sleep_while(std::atomic<int> &round, int mine) {
#if defined(__linux__)
    syscall(SYS_futex, &round, FUTEX_WAIT_PRIVATE, mine, nullptr, nullptr, 0);
#else
    std::this_thread::yield();
#endif
}

static void wake(std::atomic<int> &round) {
#if defined(__linux__)
    syscall(SYS_futex, &round, FUTEX_WAKE_PRIVATE, 1 << 30, nullptr, nullptr, 0);
#endif
}

void Barrier::wait(int threads) {
    if (threads == 1) return;
    const int mine = round.load(std::memory_order_relaxed);
    // "acquire" and "release": what each thread wrote before it came is seen by all who pass.
    if (waiting.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
        waiting.store(0, std::memory_order_relaxed);
        round.store(mine + 1);  // in one order with `asleep`: whoever is not seen asleep sees the new round
        if (asleep.load()) wake(round);
        return;
    }
    for (int looks = 0; looks < LOOKS; looks++) {
        if (round.load(std::memory_order_acquire) != mine) return;
#if defined(__x86_64__)
        _mm_pause();  // tells the CPU that this is a spinning loop
#endif
    }
    // The others have lost their cores to other programs. A core that we leave goes to one of them.
    asleep.fetch_add(1);
    while (round.load() == mine) sleep_while(round, mine);
    asleep.fetch_sub(1);
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
