// What happens to heads between their projection and attention: a norm, a turn by their position, a place in the cache.
//
//     q, k:  unit scale (QK-norm), then each pair of numbers (a, b) -> (a cos - b sin, b cos + a sin)
//     k, v:  written to the cache as fp32, fp16, bf16, or int8 with a scale for each head: byte = round(x / scale)
// All three are optional, so that one kernel serves models with and without each. A query under sinks turns twice: also
// by the place from which it looks at the first tokens (nn/attention/sinks.py). A row of `x` is what one token's
// projection gave: query heads, key heads, value heads, side by side. The torch sibling is `rotate_readable` in rotate.py;
// the tables are those of ops/rope.py: as wide as what turns, the sine with its sign.
// Read next: cache.h, attention.cpp

#include <cmath>

#include "cache.h"
#include "export.h"

struct Rotate {  // the same fields, in the same order, as `Rotate` in rotate.py
    float *x;                    // [count][row]; queries and keys are changed in place
    const float *cos, *sin;      // [..][turned]; null: nothing turns
    const int32_t *positions;    // the row of the tables for each token, or null: its own number
    const float *query_weight, *key_weight;  // of the norms of heads, or null
    const float *query_bias, *key_bias;      // of layer norms, or null
    const Cache *cache;          // or null: nothing is kept
    const int32_t *slots, *places;
    int64_t row;
    int32_t count, heads, kv_heads, width, turned, value_width;
    int32_t interleaved, centred;
    float eps, offset;
    float *far;                  // [count][row]: queries once more, where they turn no further than `most`; or null
    int32_t most;
};

// One head's unit scale, by the equations of norm.cpp.
static void to_unit(const Rotate &r, float *x, const float *weight, const float *bias) {
    Floats total = zeros();
    for (int k = 0; r.centred && k < r.width; k += LANES) total = total + load(x + k);
    const float middle = sum(total) / r.width;
    Floats squares = zeros();
    for (int k = 0; k < r.width; k += LANES) {
        const Floats part = load(x + k) - same(middle);
        squares = multiply_add(part, part, squares);
    }
    const float scale = 1 / std::sqrt(sum(squares) / r.width + r.eps);
    for (int k = 0; k < r.width; k += LANES) {
        const Floats y = (load(x + k) - same(middle)) * same(scale) * (load(weight + k) + same(r.offset));
        store(x + k, bias ? y + load(bias + k) : y);
    }
}

// y = x cos + swap(x) sin, where swap exchanges the two of each pair. Halves far apart ("half-split") are vectors of
// their own; neighbours ("interleaved") would need shuffles, and are so few that they go one by one.
static void turn(float *x, const float *cos, const float *sin, int turned, bool interleaved) {
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

static uint16_t to_bfloat(float x) {  // rounded to the nearest, ties to even; a NaN stays one
    const uint32_t bits = bits_of<uint32_t>(x);
    return x != x ? bits >> 16 | 64 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// One head of a token into the cache. The scale of int8 is max|x| / 127 rounded up to fp16: no number is cut off.
static void keep(const Cache &c, const float *x, int width, void *store_at, int64_t place) {
    if (c.kind == FLOAT32) {
        for (int k = 0; k < width; k += LANES) store((float *)store_at + place + k, load(x + k));
    } else if (c.kind == FLOAT16) {
        for (int k = 0; k < width; k += LANES) to_halves((uint16_t *)store_at + place + k, load(x + k));
    } else if (c.kind == BFLOAT16) {
        for (int k = 0; k < width; k++) ((uint16_t *)store_at)[place + k] = to_bfloat(x[k]);
    } else {
        Floats most = zeros();
        for (int k = 0; k < width; k += LANES) most = maximum(most, magnitude(load(x + k)));
        int8_t *bytes = (int8_t *)store_at + place;
        const uint16_t half = half_above(largest(most) / 127);
        const float scale = from_half(half);
        for (int k = 0; k < width; k++) bytes[k] = scale > 0 ? (int8_t)std::lrintf(x[k] / scale) : 0;
        std::memcpy(bytes + width, &half, 2);
    }
}

static void keep_head(const Rotate &r, const float *x, int token, int head, bool is_key) {
    const Cache &c = *r.cache;
    const int64_t row = row_of(c, r.slots[token], r.places[token]);
    if (is_key)
        keep(c, x, r.width, c.keys, row * c.key_row + head * c.key_head);
    else
        keep(c, x, r.value_width, c.values, row * c.value_row + head * c.value_head);
}

EXPORT void rotate(const Rotate *given, int thread, int threads) {
    const Rotate &r = *given;
    const int turning = r.heads + r.kv_heads, all = turning + (r.cache ? r.kv_heads : 0);
    for (int one = thread; one < r.count * all; one += threads) {
        const int token = one / all, head = one % all;
        float *x = r.x + token * r.row;
        if (head >= turning) {
            const float *value = x + (int64_t)turning * r.width + (int64_t)(head - turning) * r.value_width;
            keep_head(r, value, token, head - turning, false);
            continue;
        }
        x += (int64_t)head * r.width;
        const bool is_key = head >= r.heads;
        const float *weight = is_key ? r.key_weight : r.query_weight;
        if (weight) to_unit(r, x, weight, is_key ? r.key_bias : r.query_bias);
        const int64_t position = r.positions ? r.positions[token] : token;
        if (r.far && !is_key) {
            float *far = r.far + (x - r.x);
            const int64_t place = position < r.most ? position : r.most;
            std::memcpy(far, x, r.width * sizeof(float));
            turn(far, r.cos + place * r.turned, r.sin + place * r.turned, r.turned, r.interleaved);
        }
        if (r.cos) turn(x, r.cos + position * r.turned, r.sin + position * r.turned, r.turned, r.interleaved);
        if (is_key && r.cache) keep_head(r, x, token, head - r.heads, true);
    }
}
