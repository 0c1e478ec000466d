// Many queries against one span: keys and values are first copied, as floats, to where they are read fastest.
//
// Few queries take the sum over each key's numbers across the lanes of a register (`sums_of`), which costs more than the
// products themselves. Of a copy that is turned, so that number k of sixteen keys stands side by side, a register holds
// sixteen sums that need no adding across. They are still added up in the order of `sums_of`: sixteen partial sums, of
// numbers that are sixteen apart, joined in pairs. So a row's result is the same, bit for bit, whether many or few rows
// stand in a call.   Read next: attention.cpp, curves.h

#pragma once
#include <vector>

#include "spans.h"

constexpr int MANY = 64;        // rows that one copy serves
constexpr int WORTHWHILE = 12;  // queries for which a copy costs less than it saves
constexpr int WIDE = 512;       // numbers of a key and a value: copies of more would not fit the second cache

// Whether they are made. A key kept as int8 in two parts has two scales: its numbers cannot be added up unscaled.
static bool copies(const Cache &c, int queries) {
    return queries >= WORTHWHILE && c.key_width + c.more_width + c.value_width <= WIDE && !(c.kind == INT8 && c.more);
}

// Adds up, for sixteen keys at once, the products of numbers `lane`, `lane + STEP`, ... of a key with M queries.
template <int M, int STEP>
static inline void products(const float *keys, int width, const float *const *q, int lane, Floats *sums) {
    if constexpr (STEP == LANES) {
        for (int m = 0; m < M; m++) sums[m] = zeros();
        for (int k = lane; k < width; k += LANES) {
            const Floats key = load(keys + k * LANES);
            for (int m = 0; m < M; m++) sums[m] = multiply_add(key, same(q[m][k]), sums[m]);
        }
    } else {
        Floats others[M];
        products<M, 2 * STEP>(keys, width, q, lane, sums);
        products<M, 2 * STEP>(keys, width, q, lane + STEP, others);
        for (int m = 0; m < M; m++) sums[m] = sums[m] + others[m];
    }
}

struct Copied {
    const float *keys;    // [span / 16][key's number][16]
    const float *values;  // [span][value's number]
    int width;            // of a key

    template <int M> void score(const Keys &where, int count, const float *const *q, float (*scores)[SPAN]) const {
        for (int first = 0; first < count; first += LANES) {
            Floats sums[M];
            products<M, 1>(keys + (int64_t)first * width, width, q, 0, sums);
            for (int m = 0; m < M; m++) store(scores[m] + first, sums[m]);
        }
    }
};

// Sixteen numbers of each of sixteen keys, turned.
template <typename T> static inline void turned(const T *store_at, const int64_t *keys, int k, float *to) {
    Floats x[LANES];
    for (int i = 0; i < LANES; i++) x[i] = wide(store_at + keys[i] + k);
    transpose(x);
    for (int i = 0; i < LANES; i++) store(to + i * LANES, x[i]);
}

// A span's keys and values, in memory of the thread's own; `where` then says where a value lies in it.
template <typename T> static Copied copied(const Cache &c, Keys &where) {
    static thread_local std::vector<float> room;
    const int width = c.key_width + c.more_width, filled = (where.count + LANES - 1) / LANES * LANES;
    room.resize((size_t)SPAN * (width + c.value_width));
    float *keys = room.data(), *values = keys + SPAN * width;
    for (int first = 0; first < filled; first += LANES) {
        float *to = keys + first * width;
        for (int k = 0; k < c.key_width; k += LANES)
            turned((const T *)c.keys, where.key + first, k, to + k * LANES);
        for (int k = 0; k < c.more_width; k += LANES)
            turned((const T *)c.more, where.more + first, k, to + (c.key_width + k) * LANES);
    }
    for (int i = 0; i < filled; i++) {
        const T *value = (const T *)c.values + where.value[i];
        where.value[i] = (int64_t)i * c.value_width;
        for (int k = 0; k < c.value_width; k += LANES) store(values + where.value[i] + k, wide(value + k));
    }
    return {keys, values, width};
}
