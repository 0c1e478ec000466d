// Causal attention over whole sequences, forward and back, as training needs it: nothing is cached, all is in fp32.
//
//     p_ts = e^(scale q_t . k_s - m_t) / l_t  for s <= t,   y_t = sum_s p_ts v_s
// and back, from dy (FlashAttention, arXiv 2205.14135, appendix B.4):
//     D_t = dy_t . y_t,   g_ts = scale p_ts (dy_t . v_s - D_t)
//     dq_t = sum_s g_ts k_s,   dk_s = sum_t g_ts q_t,   dv_s = sum_t p_ts dy_t
// The torch sibling is `causal_readable` in causal.py. For the way back m and 1 / l are kept, two numbers a query and
// head: scores are worked out again, a TILE of queries against all keys that they see. A sequence's key head, with the
// query heads that share it, is one piece of work; no piece writes what another does, and none is shared by threads, so
// that results do not depend on how many there are.
// Read next: vector.h, curves.h, attention.cpp (the same over a cache, forward alone)

#include <cmath>
#include <memory>
#include <new>

#include "curves.h"
#include "export.h"

constexpr int TILE = 16;  // queries at a time: what half of them cannot see yet is then little
#if defined(__AVX512F__)
constexpr int ROWS = 8, WIDE = 2;  // rows and vectors of a product that stay in registers
#else
constexpr int ROWS = 4, WIDE = 1;
#endif

struct Causal {  // the same fields, in the same order, as `Causal` in causal.py
    const float *q, *k, *v;  // [tokens][heads or kv_heads][width]
    float *y;                // as q
    float *tops;             // [heads][tokens][2]: m and 1 / l
    const float *dy;         // as q; the rest, to dv, is wanted of the way back alone
    float *dq, *dk, *dv;
    const int32_t *starts;   // [sequences + 1]: each one's first token, and behind the last one's
    int32_t sequences, tokens, heads, kv_heads, width;
    float scale;
};

// out[m][n] (+)= sum_k a[m][k] b[k][n]: a's rows `a_row` apart and its columns `a_column`, b and out in rows.
struct Factors {
    const float *a;
    int64_t a_row, a_column;
    const float *b;
    int64_t b_row;
    float *out;
    int64_t out_row;
};

template <int M, int V> static inline void block(const Factors &f, int count, bool adds) {
    Floats sums[M][V];
    for (int m = 0; m < M; m++)
        for (int v = 0; v < V; v++) sums[m][v] = adds ? load(f.out + m * f.out_row + v * LANES) : zeros();
    for (int k = 0; k < count; k++) {
        Floats b[V];
        for (int v = 0; v < V; v++) b[v] = load(f.b + k * f.b_row + v * LANES);
        for (int m = 0; m < M; m++) {
            const Floats a = same(f.a[m * f.a_row + k * f.a_column]);
            for (int v = 0; v < V; v++) sums[m][v] = multiply_add(a, b[v], sums[m][v]);
        }
    }
    for (int m = 0; m < M; m++)
        for (int v = 0; v < V; v++) store(f.out + m * f.out_row + v * LANES, sums[m][v]);
}

template <int M> static void rows_of(Factors f, int count, int vectors, bool adds) {
    for (; vectors >= WIDE; vectors -= WIDE, f.b += WIDE * LANES, f.out += WIDE * LANES)
        block<M, WIDE>(f, count, adds);
    for (; vectors > 0; vectors--, f.b += LANES, f.out += LANES) block<M, 1>(f, count, adds);
}

// `rows` rows of `vectors` vectors, sums of `count` products each.
static void multiply(Factors f, int rows, int count, int vectors, bool adds) {
    const auto next = [&](int by) {
        f.a += by * f.a_row;
        f.out += by * f.out_row;
        rows -= by;
    };
    for (; rows >= ROWS; next(ROWS)) rows_of<ROWS>(f, count, vectors, adds);
    for (; rows >= 4; next(4)) rows_of<4>(f, count, vectors, adds);
    for (; rows > 0; next(1)) rows_of<1>(f, count, vectors, adds);
}

