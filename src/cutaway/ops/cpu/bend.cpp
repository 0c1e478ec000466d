// GELU in training: the curve and its slope in one pass, so that the way back is one product.
//
//     y = x Phi(x),   slope = Phi(x) + x phi(x),   Phi(x) = 1/2 erfc(-x / sqrt 2),   phi(x) = e^(-x^2 / 2) / sqrt(2 pi)
// erfc by Abramowitz and Stegun 7.1.26, which is off by 1.5e-7 at most; e^(-x^2 / 2), which both need, is worked out once.
// The torch sibling is `gelu_readable` in bend.py; gate.cpp has the curve alone, exact also far out.
// Read next: curves.h

#include "curves.h"
#include "export.h"

struct Bend {  // the same fields, in the same order, as `Bend` in bend.py
    const float *x;
    float *y, *slope;
    int64_t count;
};

template <typename V> static inline void bent(V x, V *y, V *slope) {
    const V size = x < 0.0f ? -x : x, bell = exponential_of<V>(-0.5f * x * x);
    const V t = 1.0f / (1.0f + 0.23164189f * size);  // 0.3275911 / sqrt 2
    V p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    const V tail = 0.5f * p * t * bell, share = x < 0.0f ? tail : 1.0f - tail;
    *y = x * share;
    *slope = share + x * bell * 0.39894228f;
}

EXPORT void bend(const Bend *given, int thread, int threads) {
    const int64_t vectors = (given->count + LANES - 1) / LANES, end = vectors * (thread + 1) / threads * LANES;
    for (int64_t i = vectors * thread / threads * LANES; i < end; i += LANES) {
        const int lanes = given->count - i < LANES ? (int)(given->count - i) : LANES;
        const Floats x = load_some(given->x + i, lanes);
        Floats y, slope;
#if defined(__AVX512F__)
        bent(x.v, &y.v, &slope.v);
#else
        bent(x.low, &y.low, &slope.low);
        bent(x.high, &y.high, &slope.high);
#endif
        store_some(given->y + i, y, lanes);
        store_some(given->slope + i, slope, lanes);
    }
}
