// Activations, elementwise, and the gated product built on them: SwiGLU, GeGLU and their kin; or a plain activation.
//
//     y = activation(gate) * up          (where `up` is null: y = activation(gate))
// The formulas are in ops/activation.py; the torch sibling is `gate_readable` there. Work is cut into runs of 32 numbers
// of one row, the groups that share a scale where the result is wanted in bytes (activations.h); thread t of T takes an equal
// share of all runs.   Read next: curves.h

#include "activations.h"
#include "curves.h"
#include "export.h"

enum Activation { SIGMOID, TANH, RELU, GELU, GELU_TANH, QUICK_GELU, SILU, NONE };  // as ACTIVATIONS in gate.py

struct Gate {  // the same fields, in the same order, as `Gate` in gate.py
    const float *gate;
    const float *up;  // or null
    float *y;         // or null: then `tiles` alone
    Activations tiles;  // the result as a matmul reads it; rows 0: not wanted
    int64_t gate_row, up_row, y_row;
    int32_t count, width, activation;
};

static inline Floats sigmoid(Floats x) { return same(1) / (same(1) + exponential(zeros() - x)); }

static Floats activated(int activation, Floats x) {
    switch (activation) {
        case SIGMOID: return sigmoid(x);
        case TANH: return tanh_curve(x);
        case RELU: return maximum(zeros(), x);  // in this order NaN stays NaN: of two, the second is taken
        case GELU: return gelu_curve(x);
        case GELU_TANH: {
            const Floats inner = x * multiply_add(x * x, same(0.044715f * 0.7978845608f), same(0.7978845608f));
            return x * same(0.5f) * (same(1) + tanh_curve(inner));
        }
        case QUICK_GELU: return x * sigmoid(x * same(1.702f));
        case SILU: return x * sigmoid(x);
        default: return x;
    }
}

static inline Floats gated(const Gate &g, int row, int k, int lanes) {
    const Floats y = activated(g.activation, load_some(g.gate + row * g.gate_row + k, lanes));
    return g.up ? y * load_some(g.up + row * g.up_row + k, lanes) : y;
}

static inline int within(int lanes) { return lanes < 0 ? 0 : lanes > LANES ? LANES : lanes; }

EXPORT void gate(const Gate *given, int thread, int threads) {
    const Gate &g = *given;
    const int64_t runs = (g.width + GROUP - 1) / GROUP, all = runs * g.count;
    for (int64_t one = all * thread / threads; one < all * (thread + 1) / threads; one++) {
        const int row = (int)(one / runs), k = (int)(one % runs) * GROUP;
        const int first = within(g.width - k), second = within(g.width - k - LANES);
        const Floats low = gated(g, row, k, first), high = gated(g, row, k + LANES, second);
        if (g.y) {
            store_some(g.y + row * g.y_row + k, low, first);
            store_some(g.y + row * g.y_row + k + LANES, high, second);
        }
        if (g.tiles.rows) put(g.tiles, row, k / GROUP, low, high);
    }
}
