// Grouped attention over a cache: each query takes a weighted mean of the values of the tokens that it may see.
//
//     score_s = cap(scale q k_s) - slope |place - s|,   y = sum_s e^(score_s - m) v_s / sum_s e^(score_s - m)
// The equation, and what the arguments mean, stand in the torch sibling, `attend_readable` in attention.py. Each row is
// one query token of any sequence: rows of long prompts and single tokens of many sequences may stand in one call.
//
// Keys are taken a SPAN at a time, counted from a sequence's first. A span's part of the result, (m, sum of weights,
// sum of weighted values), needs no other span's; two parts join by rescaling the one with the smaller m (the trick of
// FlashAttention, arXiv 2205.14135, and for decoding: "Flash-Decoding"). So with few rows, spans are shared out among
// the threads and joined by a second operation, `attend_join`; with many rows each thread joins its own as it goes. The
// spans are the same ones either way, and so is the result, bit for bit: it depends neither on the number of threads nor on
// what else stands in the batch.
// Query heads that share a key head, and neighbouring rows of one sequence, are worked on together: what is read from
// the cache then serves all of them.   Read next: cache.h, curves.h

#include <cmath>

#include "activations.h"
#include "cache.h"
#include "export.h"

constexpr int SPAN = 256;  // keys at a time: with 8 queries their scores fill a quarter of the nearest cache
constexpr int MOST = 8;    // queries worked on together: their sums have to stay in registers

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

