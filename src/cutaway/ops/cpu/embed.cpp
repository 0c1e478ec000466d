// Rows of a token table to floats: only those that are looked up are unpacked. The torch sibling is `embed_readable` in
// embed.py.
//
// The table lies as in its file, in blocks of a few integers and the scale they share; the layouts are drawn in
// ops/blocks/small.py and ops/blocks/superblocks.py, and each function below is the namesake of one there: it unpacks one
// block. A row is a few hundred numbers in each step of a model, so plain loops do.   Read next: ops/blocks/small.py

#include "cache.h"
#include "export.h"

enum Format { F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K };  // as FORMATS in embed.py

struct Embed {  // the same fields, in the same order, as `Embed` in embed.py
    const uint8_t *table;
    const int32_t *ids;  // [count]
    float *y;            // [count][width]
    int64_t row_bytes;
    int32_t count, width, format;
    float scale;         // what numbers are multiplied by (Gemma: the square root of the width)
};

static float half_at(const uint8_t *p) {
    uint16_t halves[LANES] = {0};
    std::memcpy(halves, p, 2);
    float wide[LANES];
    store(wide, from_halves(halves));
    return wide[0];
}
static int fifth_bit(const uint8_t *bits, int place) { return bits[place / 8] >> place % 8 & 1; }

static void q4_0(const uint8_t *b, float *y) {
    for (int i = 0; i < 32; i++) y[i] = half_at(b) * ((i < 16 ? b[2 + i] & 15 : b[i - 14] >> 4) - 8);
}
static void q4_1(const uint8_t *b, float *y) {
    for (int i = 0; i < 32; i++) y[i] = half_at(b) * (i < 16 ? b[4 + i] & 15 : b[i - 12] >> 4) + half_at(b + 2);
}
static void q5_0(const uint8_t *b, float *y) {
    for (int i = 0; i < 32; i++)
        y[i] = half_at(b) * ((i < 16 ? b[6 + i] & 15 : b[i - 10] >> 4) + 16 * fifth_bit(b + 2, i) - 16);
}
static void q5_1(const uint8_t *b, float *y) {
    for (int i = 0; i < 32; i++) {
        const int q = (i < 16 ? b[8 + i] & 15 : b[i - 8] >> 4) + 16 * fifth_bit(b + 4, i);
        y[i] = half_at(b) * q + half_at(b + 2);
    }
}
static void q8_0(const uint8_t *b, float *y) {
    for (int i = 0; i < 32; i++) y[i] = half_at(b) * (int8_t)b[2 + i];
}

// Scale and minimum of sub-block j of q4_k and q5_k: 6 bits each, the upper two of the last four stand above the others.
static void level(const uint8_t *s, int j, int *scale, int *minimum) {
    *scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
    *minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
}
static void q4_k(const uint8_t *b, float *y) {
    for (int i = 0; i < 256; i++) {
        int scale, minimum;
        level(b + 4, i / 32, &scale, &minimum);
        const int pair = b[16 + i / 64 * 32 + i % 32], q = i / 32 % 2 ? pair >> 4 : pair & 15;
        y[i] = half_at(b) * scale * q - half_at(b + 2) * minimum;
    }
}
static void q5_k(const uint8_t *b, float *y) {
    for (int i = 0; i < 256; i++) {
        int scale, minimum;
        level(b + 4, i / 32, &scale, &minimum);
        const int pair = b[48 + i / 64 * 32 + i % 32], low = i / 32 % 2 ? pair >> 4 : pair & 15;
        const int q = low + 16 * (b[16 + i % 32] >> i / 32 & 1);
        y[i] = half_at(b) * scale * q - half_at(b + 2) * minimum;
    }
}
static void q6_k(const uint8_t *b, float *y) {
    for (int i = 0; i < 256; i++) {
        const int part = i / 128, place = i % 128;
        const int pair = b[part * 64 + place % 64], low = place < 64 ? pair & 15 : pair >> 4;
        const int high = b[128 + part * 32 + place % 32] >> place / 32 * 2 & 3;
        y[i] = half_at(b + 208) * (int8_t)b[192 + i / 16] * ((low | high << 4) - 32);
    }
}

static void row(const Embed &e, const uint8_t *from, float *y) {
    void (*const unpack[])(const uint8_t *, float *) = {q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k};
    const int bytes[] = {18, 20, 22, 24, 34, 144, 176, 210};
    if (e.format >= Q4_0) {
        const int kind = e.format - Q4_0, weights = e.format >= Q4_K ? 256 : 32;
        for (int k = 0; k < e.width; k += weights, from += bytes[kind]) unpack[kind](from, y + k);
        return;
    }
    for (int k = 0; k < e.width; k++) {
        if (e.format == F32) {
            std::memcpy(y + k, from + 4 * k, 4);
        } else if (e.format == F16) {
            y[k] = half_at(from + 2 * k);
        } else {
            uint16_t bits;
            std::memcpy(&bits, from + 2 * k, 2);
            y[k] = bits_of<float>((uint32_t)bits << 16);
        }
    }
}

EXPORT void embed(const Embed *given, int thread, int threads) {
    const Embed &e = *given;
    for (int i = thread; i < e.count; i += threads) {
        float *y = e.y + (int64_t)i * e.width;
        row(e, e.table + e.ids[i] * e.row_bytes, y);
        for (int k = 0; e.scale != 1 && k < e.width; k++) y[k] *= e.scale;
    }
}
