// The rows of a rolling cache as attention reads them: those that stay, then those that roll, each key turned by the
// place at which it stands just now (nn/attention/sinks.py). Places change as the window rolls, so keys are kept as they
// were before they were turned, and every pass turns all that it reads. The torch sibling is `unroll_readable` in
// rolling.py.   Read next: turn.h, cache.h

#include "cache.h"
#include "export.h"
#include "turn.h"

struct Unroll {  // the same fields, in the same order, as `Unroll` in rolling.py
    const Cache *pinned, *rolling;
    const int32_t *span;     // rows that stay; the first that rolls and is seen; how many of these
    const float *cos, *sin;  // [place][turned], or null: nothing turns
    float *keys, *values;    // [row][head][width]
    int32_t turned, interleaved;
};

template <typename T> static void widen(float *to, const T *from, int width, float scale) {
    for (int k = 0; k < width; k += LANES) store(to + k, wide(from + k) * same(scale));
}

// One head, whatever it is kept in, as floats.
static void read_head(const Cache &c, const void *store_at, int64_t at, int width, float *to) {
    switch (c.kind) {
        case FLOAT32: widen(to, (const float *)store_at + at, width, 1); break;
        case FLOAT16: widen(to, (const Half *)store_at + at, width, 1); break;
        case BFLOAT16: widen(to, (const Bfloat *)store_at + at, width, 1); break;
        default: widen(to, (const int8_t *)store_at + at, width, scale_at(store_at, at, width));
    }
}

// Thread t of T takes heads of rows t, t + T, ...
EXPORT void unroll(const Unroll *given, int thread, int threads) {
    const Unroll &u = *given;
    const int staying = u.span[0], heads = u.rolling->kv_heads;
    const int64_t all = (int64_t)(staying + u.span[2]) * heads;
    for (int64_t one = thread; one < all; one += threads) {
        const int row = (int)(one / heads), head = (int)(one % heads);
        const Cache &c = row < staying ? *u.pinned : *u.rolling;
        const int64_t place = row_of(c, 0, row < staying ? row : u.span[1] + row - staying);
        float *key = u.keys + one * c.key_width;
        read_head(c, c.keys, place * c.key_row + head * c.key_head, c.key_width, key);
        read_head(c, c.values, place * c.value_row + head * c.value_head, c.value_width, u.values + one * c.value_width);
        if (u.cos) turn(key, u.cos + (int64_t)row * u.turned, u.sin + (int64_t)row * u.turned, u.turned, u.interleaved);
    }
}
