// Sixteen outputs at a time: one weight of each in the lanes of a register, activations still floats.
//
// For that the matrix is repacked once (pack.py draws it): sixteen rows become a strip, in which the same columns of all
// sixteen lie side by side. A lane is an output, so that no sum ever crosses lanes. `Floats` is sixteen floats, `Lanes`
// sixteen times four bytes (vector.h, integers.h).
// Read next: int8.cpp

#include "../integers.h"
#include "steps.h"

static Floats strip_times_row(const uint8_t *codes, const uint16_t *scales, const float *x, int groups) {
    Floats sums = zeros();
    for (int group = 0; group < groups; group++) {
        Floats dots[4] = {zeros(), zeros(), zeros(), zeros()};  // a multiply-add takes four cycles: four go at once
#pragma GCC unroll 4
        for (int eight = 0; eight < 4; eight++) {
            const Lanes bytes = load_lanes(codes);  // eight columns of sixteen outputs
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                dots[i] = multiply_add(nibble_at(bytes, 8 * i) - same(8), same(x[i]), dots[i]);
                dots[i] = multiply_add(nibble_at(bytes, 8 * i + 4) - same(8), same(x[i + 4]), dots[i]);
            }
            codes += 64;
            x += 8;
        }
        sums = multiply_add(from_halves(scales), (dots[0] + dots[1]) + (dots[2] + dots[3]), sums);
        scales += LANES;
    }
    return sums;
}

EXPORT void step_vector(const Product *p) {
    const int groups = p->inputs / 32;
    share(*p, LANES, [&](int output) {
        const size_t first = (size_t)(output / LANES) * groups;  // group of the strip that makes this output
        for (int row = 0; row < p->rows; row++)
            store(p->y + (size_t)row * p->outputs + output,
                  strip_times_row(p->codes + first * 256, p->scales + first * LANES, p->x + (size_t)row * p->inputs,
                                  groups));
    });
}
