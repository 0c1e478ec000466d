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
// the cache then serves all of them. For many such rows, keys and values are copied first (many.h).
// Read next: spans.h, many.h, cache.h

#include <cmath>

#include "export.h"
#include "many.h"
#include "spans.h"

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

// Asks for a head's numbers before they are needed: heads lie apart, so that the CPU cannot guess where the next begins.
template <typename T> static inline void fetch(const T *head, int width) {
    for (int k = 0; k < width; k += 64 / sizeof(T)) _mm_prefetch((const char *)(head + k), _MM_HINT_T0);
}

// Keys and values of a span where they are kept, each as numbers of type T.
template <typename T> struct InPlace {
    const Attend &a;
    const T *values;

    explicit InPlace(const Attend &given) : a(given), values((const T *)given.cache->values) {}

    // The products of M queries with the first `count` keys: scores[query][key].
    template <int M> void score(const Keys &keys, int count, const float *const *q, float (*scores)[SPAN]) const {
        const T *store_at = (const T *)a.cache->keys;
        const int width = a.cache->key_width;
        for (int first = 0; first < count; first += LANES) {
            Floats parts[M][LANES];
            const int next = first + AHEAD < count ? first + AHEAD : first;
            for (int i = 0; i < LANES; i++) {
                fetch(store_at + keys.key[next + i], width);
                fetch(values + keys.value[first + i], a.cache->value_width);
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
            for (int m = 0; m < M; m++) store(scores[m] + first, sums_of(parts[m]));
        }
    }
};

// Products with the first `count` keys become scores.
static void scaled(const Attend &a, const Keys &keys, int count, float *scores) {
    for (int first = 0; first < count; first += LANES) {
        Floats score = load(scores + first) * same(a.scale);
        if (a.cache->kind == INT8 && !a.cache->more) score = score * load(keys.key_scale + first);
        if (a.softcap) score = same(a.softcap) * tanh_curve(score / same(a.softcap));
        store(scores + first, score);
    }
}

// A query far behind the sinks stands elsewhere when it looks at them (nn/attention/sinks.py): their scores are its own.
template <int M, typename Source>
static void score_sinks(const Attend &a, const Keys &keys, Source from, const float *const *q, float (*scores)[SPAN]) {
    const int left = a.sinks - keys.start, count = left < keys.count ? left : keys.count;
    float others[M][SPAN];
    const float *far[M];
    for (int m = 0; m < M; m++) far[m] = a.far + (q[m] - a.q);
    from.template score<M>(keys, count, far, others);
    for (int m = 0; m < M; m++)
        for (int i = 0; i < count; i++) scores[m][i] = others[m][i];
}

static int shared_by(const Attend &a) { return a.heads / a.cache->kv_heads; }  // query heads that share a key head

// M queries against a span. Query i of a run belongs to its row i / R and to the head i % R of the R that share `head`.
template <int M, typename Source>
static void span_of(const Attend &a, const Keys &keys, Source from, const Run &run, int head, int query, int span) {
    const Cache &c = *a.cache;
    const int width = c.value_width, shared = shared_by(a), filled = (keys.count + LANES - 1) / LANES * LANES;
    float scores[M][SPAN], tops[M][2];
    const float *q[M];
    int64_t place[M];
    for (int m = 0; m < M; m++) {
        const int row = run.row + (query + m) / shared, which = head * shared + (query + m) % shared;
        q[m] = a.q + row * a.q_row + (int64_t)which * (c.key_width + c.more_width);
        place[m] = (int64_t)row * a.heads + which;
    }
    from.template score<M>(keys, keys.count, q, scores);
    if (a.far && keys.start < a.sinks) score_sinks<M>(a, keys, from, q, scores);
    for (int m = 0; m < M; m++) {
        scaled(a, keys, keys.count, scores[m]);
        hide(a, keys, run.row + (query + m) / shared, a.slopes ? a.slopes[place[m] % a.heads] : 0, scores[m]);
        weigh(scores[m], filled, tops[m]);
        if (c.kind == INT8)
            for (int i = 0; i < filled; i += LANES)
                store(scores[m] + i, load(scores[m] + i) * load(keys.value_scale + i));
    }
    constexpr int D = M <= 3 ? 4 : 2;  // M x D sums have to fit in the registers
    float fresh[M][1024], *sums[M];
    for (int m = 0; m < M; m++) sums[m] = fresh[m];
    int first = 0;
    for (; first + D * LANES <= width; first += D * LANES) add_up<M, D>(keys, from.values, scores, first, sums);
    for (; first < width; first += LANES) add_up<M, 1>(keys, from.values, scores, first, sums);
    for (int m = 0; m < M; m++) {
        const int64_t into = (a.spans > 1 ? (int64_t)span * a.count * a.heads : 0) + place[m];
        join(a.sums + into * width, a.tops + into * 2, sums[m], tops[m], width);
    }
}

template <typename Source>
static void spans_of(const Attend &a, const Keys &keys, Source from, const Run &run, int head, int span) {
    int left = run.rows * shared_by(a), query = 0;
    while (left > 0) {
        const int now = left >= 6 ? 6 : left == 5 ? 4 : left;
        switch (now) {
            case 6: span_of<6>(a, keys, from, run, head, query, span); break;
            case 4: span_of<4>(a, keys, from, run, head, query, span); break;
            case 3: span_of<3>(a, keys, from, run, head, query, span); break;
            case 2: span_of<2>(a, keys, from, run, head, query, span); break;
            default: span_of<1>(a, keys, from, run, head, query, span);
        }
        query += now;
        left -= now;
    }
}

// Nothing is seen yet: where parts begin.
static void empty(const Attend &a, const Run &run, int head, int span) {
    const int shared = shared_by(a), width = a.cache->value_width;
    for (int i = 0; i < run.rows * shared; i++) {
        const int64_t at = ((a.spans > 1 ? (int64_t)span * a.count : 0) + run.row + i / shared) * a.heads +
                           head * shared + i % shared;
        a.tops[at * 2] = -INFINITY;
        a.tops[at * 2 + 1] = 0;
        for (int k = 0; k < width; k += LANES) store(a.sums + at * width + k, zeros());
    }
}

static int few_rows(const Attend &a) { return shared_by(a) >= MOST ? 1 : MOST / shared_by(a); }

// The part of a span's keys that a run looks at. False: none of them.
static bool narrow(const Attend &a, Keys &keys, const Run &run) {
    if (keys.start >= run.end) return false;
    if (keys.start + SPAN <= run.first && keys.start >= a.sinks) return false;  // all of it lies before the window
    keys.count = run.end - keys.start < SPAN ? run.end - keys.start : SPAN;
    const auto within = [&](int key) {
        return key < keys.start ? 0 : key - keys.start < keys.count ? key - keys.start : keys.count;
    };
    keys.pinned = a.window ? within(a.sinks) : 0;
    keys.first = a.window ? within(run.first > a.sinks ? run.first : a.sinks) : 0;
    return true;
}

template <typename T> static void span_in(const Attend &a, Keys &keys, const Run &run, int head, int span) {
    if (!copies(*a.cache, run.rows * shared_by(a))) return spans_of(a, keys, InPlace<T>(a), run, head, span);
    const Copied copy = copied<T>(*a.cache, keys);
    for (int row = run.row, left = run.rows; left > 0;) {
        const Run few = run_at(a, row, left < few_rows(a) ? left : few_rows(a));
        if (narrow(a, keys, few)) spans_of(a, keys, copy, few, head, span);
        row += few.rows;
        left -= few.rows;
    }
}

static void attend_span(const Attend &a, Keys &keys, const Run &run, int head, int span) {
    keys.start = span * SPAN;
    if (!narrow(a, keys, run)) return;
    find(keys, *a.cache, a.slots[run.row], head);
    switch (a.cache->kind) {
        case FLOAT32: span_in<float>(a, keys, run, head, span); break;
        case FLOAT16: span_in<Half>(a, keys, run, head, span); break;
        case BFLOAT16: span_in<Bfloat>(a, keys, run, head, span); break;
        default: span_in<int8_t>(a, keys, run, head, span);
    }
}

// Rows of one sequence that are worked on together: those that one copy serves, or those that fill the registers once.
static Run worked_together(const Attend &a, int row) {
    const Run run = run_at(a, row, MANY);
    return copies(*a.cache, run.rows * shared_by(a)) ? run : run_at(a, row, few_rows(a));
}

// Spans that are worked on apart: those of the row that sees the most.
static int spans_apart(const Attend &a) {
    int longest = 1;
    for (int row = 0; a.spans > 1 && row < a.count; row++) longest = a.ends[row] > longest ? a.ends[row] : longest;
    return (longest + SPAN - 1) / SPAN;
}

// All spans of a run, one after the other, for one head.
static void attend_run(const Attend &a, Keys &keys, const Run &run, int head) {
    empty(a, run, head, 0);
    for (int span = 0; span * SPAN < run.end; span++) attend_span(a, keys, run, head, span);
}

constexpr int WORTH = 16;  // rows of a run that are worth a thread's own copy of their keys

EXPORT void attend(const Attend *given, int thread, int threads) {
    const Attend &a = *given;
    const int apart = spans_apart(a), heads = a.cache->kv_heads;
    Keys keys;
    int64_t turn = 0;  // pieces of work go to the threads in turn, which balances them: each is a run, a head and a span
    for (int row = 0; row < a.count;) {
        const Run run = worked_together(a, row);
        if (a.spans > 1) {
            const int spans = (run.end + SPAN - 1) / SPAN;
            for (int head = 0; head < heads; head++)
                for (int span = 0; span < apart; span++)
                    if (span >= spans || turn++ % threads == thread) {
                        if (span >= spans && thread) continue;  // what no key is in is soon emptied
                        empty(a, run, head, span);
                        attend_span(a, keys, run, head, span);
                    }
        } else {
            // Of a long run each thread takes as many heads, and of each head that is left over its share of the rows.
            const int even = run.rows < threads * WORTH ? heads : heads / threads * threads;
            for (int head = 0; head < even; head++)
                if (turn++ % threads == thread) attend_run(a, keys, run, head);
            const int first = row + run.rows * thread / threads, end = row + run.rows * (thread + 1) / threads;
            for (int head = even; head < heads; head++) attend_run(a, keys, run_at(a, first, end - first), head);
        }
        row += run.rows;
    }
}

// Joins the parts of each row's heads and writes the results. A piece is a row's heads, so many that their numbers
// fill whole groups of 32; each thread takes neighbouring pieces, as neighbouring rows share cache lines of `tiles`.
EXPORT void attend_join(const Attend *given, int thread, int threads) {
    const Attend &a = *given;
    const int width = a.cache->value_width, together = width % GROUP ? 2 : 1;
    const int pieces = (a.heads + together - 1) / together, apart = spans_apart(a);
    const int64_t all_pieces = (int64_t)a.count * pieces;
    for (int64_t one = all_pieces * thread / threads; one < all_pieces * (thread + 1) / threads; one++) {
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
