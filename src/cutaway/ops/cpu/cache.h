// Where the keys and values of earlier tokens lie, for the kernels that write and read them.
//
// A slot is a place for one sequence; the key of its token number `place` is one row: `kv_heads` heads of numbers. Rows
// lie in pages of `page` rows, and `table` tells for each slot and page at which row of the whole store the page begins.
// A contiguous cache is the special case of one page for each slot. `keys + row * key_row + head * key_head` is where
// the numbers of one head begin; the same steps serve stores of (row, head, number) and of (head, row, number).
// Read next: rotate.cpp (writes), attention.cpp (reads)

#pragma once
#include <cstdint>

#include "curves.h"

enum Stored { FLOAT32 = 0, FLOAT16 = 1, BFLOAT16 = 2, INT8 = 3 };

struct Cache {  // the same fields, in the same order, as `Cache` in cache.py
    void *keys, *values;
    void *more;            // the rest of each key, where it lies apart (nn/attention/latent.py); or null
    const int64_t *table;  // [slot][width]
    int64_t key_row, key_head, value_row, value_head, more_row, more_head;
    int32_t kind, page, width, kv_heads, key_width, value_width, more_width;
};

// Of INT8, a head is its bytes and, behind them, two bytes of their scale in fp16: a number is worth `scale * byte`.
static inline float scale_at(const void *store_at, int64_t head, int width) {
    uint16_t bits;
    std::memcpy(&bits, (const int8_t *)store_at + head + width, 2);
    return from_half(bits);
}

static inline int64_t row_of(const Cache &c, int slot, int place) {
    return c.table[(int64_t)slot * c.width + place / c.page] + place % c.page;
}

// Types for numbers of two bytes, so that the compiler picks the conversion by the pointer's type.
struct Half {
    uint16_t bits;
};
struct Bfloat {
    uint16_t bits;
};
static inline Floats wide(const float *from) { return load(from); }
static inline Floats wide(const Half *from) { return from_halves((const uint16_t *)from); }
static inline Floats wide(const Bfloat *from) { return from_bfloats((const uint16_t *)from); }
static inline Floats wide(const int8_t *from) { return from_bytes(from); }
