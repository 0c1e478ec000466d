// A mixture of experts: who works on which token, each expert's tokens side by side, and the sum of what they make.
//
//     y[token] = sum over its chosen experts of weight * expert(x[token])
// Between two lists torch would sort, gather, multiply and add; here which rows an expert has is decided while the list
// runs, and the products that stand in it are told how many rows there are this time, perhaps none. In Python:
//     route     chosen, weights = the rule of nn/experts/routers.py
//     share     order = sorted(choices, key=expert); each expert's products get their run of these rows
//     gather    rows = x[order // top_k]
//     combine   y[token] = sum(weights[token, j] * made[where[token, j]] for j in range(top_k))
// The torch siblings are in experts.py.   Read next: strips.h (products), list.cpp (`together`)

#include <cmath>

#include "curves.h"
#include "export.h"
#include "strips.h"

constexpr int MOST_EXPERTS = 1024;
constexpr float TINY = 1e-20f;  // as in nn/experts/routers.py: no sum that is divided by is 0

enum Rule { SOFTMAX_TOP, TOP_SOFTMAX, SIGMOID_TOP };  // as RULES in experts.py

struct Route {  // the same fields, in the same order, as `Route` in experts.py
    const float *logits;  // [count][experts]
    const float *bias;    // [experts], shifts the choice alone; or null
    int32_t *chosen;      // [count][top_k], the best first
    float *weights;       // [count][top_k]
    int32_t count, experts, top_k, rule, renormalise;
    int32_t groups, top_groups, two;  // 0 groups: any expert; two: a group is worth its two best
    float scale;
};

// The place of the highest score, the first of equal ones; it is then taken out.
static int take_best(float *scores, int count) {
    int best = 0;
    for (int i = 1; i < count; i++)
        if (scores[i] > scores[best]) best = i;
    scores[best] = -INFINITY;
    return best;
}

// Scores of experts outside of the best groups become minus infinity.
static void keep_groups(const Route &r, float *scores) {
    const int size = r.experts / r.groups;
    float worth[MOST_EXPERTS];
    bool kept[MOST_EXPERTS] = {false};
    for (int group = 0; group < r.groups; group++) {
        float first = -INFINITY, second = -INFINITY;
        for (int i = group * size; i < (group + 1) * size; i++) {
            if (scores[i] > first) {
                second = first;
                first = scores[i];
            } else if (scores[i] > second) {
                second = scores[i];
            }
        }
        worth[group] = r.two ? first + second : first;
    }
    for (int i = 0; i < r.top_groups; i++) kept[take_best(worth, r.groups)] = true;
    for (int i = 0; i < r.experts; i++)
        if (!kept[i / size]) scores[i] = -INFINITY;
}

EXPORT void route(const Route *given, int thread, int threads) {
    const Route &r = *given;
    float likely[MOST_EXPERTS], scores[MOST_EXPERTS];
    for (int row = thread; row < r.count; row += threads) {
        const float *logits = r.logits + (int64_t)row * r.experts;
        float most = logits[0], total = 0;
        for (int i = 1; i < r.experts; i++) most = logits[i] > most ? logits[i] : most;
        for (int i = 0; i < r.experts; i++) {
            likely[i] = r.rule == SIGMOID_TOP ? 1 / (1 + std::exp(-logits[i])) : std::exp(logits[i] - most);
            total += likely[i];
        }
        for (int i = 0; i < r.experts; i++) {
            if (r.rule == SOFTMAX_TOP) likely[i] /= total;
            // By logits where weights are a softmax over the chosen: probabilities of far ones would all be 0.
            scores[i] = r.rule == TOP_SOFTMAX ? logits[i] : r.bias ? likely[i] + r.bias[i] : likely[i];
        }
        if (r.groups) keep_groups(r, scores);
        int32_t *chosen = r.chosen + (int64_t)row * r.top_k;
        float *weights = r.weights + (int64_t)row * r.top_k, sum = 0;
        for (int j = 0; j < r.top_k; j++) {
            chosen[j] = take_best(scores, r.experts);
            weights[j] = likely[chosen[j]];
            sum += weights[j];
        }
        const bool shares = r.renormalise || r.rule == TOP_SOFTMAX;
        for (int j = 0; j < r.top_k; j++) weights[j] *= shares ? r.scale / (sum + TINY) : r.scale;
    }
}

// A product of one expert: where the activations of all experts begin, and where the results of all rows do.
struct Portion {  // the same fields, in the same order, as `Portion` in experts.py
    Product *product;
    Activations all;
    float *y;
    int32_t expert;
};

