// Norms: each row brought to unit scale, then weighted. The torch sibling is `norm_readable` in norm.py.
//
//     rms:    y = x / sqrt(mean(x^2) + eps) * (offset + weight)
//     layer:  y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * weight + bias
// A row is a run of `width` floats. Rows may lie anywhere: `inner` of them side by side (the heads of one token), then
// a step of `outer` floats to the next token's. A row is worked on by one thread.
// Read next: vector.h, activations.h, rotate.cpp

#include <cmath>

#include "activations.h"
#include "export.h"

struct Norm {  // the same fields, in the same order, as `Norm` in norm.py
    const float *x;
    const float *weight;
    const float *bias;       // or null
    float *y;                // or null: then `tiles` alone
    const int32_t *chosen;   // the rows to norm, or null: all. Results lie side by side
    Activations tiles;       // the result as a matmul reads it; rows 0: not wanted
    int64_t x_outer, y_outer;
    int32_t count, inner, width;
    int32_t centred;         // 1: layer norm
    int32_t adds;            // 1: y += instead of y =
    float eps, offset;
};

// sum over the row of (x - middle)^2, or of x where `squared` is false
static float summed(const float *x, int width, float middle, bool squared) {
    Floats even = zeros(), odd = zeros();  // two sums: an addition need not wait for the one before it
    int k = 0;
    for (; k + 2 * LANES <= width; k += 2 * LANES) {
        const Floats a = load(x + k) - same(middle), b = load(x + k + LANES) - same(middle);
        even = squared ? multiply_add(a, a, even) : even + a;
        odd = squared ? multiply_add(b, b, odd) : odd + b;
    }
    float total = sum(even + odd);
    for (; k < width; k++) total += squared ? (x[k] - middle) * (x[k] - middle) : x[k] - middle;
    return total;
}

// Sixteen results from column k on; columns from `width` on are none and come out as 0.
static inline Floats normed(const Norm &n, const float *x, int k, float middle, float scale) {
    const int left = n.width - k;
    if (left >= LANES) {
        const Floats unit = (load(x + k) - same(middle)) * same(scale);
        const Floats y = unit * (load(n.weight + k) + same(n.offset));
        return n.bias ? y + load(n.bias + k) : y;
    }
    const Floats unit = (load_some(x + k, left) - same(middle)) * same(scale);
    const Floats y = unit * (load_some(n.weight + k, left) + same(n.offset));
    return n.bias ? y + load_some(n.bias + k, left) : y;
}

EXPORT void norm(const Norm *given, int thread, int threads) {
    const Norm &n = *given;
    // Rows that lie side by side: scales of neighbouring rows share a cache line, which two threads would fight over.
    for (int row = (int)((int64_t)n.count * thread / threads); row < (int64_t)n.count * (thread + 1) / threads; row++) {
        const int source = n.chosen ? n.chosen[row] : row;
        const float *x = n.x + source / n.inner * n.x_outer + source % n.inner * (int64_t)n.width;
        float *y = n.y ? n.y + row / n.inner * n.y_outer + row % n.inner * (int64_t)n.width : nullptr;
        const float middle = n.centred ? summed(x, n.width, 0, false) / n.width : 0;
        const float scale = 1 / std::sqrt(summed(x, n.width, middle, true) / n.width + n.eps);
        for (int k = 0; y && k < n.width; k += LANES) {
            const int lanes = n.width - k < LANES ? n.width - k : LANES;
            Floats result = normed(n, x, k, middle, scale);
            if (n.adds) result = result + load_some(y + k, lanes);
            store_some(y + k, result, lanes);
        }
        for (int group = 0; n.tiles.rows && group < n.width / GROUP; group++)
            put(n.tiles, row, group, normed(n, x, group * GROUP, middle, scale),
                normed(n, x, group * GROUP + LANES, middle, scale));
    }
}
