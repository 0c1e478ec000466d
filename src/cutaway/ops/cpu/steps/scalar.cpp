// Weights in 4 bits, unpacked one at a time: a seventh of the bytes, and a loop as slow as its arithmetic.
//
// The matrix is as it lies in a GGUF file. For each row of it, 18 bytes hold 32 weights:
//     w = scale * (q - 8)        scale fp16, q of 4 bits: weight i in the low half of byte i, i + 16 in the high one
// Nothing here is done to sixteen numbers at once: this library is compiled without the compiler's own vectors.
// Read next: vector.cpp

#include <immintrin.h>

#include "steps.h"

struct Block {
    uint16_t scale;
    uint8_t halves[16];
};

static float row_times_row(const Block *w, const float *x, int blocks) {
    float sum = 0;
    for (int block = 0; block < blocks; block++, w++, x += 32) {
        float dot = 0;
        for (int i = 0; i < 16; i++) {
            dot += ((w->halves[i] & 15) - 8) * x[i];
            dot += ((w->halves[i] >> 4) - 8) * x[i + 16];
        }
        sum += _cvtsh_ss(w->scale) * dot;  // fp16 to fp32
    }
    return sum;
}

EXPORT void step_scalar(const Product *p) {
    const int blocks = p->inputs / 32;
    share(*p, 1, [&](int output) {
        const Block *w = (const Block *)p->codes + (size_t)output * blocks;
        for (int row = 0; row < p->rows; row++)
            p->y[(size_t)row * p->outputs + output] = row_times_row(w, p->x + (size_t)row * p->inputs, blocks);
    });
}
