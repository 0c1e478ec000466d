// What this machine can do at most: how fast memory is read, and how many multiply-adds the registers do.
//
// These are the lines of the roofline. Each loop does one thing and nothing else, with no product to show for it; sums
// that Python gets in the end keep the compiler from leaving the work out.
// Read next: steps.h

#include <atomic>

#include "../integers.h"
#include "steps.h"

constexpr int AHEAD = 4096;  // bytes that memory is asked for ahead, as in int8.cpp
constexpr int PIECE = 256;   // bytes of a turn of the loop

// The sum of the 8-byte words that lie there, each read once.
EXPORT uint64_t read_memory(const uint8_t *from, int64_t bytes, int threads) {
    std::atomic<uint64_t> total{0};
    parallel(threads, [&](int thread, int all) {
        const int64_t pieces = bytes / PIECE;
        __m256i sums[4] = {};
        for (int64_t piece = pieces * thread / all; piece < pieces * (thread + 1) / all; piece++) {
            const uint8_t *here = from + piece * PIECE;
            for (int line = 0; line < PIECE; line += 64) _mm_prefetch((const char *)here + line + AHEAD, _MM_HINT_T0);
            for (int part = 0; part < PIECE; part += 32) {
                __m256i &sum = sums[part / 32 % 4];
                sum = _mm256_add_epi64(sum, _mm256_loadu_si256((const __m256i *)(here + part)));
            }
        }
        uint64_t lanes[4];
        _mm256_storeu_si256((__m256i *)lanes, _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]),
                                                               _mm256_add_epi64(sums[2], sums[3])));
        total += lanes[0] + lanes[1] + lanes[2] + lanes[3];
    });
    return total;
}

// A multiply-add has its result some cycles later: so many sums at once keep all units busy, and fit into registers.
#if defined(__AVX512F__)
constexpr int SUMS = 12;
#else
constexpr int SUMS = 5;  // of two registers each
#endif
constexpr int TURNS = 1024;  // of the inner loops: no sum is so large then that it is not exact

// What the compiler may think of x from here on: anything. Without it all sums are the same one, which it does once.
#if defined(__AVX512F__)
template <typename Register> static inline void unknown(Register &x) { __asm__ volatile("" : "+v"(x.v)); }
#else
template <typename Register> static inline void unknown(Register &x) {
    __asm__ volatile("" : "+x"(x.low), "+x"(x.high));
}
#endif

// Multiplies ones by ones and adds, sixteen floats at a time, `rounds` times on every thread. What comes out is how many
// multiply-adds that were.
EXPORT double multiply_add_floats(int64_t rounds, int threads) {
    std::atomic<int64_t> total{0};
    parallel(threads, [&](int, int) {
        const Floats one = same(1);
        int64_t done = 0;
        for (int64_t round = 0; round < rounds; round++) {
            Floats sums[SUMS];
            for (Floats &running : sums) running = zeros(), unknown(running);
            for (int turn = 0; turn < TURNS; turn++)
#pragma GCC unroll 12
                for (Floats &running : sums) running = multiply_add(one, one, running);
            for (const Floats &running : sums) done += (int64_t)sum(running);
        }
        total += done;
    });
    return (double)total;
}

// The same with bytes, sixty-four at a time.
EXPORT double multiply_add_bytes(int64_t rounds, int threads) {
    std::atomic<int64_t> total{0};
    parallel(threads, [&](int, int) {
        Lanes ones = same_int(0x01010101);
        const Lanes start = same_int(0);
        int64_t done = 0;
        for (int64_t round = 0; round < rounds; round++) {
            Dot<4> dots[SUMS];
            for (auto &dot : dots) dot = Dot<4>::from(start), unknown(dot.running);
            for (int turn = 0; turn < TURNS; turn++) {
                unknown(ones);  // or else a product that is not one instruction is done before the loop
#pragma GCC unroll 12
                for (auto &dot : dots) dot.add(ones, ones);
            }
            for (const auto &dot : dots) done += (int64_t)sum(to_floats(dot.sums(start)));
        }
        total += done;
    });
    return (double)total;
}
