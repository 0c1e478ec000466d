// What every step of docs/concepts/matmul.md is given, and how its outputs are shared among threads.
//
// The steps are here to be read and measured (`cutaway compare matmul`): models run on multiply_exact.cpp and
// multiply_int8.cpp, one folder up, which are these steps for any format, any number of rows and any shape.
// Read next: scalar.cpp

#pragma once
#include <cstddef>
#include <cstdint>

#include "../export.h"
#include "../pool.h"

// y = x w^T, w a matrix of `outputs` rows and `inputs` columns in q4_0: 32 columns of a row share a scale.
struct Product {
    const uint8_t *codes;    // blocks as a GGUF file holds them, or the codes of strips (pack.py)
    const uint16_t *scales;  // of strips, fp16; blocks hold their own
    const float *x;          // (rows, inputs)
    float *y;                // (rows, outputs)
    int32_t rows;
    int32_t outputs;  // a multiple of 16
    int32_t inputs;   // a multiple of 32
    int32_t threads;
};

// Calls body(output) for every `unit`-th output. Each thread has a run of them, and so of the matrix.
template <typename Body> static inline void share(const Product &p, int unit, const Body &body) {
    const int64_t units = p.outputs / unit;
    parallel(p.threads, [&](int thread, int all) {
        for (int64_t i = units * thread / all; i < units * (thread + 1) / all; i++) body((int)i * unit);
    });
}
