// The turn of a head by its position (ops/rope.py), for those who turn heads: new ones and kept ones.
// Read next: rotate.cpp, rolling.cpp

#pragma once
#include "vector.h"

// y = x cos + swap(x) sin, where swap exchanges the two of each pair. Halves far apart ("half-split") are vectors of
// their own; neighbours ("interleaved") would need shuffles, and are so few that they go one by one.
static inline void turn(float *x, const float *cos, const float *sin, int turned, bool interleaved) {
    const int half = turned / 2;
    if (interleaved) {
        for (int k = 0; k < turned; k += 2) {
            const float a = x[k], b = x[k + 1];
            x[k] = a * cos[k] + b * sin[k];
            x[k + 1] = b * cos[k + 1] + a * sin[k + 1];
        }
        return;
    }
    for (int k = 0; k < half; k += LANES) {
        const int lanes = half - k < LANES ? half - k : LANES;
        const Floats a = load_some(x + k, lanes), b = load_some(x + half + k, lanes);
        const Floats first = multiply_add(b, load_some(sin + k, lanes), a * load_some(cos + k, lanes));
        const Floats second = multiply_add(a, load_some(sin + half + k, lanes), b * load_some(cos + half + k, lanes));
        store_some(x + k, first, lanes);
        store_some(x + half + k, second, lanes);
    }
}
