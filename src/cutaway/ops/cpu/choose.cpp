// The few highest scores of each row, and the logarithm of the sum of all their exponentials: what choosing a token asks
// of 50,000 to 260,000 scores. The torch sibling is `top_readable` in choose.py.
//
// Sorting all would take longer than the model's own step. Instead each run of 64 scores first gives its highest. There
// are few of those; the k-th highest of them is a bound: at least k scores reach it, and little else does. Only runs whose
// highest reaches the bound are looked at again. The sum of exponentials is that of e^(x - m), m the row's highest, run by
// run first: so that an alternative's logprob is its score minus log-sum-exp.
// Where top-k, top-p or min-p cut a row, what they leave of its list is told as well, ready for a draw.
// Two operations: `top_runs`, shared out among the threads, then `top_chosen`, a row to a thread.   Read next: curves.h

#include <algorithm>
#include <cmath>
#include <functional>

#include "curves.h"
#include "export.h"

constexpr int RUN = 64;

struct Top {  // the same fields, in the same order, as `Top` in choose.py
    const float *x;     // [count][row]
    float *highest;     // [count][runs]: of each run
    float *totals;      // [count][runs]: the sum of e^(x - highest) of each run
    int32_t *places;    // [count][width]: room for the places of all that reach the bound
    float *values;      // [count][k], from the highest down; of equal ones the first comes first
    int32_t *indices;   // [count][k]
    float *sums;        // [count]: log-sum-exp; NaN where a score is NaN or infinite
    const float *heats; // [count]: 1 / temperature of each row, or null: all 1
    float *warm;        // [count][runs]: the sum of e^((x - highest) heat) of each run; or null
    float *warm_sums;   // [count]: the sum of e^((x - the row's highest) heat); or null
    const int32_t *limits;  // [count]: top-k of each row, the width where it has none, 0: the row is not cut; or null
    const double *top_p, *min_p;  // [count]
    double *running;    // [count][k]: running sums of the weights e^((x - the row's highest) heat) of what is listed
    int32_t *kept;      // [count]: how many of the listed are left; 0 where the list is too short to tell
    int64_t row;
    int32_t count, width, k;
};

static inline int runs_of(const Top &t) { return (t.width + RUN - 1) / RUN; }

// The sum of e^((x - m) heat) of a run.
static float warmed(const float *x, int first, int end, float m, float heat) {
    Floats total = zeros();
    int i = first;
    for (; i + LANES <= end; i += LANES) total = total + exponential((load(x + i) - same(m)) * same(heat));
    float sums = sum(total);
    for (; i < end; i++) sums += std::exp((x[i] - m) * heat);
    return sums;
}

EXPORT void top_runs(const Top *given, int thread, int threads) {
    const Top &t = *given;
    const int64_t runs = runs_of(t), all = runs * t.count;
    for (int64_t one = all * thread / threads; one < all * (thread + 1) / threads; one++) {
        const int first = (int)(one % runs) * RUN, end = first + RUN < t.width ? first + RUN : t.width;
        const float *x = t.x + one / runs * t.row;
        Floats most = same(-INFINITY);
        Floats sound = zeros();  // x - x is 0, but NaN where x is NaN or infinite
        float last = -INFINITY, last_sound = 0;
        int i = first;
        for (; i + LANES <= end; i += LANES) {
            most = maximum(load(x + i), most);
            sound = sound + (load(x + i) - load(x + i));
        }
        const int whole = i;
        for (; i < end; i++) {
            last = x[i] > last ? x[i] : last;
            last_sound += x[i] - x[i];
        }
        const float m = std::max(largest(most), last);
        Floats total = zeros();
        for (i = first; i < whole; i += LANES) total = total + exponential(load(x + i) - same(m));
        float sums = sum(total) + sum(sound) + last_sound;
        for (; i < end; i++) sums += std::exp(x[i] - m);
        t.highest[one] = m;
        t.totals[one] = sums;
        const float heat = t.heats ? t.heats[one / runs] : 1;
        if (t.warm) t.warm[one] = heat == 1 ? sums : warmed(x, first, end, m, heat);
    }
}

// What the cuts leave of a row: a token is kept while those before it have less than top_p of all weight, and while its
// own is at least min_p of the likeliest's.
static void cut(const Top &t, int row) {
    const int limit = t.limits[row], listed = limit < t.k ? limit : t.k;
    const float *values = t.values + (int64_t)row * t.k;
    const double heat = t.heats[row];
    double *running = t.running + (int64_t)row * t.k, total = 0;
    for (int i = 0; i < listed; i++) running[i] = total += std::exp((values[i] - values[0]) * heat);
    if (limit == t.width) total = t.warm_sums[row];
    int kept = listed > 0;
    while (kept && kept < listed && running[kept - 1] < t.top_p[row] * total &&
           running[kept] - running[kept - 1] >= t.min_p[row])
        kept++;
    const bool enough = limit <= t.k || (limit == t.width && kept < t.k);
    t.kept[row] = enough ? kept : 0;
}

EXPORT void top_chosen(const Top *given, int thread, int threads) {
    const Top &t = *given;
    const int runs = runs_of(t);
    for (int row = thread; row < t.count; row += threads) {
        const float *x = t.x + row * t.row, *highest = t.highest + (int64_t)row * runs;
        int32_t *places = t.places + (int64_t)row * t.width;
        const float m = *std::max_element(highest, highest + runs);
        float total = 0;
        for (int run = 0; run < runs; run++) total += t.totals[(int64_t)row * runs + run] * std::exp(highest[run] - m);
        t.sums[row] = m + std::log(total);
        if (t.warm_sums) {
            const float heat = t.heats ? t.heats[row] : 1;
            float warm = 0;
            for (int run = 0; run < runs; run++)
                warm += t.warm[(int64_t)row * runs + run] * std::exp((highest[run] - m) * heat);
            t.warm_sums[row] = warm;
        }
        float bound = -INFINITY;
        if (t.k == 1) {
            bound = m;
        } else if (t.k <= runs) {
            float *sorted = t.totals + (int64_t)row * runs;  // which nobody needs any more
            std::copy(highest, highest + runs, sorted);
            std::nth_element(sorted, sorted + t.k - 1, sorted + runs, std::greater<float>());
            bound = sorted[t.k - 1];
        }
        int found = 0;
        for (int run = 0; run < runs; run++) {
            if (highest[run] < bound) continue;
            const int end = (run + 1) * RUN < t.width ? (run + 1) * RUN : t.width;
            for (int i = run * RUN; i < end; i++)
                if (!(x[i] < bound)) places[found++] = i;
        }
        // NaN is neither above nor below: taken for the lowest, so that sorting has an order to go by.
        const auto value = [&](int32_t place) { return x[place] == x[place] ? x[place] : -INFINITY; };
        const auto before = [&](int32_t a, int32_t b) { return value(a) != value(b) ? value(a) > value(b) : a < b; };
        std::partial_sort(places, places + t.k, places + found, before);
        for (int i = 0; i < t.k; i++) {
            t.indices[(int64_t)row * t.k + i] = places[i];
            t.values[(int64_t)row * t.k + i] = x[places[i]];
        }
        if (t.limits) cut(t, row);
    }
}