// Sixteen rows of sixteen become columns.
static inline void turn(Floats *x) {
#if defined(__AVX512F__)
    // Four rounds: pairs of rows are woven together, then pairs of pairs, then quarters of rows change places, twice.
    __m512 y[16];
    for (int i = 0; i < 8; i++) {
        y[2 * i] = _mm512_unpacklo_ps(x[2 * i].v, x[2 * i + 1].v);
        y[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i].v, x[2 * i + 1].v);
    }
    __m512 z[16];
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 2; j++) {
            const __m512d a = _mm512_castps_pd(y[4 * i + j]), b = _mm512_castps_pd(y[4 * i + j + 2]);
            z[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            z[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    for (int j = 0; j < 4; j++) {
        const __m512 a = _mm512_shuffle_f32x4(z[j], z[j + 4], 0x88), b = _mm512_shuffle_f32x4(z[j + 8], z[j + 12], 0x88);
        const __m512 c = _mm512_shuffle_f32x4(z[j], z[j + 4], 0xdd), d = _mm512_shuffle_f32x4(z[j + 8], z[j + 12], 0xdd);
        x[j].v = _mm512_shuffle_f32x4(a, b, 0x88);
        x[j + 8].v = _mm512_shuffle_f32x4(a, b, 0xdd);
        x[j + 4].v = _mm512_shuffle_f32x4(c, d, 0x88);
        x[j + 12].v = _mm512_shuffle_f32x4(c, d, 0xdd);
    }
#else
    float square[LANES][LANES], column[LANES];
    for (int i = 0; i < LANES; i++) store(square[i], x[i]);
    for (int j = 0; j < LANES; j++) {
        for (int i = 0; i < LANES; i++) column[i] = square[i][j];
        x[j] = load(column);
    }
#endif
}

// to[k][t] = from[t][k]: rows of keys become columns, padded with zeros to `padded` of them.
static void transpose(const float *from, int64_t row, int count, int width, float *to, int padded) {
    for (int t = 0; t < count; t += LANES)
        for (int k = 0; k < width; k += LANES) {
            Floats square[LANES];
            for (int i = 0; i < LANES; i++) square[i] = t + i < count ? load(from + (t + i) * row + k) : zeros();
            turn(square);
            for (int i = 0; i < LANES; i++) store(to + (int64_t)(k + i) * padded + t, square[i]);
        }
}

// A sequence's key head, and room for what is worked out of it.
struct Piece {
    int start, count, padded;  // its first token, how many, and how many with the filling
    int head;                  // of the keys
    float *keys, *values;      // [width][padded]
    float *scores, *slopes;    // [TILE][padded]
};

static inline int vectors_for(int keys) { return (keys + LANES - 1) / LANES; }

// scores[i][s] of queries first .. first + rows with the keys up to theirs, not yet scaled.
static void score(const Causal &c, const Piece &p, int head, int first, int rows) {
    const int64_t row = (int64_t)c.heads * c.width;
    const float *q = c.q + (p.start + first) * row + (int64_t)head * c.width;
    multiply({q, row, 1, p.keys, p.padded, p.scores, p.padded}, rows, c.width, vectors_for(first + rows), false);
}

// Scores from `seen` on become minus infinity.
static inline void hide(float *x, int seen, int filled) {
    const int whole = seen / LANES * LANES;
    if (seen > whole) {
        const Floats kept = load(x + whole);
        store(x + whole, same(-INFINITY));
        store_some(x + whole, kept, seen - whole);
    }
    for (int s = seen > whole ? whole + LANES : whole; s < filled; s += LANES) store(x + s, same(-INFINITY));
}

// Of one query the weights e^(scale x - most), 0 for keys that it does not see; returns {most, 1 / their sum}.
struct Top {
    float most, share;
};

static Top weigh(float *x, int seen, int filled, float scale) {
    Floats top = same(-INFINITY), total = zeros();
    hide(x, seen, filled);
    for (int s = 0; s < filled; s += LANES) top = maximum(top, load(x + s));
    const float most = scale * largest(top);
    for (int s = 0; s < filled; s += LANES) {
        const Floats weight = exponential(multiply_add(load(x + s), same(scale), same(-most)));
        total = total + weight;
        store(x + s, weight);
    }
    return {most, 1 / sum(total)};
}

static void forward(const Causal &c, const Piece &p, int head) {
    const int64_t row = (int64_t)c.heads * c.width, kv_row = (int64_t)c.kv_heads * c.width;
    const float *values = c.v + p.start * kv_row + (int64_t)p.head * c.width;
    for (int first = 0; first < p.count; first += TILE) {
        const int rows = p.count - first < TILE ? p.count - first : TILE;
        const int filled = vectors_for(first + rows) * LANES;
        score(c, p, head, first, rows);
        float *y = c.y + (p.start + first) * row + (int64_t)head * c.width;
        float *tops = c.tops + ((int64_t)head * c.tokens + p.start + first) * 2;
        for (int i = 0; i < rows; i++) {
            const Top top = weigh(p.scores + i * p.padded, first + i + 1, filled, c.scale);
            tops[2 * i] = top.most;
            tops[2 * i + 1] = top.share;
        }
        multiply({p.scores, p.padded, 1, values, kv_row, y, row}, rows, first + rows, c.width / LANES, false);
        for (int i = 0; i < rows; i++)
            for (int k = 0; k < c.width; k += LANES)
                store(y + i * row + k, load(y + i * row + k) * same(tops[2 * i + 1]));
    }
}

static void backward(const Causal &c, const Piece &p, int head) {
    const int64_t row = (int64_t)c.heads * c.width, kv_row = (int64_t)c.kv_heads * c.width;
    const int64_t at = p.start * kv_row + (int64_t)p.head * c.width;
    for (int first = 0; first < p.count; first += TILE) {
        const int rows = p.count - first < TILE ? p.count - first : TILE, seen = first + rows;
        const int vectors = vectors_for(seen);
        const int64_t mine = (p.start + first) * row + (int64_t)head * c.width;
        const float *dy = c.dy + mine, *y = c.y + mine, *q = c.q + mine;
        const float *tops = c.tops + ((int64_t)head * c.tokens + p.start + first) * 2;
        score(c, p, head, first, rows);
        multiply({dy, row, 1, p.values, p.padded, p.slopes, p.padded}, rows, c.width, vectors, false);
        for (int i = 0; i < rows; i++) {
            float *weights = p.scores + i * p.padded, *slopes = p.slopes + i * p.padded;
            Floats product = zeros();
            for (int k = 0; k < c.width; k += LANES)
                product = multiply_add(load(dy + i * row + k), load(y + i * row + k), product);
            const Floats known = same(sum(product)), scale = same(c.scale), share = same(tops[2 * i + 1]);
            const Floats most = same(-tops[2 * i]);
            hide(weights, first + i + 1, vectors * LANES);
            for (int s = 0; s < vectors * LANES; s += LANES) {
                const Floats weight = exponential(multiply_add(load(weights + s), scale, most)) * share;
                store(weights + s, weight);
                store(slopes + s, weight * (load(slopes + s) - known) * scale);
            }
        }
        multiply({p.slopes, p.padded, 1, c.k + at, kv_row, c.dq + mine, row}, rows, seen, c.width / LANES, false);
        multiply({p.slopes, 1, p.padded, q, row, c.dk + at, kv_row}, seen, rows, c.width / LANES, true);
        multiply({p.scores, 1, p.padded, dy, row, c.dv + at, kv_row}, seen, rows, c.width / LANES, true);
    }
}

constexpr std::align_val_t CACHE_LINE{64};  // a load that lies in two of them takes twice as long

struct Free {
    void operator()(float *room) const { ::operator delete[](room, CACHE_LINE); }
};

// work(piece, head) for this thread's pieces, and each query head of theirs.
template <typename Work> static void pieces(const Causal &c, bool back, int thread, int threads, const Work &work) {
    int longest = 0;
    for (int i = 0; i < c.sequences; i++) {
        const int count = c.starts[i + 1] - c.starts[i];
        longest = count > longest ? count : longest;
    }
    const int64_t padded = (int64_t)vectors_for(longest) * LANES;
    const std::unique_ptr<float[], Free> room(new (CACHE_LINE) float[(c.width + TILE) * padded * (back ? 2 : 1)]);
    for (int64_t one = thread; one < (int64_t)c.sequences * c.kv_heads; one += threads) {
        const int sequence = (int)(one / c.kv_heads), head = (int)(one % c.kv_heads), start = c.starts[sequence];
        const int count = c.starts[sequence + 1] - start;
        Piece p = {start, count, vectors_for(count) * LANES, head, room.get(), nullptr, nullptr, nullptr};
        p.scores = p.keys + (int64_t)c.width * p.padded;
        p.values = p.scores + (int64_t)TILE * p.padded;
        p.slopes = p.values + (int64_t)c.width * p.padded;
        const int64_t row = (int64_t)c.kv_heads * c.width, at = start * row + (int64_t)head * c.width;
        transpose(c.k + at, row, count, c.width, p.keys, p.padded);
        if (back) transpose(c.v + at, row, count, c.width, p.values, p.padded);
        for (int h = head * (c.heads / c.kv_heads); h < (head + 1) * (c.heads / c.kv_heads); h++) work(p, h);
    }
}

EXPORT void causal(const Causal *c, int thread, int threads) {
    pieces(*c, false, thread, threads, [&](const Piece &p, int head) { forward(*c, p, head); });
}

// Adds to dk and dv, which begin as zeros; writes dq.
EXPORT void causal_back(const Causal *c, int thread, int threads) {
    pieces(*c, true, thread, threads, [&](const Piece &p, int head) { backward(*c, p, head); });
}
