// One matmul by itself, from rows that lie as torch has them: lays x out, and shares the strips among the threads.
//
// Lists of operations (list.cpp) keep activations in the kernels' own layout and call multiply_strips instead.
// Read next: multiply_exact.cpp, multiply_int8.cpp

#include <cstdlib>
#include <cstring>

#include "strips.h"

void multiply_strips(const Strips &w, const Activations &x, const Output &out, int first, int end) {
    if (x.floats) {
        multiply_strips_exact(w, x, out, first, end);
    } else {
        multiply_strips_int8(w, x, out, first, end);
    }
}

// Memory that a calling thread keeps from call to call: asking the system each time would cost more than a small product.
class Scratch {
    void *memory = nullptr;
    size_t size = 0;

  public:
    ~Scratch() { free(memory); }
    // At least `bytes`, zero where nothing was written yet; null where there are none to be had.
    void *at_least(size_t bytes) {
        if (bytes > size) {
            free(memory);
            size = (bytes + bytes / 2 + 63) / 64 * 64;
            memory = aligned_alloc(64, size);
            if (memory) memset(memory, 0, size);
            else size = 0;
        }
        return memory;
    }
};

// One group of a row of x as it lies in torch's memory; columns beyond the last are zeros.
static inline void put_group(const Activations &to, const float *x, int columns, int row, int group) {
    const int left = columns - group * GROUP;
    const float *from = x + (size_t)row * columns + group * GROUP;
    const Floats low = left >= LANES ? load(from) : load_some(from, left);
    const Floats high = left >= GROUP ? load(from + LANES) : left > LANES ? load_some(from + LANES, left - LANES) : zeros();
    put(to, row, group, low, high);
}

constexpr int CHUNK = 6;  // strips that a thread takes at a time: of many rows, so that all end at about the same time

// x (rows, columns) and y (rows, outputs), both without gaps. Returns 0, or 1 where there was no memory.
EXPORT int multiply(const Strips *w, const float *x, int columns, float *y, int rows, int int8, int threads) {
    thread_local Scratch scratch;
    const size_t count = places(rows, w->groups), groups = count / GROUP;
    Activations laid_out = {nullptr, nullptr, nullptr, nullptr, nullptr, rows, w->groups};
    const bool as_it_is = !int8 && rows == 1 && columns == w->groups * GROUP;  // one row's layout is the same
    if (as_it_is) {
        laid_out.floats = (float *)x;
    } else {
        char *memory = (char *)scratch.at_least(int8 ? count + groups * 12 : count * 4);
        if (!memory) return 1;
        if (int8) {
            laid_out.codes = (int8_t *)memory;
            laid_out.scales = (float *)(memory + count);
            laid_out.totals = (int32_t *)(laid_out.scales + groups);
            laid_out.firsts = laid_out.totals + groups;
        } else {
            laid_out.floats = (float *)memory;
        }
    }
    const Output out = {y, (size_t)w->rows, nullptr, false};
    const int strips = strips_of(*w);
    std::atomic<int> next{0};
    Barrier barrier;
    parallel(threads, [&](int thread, int all) {
        if (!as_it_is) {
            const int64_t pieces = (int64_t)rows * w->groups;
            for (int64_t piece = pieces * thread / all; piece < pieces * (thread + 1) / all; piece++)
                put_group(laid_out, x, columns, (int)(piece / w->groups), (int)(piece % w->groups));
            barrier.wait(all);
        }
        if (rows <= MOST_ROWS) {
            multiply_strips(*w, laid_out, out, (int)((int64_t)strips * thread / all),
                            (int)((int64_t)strips * (thread + 1) / all));
        } else {
            for (int first; (first = next.fetch_add(CHUNK)) < strips;)
                multiply_strips(*w, laid_out, out, first, first + CHUNK < strips ? first + CHUNK : strips);
        }
    });
    return 0;
}