static void find(Keys &keys, const Cache &c, int slot, int head, int start, int end) {
    keys.start = start;
    keys.count = end - start < SPAN ? end - start : SPAN;
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

// Adds to products with the first part of key `i` those with its rest.
template <int M, typename T>
static inline void rest(const Cache &c, const Keys &keys, int i, const float *const *q, Floats *products) {
    const T *more = (const T *)c.more + keys.more[i];
    const bool scaled = c.kind == INT8;  // each part by its own scale, so that they can be added
    for (int m = 0; scaled && m < M; m++) products[m] = products[m] * same(keys.key_scale[i]);
    for (int k = 0; k < c.more_width; k += LANES) {
        const Floats part = scaled ? wide(more + k) * same(keys.more_scale[i]) : wide(more + k);
        for (int m = 0; m < M; m++) products[m] = multiply_add(part, load(q[m] + c.key_width + k), products[m]);
    }
}

// The scores of M queries with the first `count` keys of a span, before anything is hidden: scores[query][key].
template <int M, typename T>
static void score(const Attend &a, const Keys &keys, int count, const float *const *q, float (*scores)[SPAN]) {
    const T *store_at = (const T *)a.cache->keys;
    const int width = a.cache->key_width;
    for (int first = 0; first < count; first += LANES) {
        Floats parts[M][LANES];
        for (int i = 0; i < LANES; i++) {
            const T *key = store_at + keys.key[first + i];
            Floats products[M];
            for (int m = 0; m < M; m++) products[m] = zeros();
            for (int k = 0; k < width; k += LANES) {
                const Floats part = wide(key + k);
                for (int m = 0; m < M; m++) products[m] = multiply_add(part, load(q[m] + k), products[m]);
            }
            if (a.cache->more) rest<M, T>(*a.cache, keys, first + i, q, products);
            for (int m = 0; m < M; m++) parts[m][i] = products[m];
        }
        for (int m = 0; m < M; m++) {
            Floats score = sums_of(parts[m]) * same(a.scale);
            if (a.cache->kind == INT8 && !a.cache->more) score = score * load(keys.key_scale + first);
            if (a.softcap) score = same(a.softcap) * tanh_curve(score / same(a.softcap));
            store(scores[m] + first, score);
        }
    }
}

// A query far behind the sinks stands elsewhere when it looks at them (nn/attention/sinks.py): their scores are its own.
template <int M, typename T>
static void score_sinks(const Attend &a, const Keys &keys, const float *const *q, float (*scores)[SPAN]) {
    const int left = a.sinks - keys.start, count = left < keys.count ? left : keys.count;
    float others[M][SPAN];
    const float *far[M];
    for (int m = 0; m < M; m++) far[m] = a.far + (q[m] - a.q);
    score<M, T>(a, keys, count, far, others);
    for (int m = 0; m < M; m++)
        for (int i = 0; i < count; i++) scores[m][i] = others[m][i];
}

// What a query of `row` does not see gets minus infinity, and so does the filling; ALiBi takes off its distances.
static void hide(const Attend &a, const Keys &keys, int row, float slope, float *scores) {
    for (int i = keys.count; i % LANES; i++) scores[i] = -INFINITY;
    const int place = a.places[row], sinks = a.window ? a.sinks - keys.start : 0, last = a.sinks + a.window - 1;
    if (slope != 0)
        for (int i = 0; i < keys.count; i++)
            scores[i] -= slope * std::abs((i < sinks && place > last ? last : place) - (keys.start + i));
    if (all_seen(a, row, keys.start, keys.count)) return;
    for (int i = 0; i < keys.count; i++)
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

// M queries against a span. Query i of a run belongs to its row i / R and to the head i % R of the R that share `head`.
template <int M, typename T>
static void span_of(const Attend &a, const Keys &keys, const Run &run, int head, int query, int span) {
    const Cache &c = *a.cache;
    const int width = c.value_width, shared = a.heads / c.kv_heads, filled = (keys.count + LANES - 1) / LANES * LANES;
    float scores[M][SPAN], tops[M][2];
    const float *q[M];
    int64_t place[M];
    for (int m = 0; m < M; m++) {
        const int row = run.row + (query + m) / shared, which = head * shared + (query + m) % shared;
        q[m] = a.q + row * a.q_row + (int64_t)which * (c.key_width + c.more_width);
        place[m] = (int64_t)row * a.heads + which;
    }
    score<M, T>(a, keys, keys.count, q, scores);
    if (a.far && keys.start < a.sinks) score_sinks<M, T>(a, keys, q, scores);
    for (int m = 0; m < M; m++) {
        hide(a, keys, run.row + (query + m) / shared, a.slopes ? a.slopes[place[m] % a.heads] : 0, scores[m]);
        weigh(scores[m], filled, tops[m]);
        if (c.kind == INT8)
            for (int i = 0; i < filled; i += LANES)
                store(scores[m] + i, load(scores[m] + i) * load(keys.value_scale + i));
    }
    constexpr int D = M <= 3 ? 4 : M <= 6 ? 2 : 1;  // M x D sums have to fit in the registers
    float fresh[M][1024], *sums[M];
    for (int m = 0; m < M; m++) sums[m] = fresh[m];
    int from = 0;
    const T *values = (const T *)c.values;
    for (; from + D * LANES <= width; from += D * LANES) add_up<M, D, T>(keys, values, scores, from, sums);
    for (; from < width; from += LANES) add_up<M, 1, T>(keys, values, scores, from, sums);
    for (int m = 0; m < M; m++) {
        const int64_t into = (a.spans > 1 ? (int64_t)span * a.count * a.heads : 0) + place[m];
        join(a.sums + into * width, a.tops + into * 2, sums[m], tops[m], width);
    }
}

template <typename T>
static void spans_of(const Attend &a, const Keys &keys, const Run &run, int head, int span) {
    int left = run.rows * (a.heads / a.cache->kv_heads), query = 0;
    while (left > 0) {
        const int now = left >= 8 ? 8 : left >= 6 ? 6 : left >= 5 ? 4 : left;
        switch (now) {
            case 8: span_of<8, T>(a, keys, run, head, query, span); break;
            case 6: span_of<6, T>(a, keys, run, head, query, span); break;
            case 4: span_of<4, T>(a, keys, run, head, query, span); break;
            case 3: span_of<3, T>(a, keys, run, head, query, span); break;
            case 2: span_of<2, T>(a, keys, run, head, query, span); break;
            default: span_of<1, T>(a, keys, run, head, query, span);
        }
        query += now;
        left -= now;
    }
}

// Nothing is seen yet: where parts begin.
static void empty(const Attend &a, const Run &run, int head, int span) {
    const int shared = a.heads / a.cache->kv_heads, width = a.cache->value_width;
    for (int i = 0; i < run.rows * shared; i++) {
        const int64_t at = ((a.spans > 1 ? (int64_t)span * a.count : 0) + run.row + i / shared) * a.heads +
                           head * shared + i % shared;
        a.tops[at * 2] = -INFINITY;
        a.tops[at * 2 + 1] = 0;
        for (int k = 0; k < width; k += LANES) store(a.sums + at * width + k, zeros());
    }
}

static void attend_span(const Attend &a, Keys &keys, const Run &run, int head, int span) {
    const int start = span * SPAN;
    if (start >= run.end) return;
    if (start + SPAN <= run.first && start >= a.sinks) return;  // all of it lies before the window
    find(keys, *a.cache, a.slots[run.row], head, start, run.end);
    const auto within = [&](int key) { return key < start ? 0 : key - start < keys.count ? key - start : keys.count; };
    keys.pinned = a.window ? within(a.sinks) : 0;
    keys.first = a.window ? within(run.first > a.sinks ? run.first : a.sinks) : 0;
    switch (a.cache->kind) {
        case FLOAT32: spans_of<float>(a, keys, run, head, span); break;
        case FLOAT16: spans_of<Half>(a, keys, run, head, span); break;
        case BFLOAT16: spans_of<Bfloat>(a, keys, run, head, span); break;
        default: spans_of<int8_t>(a, keys, run, head, span);
    }
}

// Spans that are worked on apart: those of the row that sees the most.
static int spans_apart(const Attend &a) {
    int longest = 1;
    for (int row = 0; a.spans > 1 && row < a.count; row++) longest = a.ends[row] > longest ? a.ends[row] : longest;
    return (longest + SPAN - 1) / SPAN;
}

EXPORT void attend(const Attend *given, int thread, int threads) {
    const Attend &a = *given;
    const int shared = a.heads / a.cache->kv_heads, most = shared >= MOST ? 1 : MOST / shared, apart = spans_apart(a);
    Keys keys;
    int64_t turn = 0;  // pieces of work go to the threads in turn, which balances them: each is a run, a head and a span
    for (int row = 0; row < a.count;) {
        const Run run = run_at(a, row, most);
        const int spans = (run.end + SPAN - 1) / SPAN;
        for (int head = 0; head < a.cache->kv_heads; head++) {
            if (a.spans > 1) {
                for (int span = 0; span < apart; span++)
                    if (span >= spans || turn++ % threads == thread) {
                        if (span >= spans && thread) continue;  // what no key is in is soon emptied
                        empty(a, run, head, span);
                        attend_span(a, keys, run, head, span);
                    }
            } else if (turn++ % threads == thread) {
                empty(a, run, head, 0);
                for (int span = 0; span < spans; span++) attend_span(a, keys, run, head, span);
            }
        }
        row += run.rows;
    }
}

// Joins the parts of each row's heads and writes the results. Thread t of T takes pieces t, t + T, ...: a row's heads,
// so many that their numbers fill whole groups of 32.
EXPORT void attend_join(const Attend *given, int thread, int threads) {
    const Attend &a = *given;
    const int width = a.cache->value_width, together = width % GROUP ? 2 : 1;
    const int pieces = (a.heads + together - 1) / together, apart = spans_apart(a);
    for (int64_t one = thread; one < (int64_t)a.count * pieces; one += threads) {
        const int row = (int)(one / pieces), first = (int)(one % pieces) * together;
        const int heads = a.heads - first < together ? a.heads - first : together;
        float *sums = a.sums + ((int64_t)row * a.heads + first) * width;
        for (int head = first; head < first + heads; head++) {
            const int64_t at = (int64_t)row * a.heads + head, all = (int64_t)a.count * a.heads;
            for (int span = 1; span < apart; span++)
                join(a.sums + at * width, a.tops + at * 2, a.sums + (span * all + at) * width,
                     a.tops + (span * all + at) * 2, width);
            const float total = a.tops[at * 2 + 1], scale = total > 0 ? 1 / total : 0;
            for (int k = 0; k < width; k += LANES)
                store(a.sums + at * width + k, load(a.sums + at * width + k) * same(scale));
        }
        const int64_t from = (int64_t)first * width;
        for (int k = 0; a.y && k < heads * width; k += LANES)
            store(a.y + (int64_t)row * a.heads * width + from + k, load(sums + k));
        for (int k = 0; a.tiles.rows && k < heads * width; k += GROUP)
            put(a.tiles, row, (int)(from + k) / GROUP, load(sums + k), load(sums + k + LANES));
    }
}
