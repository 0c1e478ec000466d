// A list of operations, done one after the other by all threads at once: a whole step of a model in one call.
//
// Every operation of this folder that can stand in a list is a function (arguments, thread, threads): it does share number
// `thread` of `threads` of the work and returns. Called one by one from Python each would have to wake the threads anew;
// here they stay awake, and only wait for each other between two operations. A list of one is a single
// operation called alone. The torch sibling of a whole list is the model itself; those of the two operations below, a
// product and a sum, are in list.py.   Read next: pool.h, norm.cpp, strips.h

#include <chrono>

#include "export.h"
#include "pool.h"
#include "strips.h"

struct Step {  // the same fields, in the same order, as `Step` in list.py
    void (*work)(const void *arguments, int thread, int threads);
    const void *arguments;
};

static int64_t nanoseconds() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

// Each operation is cut into as many shares as there are threads, and each thread takes the next share that nobody has
// taken, once all operations before are done. So no thread is waited for that has taken nothing: where other programs
// keep it from its core, the others do its shares as well. `begins`: null, or where to note when each operation was
// begun, and the list ended, in nanoseconds.
EXPORT void run_list(const Step *steps, int count, int threads, int64_t *begins) {
    std::atomic<int> taken{0};  // shares of all operations, counted through; of this call alone, as several may run
    Tally done;
    parallel(threads, [&](int, int all) {
        for (;;) {
            int share = taken.load(std::memory_order_relaxed);
            const int step = share / all;
            if (step >= count) return;
            done.wait_for(step * all);
            if (!taken.compare_exchange_strong(share, share + 1)) continue;  // somebody else took it meanwhile
            if (begins && share % all == 0) begins[step] = nanoseconds();
            steps[step].work(steps[step].arguments, share % all, all);
            done.raise((step + 1) * all);
        }
    });
    if (begins) begins[count] = nanoseconds();
}

// y = x w^T (+ bias) (+ y): each thread takes an equal share of the strips of 16 outputs.
EXPORT void product(const Product *given, int thread, int threads) {
    const int64_t strips = strips_of(given->w);
    multiply_strips(given->w, given->x, given->out, (int)(strips * thread / threads),
                    (int)(strips * (thread + 1) / threads));
}

// The same operation with many arguments, none of which needs what another one makes: nobody waits in between.
struct Together {  // the same fields, in the same order, as `Together` in list.py
    void (*work)(const void *arguments, int thread, int threads);
    const void *const *arguments;
    int64_t count;
};

EXPORT void together(const Together *given, int thread, int threads) {
    for (int64_t i = 0; i < given->count; i++) given->work(given->arguments[i], thread, threads);
}

struct Add {  // the same fields, in the same order, as `Add` in list.py
    const float *x;
    float *y;
    int64_t count;
    float scale;
};

// y += scale x, the sum of a residual: each thread takes an equal share of the numbers.
EXPORT void add(const Add *given, int thread, int threads) {
    const int64_t end = given->count * (thread + 1) / threads;
    for (int64_t i = given->count * thread / threads; i < end; i += LANES) {
        const int lanes = end - i < LANES ? (int)(end - i) : LANES;
        const Floats y = multiply_add(load_some(given->x + i, lanes), same(given->scale), load_some(given->y + i, lanes));
        store_some(given->y + i, y, lanes);
    }
}

// Which group of the whole layout holds `group` of `row`: for those who read it back in Python.
EXPORT int64_t laid_at(const Activations *x, int row, int group) { return (int64_t)place_of(*x, row, group); }
