// A span of keys and what is done with it, whoever scores it: where its keys lie, what each row sees of them, weights
// out of scores, weighted sums of values, and how the parts of two spans join. What it is for stands in attention.cpp.
// Read next: attention.cpp, many.h, cache.h

#pragma once
#include <cmath>

#include "activations.h"
#include "cache.h"

constexpr int SPAN = 256;  // keys at a time: with 6 queries their scores fill a fifth of the nearest cache
constexpr int AHEAD = 2 * LANES;  // so many keys before they are needed, they are asked for
constexpr int MOST = 6;    // queries worked on together: their sums have to stay in registers

struct Attend {  // the same fields, in the same order, as `Attend` in attention.py
    const float *q;        // [count][q_row]: heads side by side
    const Cache *cache;
    const int32_t *slots;  // [count]: whose keys
    const int32_t *places; // [count]: which key of its sequence is the row's own
    const int32_t *ends;   // [count]: so many first keys of the sequence may be seen at all
    const float *slopes;   // [heads], ALiBi's; or null
    float *sums;           // [spans][count][heads][value_width]: parts of the result
    float *tops;           // [spans][count][heads][2]: their m and sum of weights
    float *y;              // [count][heads * value_width], or null: then `tiles` alone
    Activations tiles;       // the result as a matmul reads it; rows 0: not wanted
    int64_t q_row;
    int32_t count, heads;
    int32_t window;        // keys less than so far from the row's own are seen; 0: all
    int32_t sinks;         // and under one so many first ones anyway, seen from the place sinks + window - 1 at most
    int32_t spans;         // that there is room for, at least those of the longest row; 1: each thread joins its own
    float scale, softcap;  // softcap 0: none
    const float *far;      // [count][q_row]: queries that look at the sinks, where these are others; or null
};

// Several rows of one sequence that are worked on together.
struct Run {
    int row, rows;
    int end;    // the most keys that one of them sees
    int first;  // the first key within a window of one of them
};

static Run run_at(const Attend &a, int row, int most) {
    Run run = {row, 1, a.ends[row], a.window ? a.places[row] - a.window + 1 : 0};
    for (; run.rows < most && row + run.rows < a.count && a.slots[row + run.rows] == a.slots[row]; run.rows++) {
        const int next = row + run.rows, first = a.window ? a.places[next] - a.window + 1 : 0;
        run.end = a.ends[next] > run.end ? a.ends[next] : run.end;
        run.first = first < run.first ? first : run.first;
    }
    return run;
}

static inline bool seen(const Attend &a, int row, int key) {
    const int away = a.places[row] > key ? a.places[row] - key : key - a.places[row];
    return key < a.ends[row] && (!a.window || away < a.window || key < a.sinks);
}

static inline bool all_seen(const Attend &a, int row, int start, int count) {
    const int place = a.places[row], end = start + count;
    if (end > a.ends[row]) return false;
    return !a.window || end <= a.sinks || (start > place - a.window && end - 1 < place + a.window);
}

// The keys of a span: where each lies. Behind the last stand others of the span again, as filling.
struct Keys {
    int64_t key[SPAN], value[SPAN], more[SPAN];  // in numbers, from the first of the store
    float key_scale[SPAN], value_scale[SPAN], more_scale[SPAN];
    int start, count;
    int pinned, first;  // between these two nobody sees any: another sequence's may lie there by now, even NaN
};

// Those of one head, from `keys.start`, so many as `keys.count` says.
static void find(Keys &keys, const Cache &c, int slot, int head) {
    const int start = keys.start;
    const int filled = (keys.count + LANES - 1) / LANES * LANES;
    const int64_t first = row_of(c, slot, start);
    int64_t next = first;
    int left = c.page - start % c.page;  // in this page: a division for each key would take a third of all time
    for (int i = 0; i < filled; i++, next++, left--) {
        if (left == 0 && i < keys.count) {
            next = row_of(c, slot, start + i);
            left = c.page;
        }
        const int64_t row = i < keys.count ? next : first;
        keys.key[i] = row * c.key_row + head * c.key_head;
        keys.value[i] = row * c.value_row + head * c.value_head;
        keys.more[i] = row * c.more_row + head * c.more_head;
        if (c.kind == INT8) {
            keys.key_scale[i] = scale_at(c.keys, keys.key[i], c.key_width);
            keys.value_scale[i] = scale_at(c.values, keys.value[i], c.value_width);
            if (c.more) keys.more_scale[i] = scale_at(c.more, keys.more[i], c.more_width);
        }
    }
}

// What a query of `row` does not see gets minus infinity, and so does the filling; ALiBi takes off its distances.
static void hide(const Attend &a, const Keys &keys, int row, float slope, float *scores) {
    for (int i = keys.count; i % LANES; i++) scores[i] = -INFINITY;
    const int place = a.places[row], sinks = a.window ? a.sinks - keys.start : 0, last = a.sinks + a.window - 1;
    if (slope != 0)
        for (int i = 0; i < keys.count; i++)
            scores[i] -= slope * std::abs((i < sinks && place > last ? last : place) - (keys.start + i));
    if (all_seen(a, row, keys.start, keys.count)) return;
    const int left = a.ends[row] - keys.start, until = left < 0 ? 0 : left < keys.count ? left : keys.count;
    for (int i = until; i < keys.count; i++) scores[i] = -INFINITY;
    for (int i = 0; a.window && i < until; i++)
        if (!seen(a, row, keys.start + i)) scores[i] = -INFINITY;
}

// Scores become weights e^(score - m); returns {m, sum of weights}, {-infinity, 0} where nothing is seen.
static void weigh(float *scores, int count, float *top) {
    Floats most = same(-INFINITY), total = zeros();
    for (int i = 0; i < count; i += LANES) most = maximum(most, load(scores + i));
    top[0] = largest(most);
    const Floats m = same(top[0] == -INFINITY ? 0 : top[0]);
    for (int i = 0; i < count; i += LANES) {
        const Floats weight = exponential(load(scores + i) - m);
        total = total + weight;
        store(scores + i, weight);
    }
    top[1] = sum(total);
}

// D vectors of values, weighted and summed over a span, for M queries at once.
template <int M, int D, typename T>
static void add_up(const Keys &keys, const T *values, float (*weights)[SPAN], int from, float *const *sums) {
    Floats total[M][D];
    for (int m = 0; m < M; m++)
        for (int d = 0; d < D; d++) total[m][d] = zeros();
    for (int i = keys.pinned ? 0 : keys.first; i < keys.count; i = i + 1 == keys.pinned ? keys.first : i + 1) {
        const T *value = values + keys.value[i] + from;
        Floats part[D];
        for (int d = 0; d < D; d++) part[d] = wide(value + d * LANES);
        for (int m = 0; m < M; m++)
            for (int d = 0; d < D; d++) total[m][d] = multiply_add(part[d], same(weights[m][i]), total[m][d]);
    }
    for (int m = 0; m < M; m++)
        for (int d = 0; d < D; d++) store(sums[m] + from + d * LANES, total[m][d]);
}

// Adds to a part of a result another one, of later keys.
static void join(float *sums, float *top, const float *more, const float *their, int width) {
    if (their[1] == 0) return;
    const float m = top[0] > their[0] ? top[0] : their[0];
    const float ours = top[1] == 0 ? 0 : std::exp(top[0] - m), theirs = std::exp(their[0] - m);
    for (int k = 0; k < width; k += LANES)
        store(sums + k, multiply_add(load(more + k), same(theirs), load(sums + k) * same(ours)));
    top[0] = m;
    top[1] = top[1] * ours + their[1] * theirs;
}