struct Share {  // the same fields, in the same order, as `Share` in experts.py
    const int32_t *chosen;    // [count][top_k]
    int32_t *order;           // [count * top_k]: of each row, its token; rows of one expert lie side by side
    int32_t *where;           // [count][top_k]: in which row each choice of a token stands
    int32_t *starts;          // [experts + 1]: the first row of each expert
    int32_t *tiles;           // [experts]: the same among activations, where each expert's last tile is filled up
    const Portion *portions;  // [portions_count]
    int32_t count, top_k, experts, portions_count;
};

// Room that so many rows take as tiles, in rows.
static inline int filled(int rows) { return (int)(places(rows, 1) / GROUP); }

// The activations of `rows` rows that begin `tiles` rows behind the first.
static Activations part_of(Activations all, int tiles, int rows) {
    const size_t groups = (size_t)tiles * all.groups;
    if (all.floats) {
        all.floats += groups * GROUP;
    } else {
        all.codes += groups * GROUP;
        all.scales += groups;
        all.totals += groups;
        all.firsts += groups;
    }
    all.rows = rows;
    return all;
}

EXPORT void share(const Share *given, int thread, int) {
    const Share &s = *given;
    if (thread) return;  // counting a few hundred choices takes less time than sharing them out
    const int choices = s.count * s.top_k;
    for (int i = 0; i <= s.experts; i++) s.starts[i] = 0;
    for (int i = 0; i < choices; i++) s.starts[s.chosen[i] + 1]++;
    for (int i = 0, tiles = 0; i < s.experts; i++) {
        s.tiles[i] = tiles;
        tiles += filled(s.starts[i + 1]);
        s.starts[i + 1] += s.starts[i];
    }
    int next[MOST_EXPERTS];
    for (int i = 0; i < s.experts; i++) next[i] = s.starts[i];
    for (int i = 0; i < choices; i++) {
        const int row = next[s.chosen[i]]++;
        s.order[row] = i / s.top_k;
        s.where[i] = row;
    }
    for (int i = 0; i < s.portions_count; i++) {
        const Portion &p = s.portions[i];
        const int first = s.starts[p.expert];
        p.product->x = part_of(p.all, s.tiles[p.expert], s.starts[p.expert + 1] - first);
        p.product->out.y = p.y + (size_t)first * p.product->out.stride;
    }
}

struct Gather {  // the same fields, in the same order, as `Gather` in experts.py
    const float *x;
    const int32_t *order;   // of each row, which row of x it is; or null: its own number
    const int32_t *starts, *tiles;
    Activations all;
    int64_t row;
    int32_t experts;
};

// Lays rows out as the products of their experts read them. Each thread takes rows that lie side by side.
EXPORT void gather(const Gather *given, int thread, int threads) {
    const Gather &g = *given;
    const int64_t all = g.starts[g.experts], begin = all * thread / threads, end = all * (thread + 1) / threads;
    for (int expert = 0; expert < g.experts; expert++) {
        const int first = g.starts[expert], rows = g.starts[expert + 1] - first;
        const Activations x = part_of(g.all, g.tiles[expert], rows);
        for (int row = 0; row < rows; row++) {
            if (first + row < begin || first + row >= end) continue;
            const float *from = g.x + (g.order ? g.order[first + row] : first + row) * g.row;
            for (int group = 0; group < x.groups; group++)
                put(x, row, group, load(from + group * GROUP), load(from + group * GROUP + LANES));
        }
    }
}

struct Combine {  // the same fields, in the same order, as `Combine` in experts.py
    const float *made;     // [count * top_k][width]
    const int32_t *where;  // [count][top_k]
    const float *weights;  // [count][top_k]
    float *y;              // [count][width]
    int32_t count, top_k, width, adds;
};

// Thread t of T takes an equal share of all columns of all tokens, sixteen at a time.
EXPORT void combine(const Combine *given, int thread, int threads) {
    const Combine &c = *given;
    const int64_t runs = (c.width + LANES - 1) / LANES, all = runs * c.count;
    for (int64_t one = all * thread / threads; one < all * (thread + 1) / threads; one++) {
        const int64_t token = one / runs;
        const int k = (int)(one % runs) * LANES, lanes = c.width - k < LANES ? c.width - k : LANES;
        float *y = c.y + token * c.width + k;
        Floats total = zeros();
        for (int j = 0; j < c.top_k; j++) {
            const int64_t choice = token * c.top_k + j;
            total = multiply_add(load_some(c.made + c.where[choice] * (int64_t)c.width + k, lanes),
                                 same(c.weights[choice]), total);
        }
        store_some(y, c.adds ? total + load_some(y, lanes) : total, lanes);
    }
}
