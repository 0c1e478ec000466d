// The other factor of a matmul: rows of x, laid out and perhaps rounded for it.
//
// A matmul kernel takes several rows of x at once (a tile), so that a weight that it has loaded serves them all, and goes
// through 32 columns (a group) at a time. Activations lie in the order in which it needs them: [tile][group][row][32].
// They are either floats, or int8 numbers with a scale for each group of each row:
//     x = scale * code,   scale = max |x| / 127,   code = round(x / scale)
// Whoever makes activations (a norm, a gate) may write them so at once, a group at a time, with `put`.
// Read next: strips.h, pack.py (`rounded` is the int8 form in Python)

#pragma once
#include "vector.h"

constexpr int GROUP = 32;

// Rows that a kernel takes at once are one of these; more need more registers than there are (32, or 16 with AVX2,
// where each holds half as much).
#if defined(__AVX512F__)
#define FOR_ALL_TILES(DO) DO(1) DO(2) DO(3) DO(4) DO(6) DO(8) DO(12) DO(16)
constexpr int MOST_ROWS = 16;
#else
#define FOR_ALL_TILES(DO) DO(1) DO(2) DO(3) DO(4)
constexpr int MOST_ROWS = 4;
#endif

// The smallest tile that holds so many rows.
static inline int tile_for(int rows) {
#define SMALLEST(size) \
    if (rows <= size) return size;
    FOR_ALL_TILES(SMALLEST)
#undef SMALLEST
    return MOST_ROWS;
}

// Rows beyond the last full tile are in one of a smaller size. Its unused rows hold whatever was there: they are
// multiplied too, and the products thrown away.
struct Activations {
    float *floats;    // [tile][group][row][32], or null where int8 numbers are
    int8_t *codes;    // the same
    float *scales;    // [tile][group][row]
    int32_t *totals;  // [tile][group][row]  the sum of a group's 32 codes
    int32_t *firsts;  // [tile][group][row]  the sum of its first 16 codes
    int32_t rows;
    int32_t groups;
};

// Floats (or codes) that `rows` rows take, those of the last tile that nobody uses counted.
static inline size_t places(int rows, int groups) {
    const int full = rows / MOST_ROWS * MOST_ROWS;
    return (size_t)(full + (rows > full ? tile_for(rows - full) : 0)) * groups * GROUP;
}

// Where the group of a row lies, counted in groups.
static inline size_t place_of(const Activations &x, int row, int group) {
    const int first = row / MOST_ROWS * MOST_ROWS;
    const int size = tile_for(x.rows - first);
    return (size_t)first * x.groups + (size_t)group * size + (row - first);
}

// Rounds sixteen floats of -127 to 127 to the nearest integers, ties to even, and returns their sum.
static inline int put_codes(int8_t *to, Floats x) {
#if defined(__AVX512F__)
    const __m512i codes = _mm512_cvtps_epi32(x.v);
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(codes));
    return _mm512_reduce_add_epi32(codes);
#else
    // int32 -> int16 -> int8 by "packing", which works on each half of a register by itself: the fours come out in the
    // order 0 2 1 3, and are put right on the way.
    const __m256i low = _mm256_cvtps_epi32(x.low), high = _mm256_cvtps_epi32(x.high);
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)to, bytes);
    int total = 0;
    for (int i = 0; i < LANES; i++) total += to[i];
    return total;
#endif
}

// Writes a group of a row: `low` its columns 0 to 15, `high` 16 to 31.
static inline void put(const Activations &x, int row, int group, Floats low, Floats high) {
    const size_t place = place_of(x, row, group);
    if (x.floats) {
        store(x.floats + place * GROUP, low);
        store(x.floats + place * GROUP + LANES, high);
        return;
    }
    const float most = largest(maximum(magnitude(low), magnitude(high)));
    const Floats inverse = same(most > 0 ? 127.0f / most : 0.0f);
    int8_t *codes = x.codes + place * GROUP;
    const int first = put_codes(codes, low * inverse), second = put_codes(codes + LANES, high * inverse);
    x.scales[place] = most / 127.0f;
    x.firsts[place] = first;
    x.totals[place] = first + second;
}
