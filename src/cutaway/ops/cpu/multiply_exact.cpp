// Rows times a packed matrix in fp32: each weight becomes a float, on its way from memory, and is multiplied as one.
//
//     y[row][output] = sum over columns of x[row][column] * (scale * (q - centre) + offset)
//
// In Python, for one strip of sixteen outputs:
//     sums = zeros(rows, 16)
//     for column in range(columns):
//         w = codes[column] * scale[column // 32] + shift[column // 32]     # (16,): a weight of each output
//         for row in range(rows): sums[row] += w * x[row, column]           # one instruction, sixteen multiply-adds
// Nothing is rounded but fp32 sums. One row is bound by turning codes into floats, many rows by multiply-adds.
// Read next: multiply_int8.cpp, multiply.py (the same in torch)

#include "integers.h"
#include "strips.h"

// The weights of column 8 * eight + column of a group, one for each of the sixteen outputs, before scale and offset.
template <int bits> static inline Floats codes_of(const uint8_t *codes, int eight, int column) {
    return byte_at(bytes_of<bits>(codes, eight, column / 4), column % 4);
}

// Of half-bytes, 64 bytes hold eight columns: in each lane's four bytes, lower ones are columns 0 to 3, upper ones 4 to 7.
template <> inline Floats codes_of<4>(const uint8_t *codes, int eight, int column) {
    return nibble_at(load_lanes(codes + eight * 64), column < 4 ? 8 * column : 8 * (column - 4) + 4);
}

// What turns a code into a weight: scale (q - centre) + offset = scale q + shift. Exact where there is no offset: the shift
// is a power of two times the scale, and the sum has no more bits than scale and q together.
struct Line {
    Floats scale, shift;
};

// That of a group, or of half of it where sixteen columns share a scale.
template <int kind> static inline Line line_of(const uint8_t *scales, const uint8_t *offsets, int half) {
    using L = Layout<kind>;
    if constexpr (L::plain) return {zeros(), zeros()};
    const int at = half * LANES * (L::wide ? 4 : 2);
    const Floats scale = load_scale<L::wide>(scales + at);
    return {scale, L::offset ? load_scale<L::wide>(offsets + at) : scale * same(-L::centre)};
}

// The weights of a column of a group, one for each of the sixteen outputs.
template <int kind> static inline Floats weights_of(const uint8_t *codes, int eight, int column, const Line &line) {
    const int place = eight * 8 + column;
    if constexpr (kind == HALVES) return from_halves((const uint16_t *)codes + place * LANES);
    else if constexpr (kind == BFLOATS) return from_bfloats((const uint16_t *)codes + place * LANES);
    else if constexpr (kind == FLOATS) return load((const float *)codes + place * LANES);
    else return multiply_add(codes_of<Layout<kind>::bits>(codes, eight, column), line.scale, line.shift);
}

template <int kind> static inline bool next_line(int eight) {  // whether these eight columns begin with a scale of their own
    return eight % (Layout<kind>::scales == 2 ? 2 : 4) == 0;
}

// Sums of one strip times a tile of `rows` rows. `codes`, `scales` and `offsets` are the strip's first, x the tile's.
template <int kind, int rows>
static inline void strip_times_tile(const uint8_t *codes, const uint8_t *scales, const uint8_t *offsets, const float *x,
                                    int groups, Floats *sums) {
    using L = Layout<kind>;
    // A multiply-add takes four cycles, and one can begin every half or whole cycle: a single running sum would wait for
    // itself. With few rows the columns take turns between several sums, added up in the end.
    constexpr int turns = rows == 1 ? 4 : rows == 2 ? 2 : 1;
    Floats running[rows * turns];
    for (Floats &one : running) one = zeros();

    for (int group = 0; group < groups; group++) {
        for (int byte = 0; byte < L::code_bytes; byte += 64) fetch(codes + byte);
        Line line = {zeros(), zeros()};
        for (int eight = 0; eight < GROUP / 8; eight++) {  // eight columns at a time: 64 bytes of half-bytes
            if (next_line<kind>(eight)) line = line_of<kind>(scales, offsets, eight / 2);
#pragma GCC unroll 8
            for (int column = 0; column < 8; column++) {
                const Floats w = weights_of<kind>(codes, eight, column, line);
#pragma GCC unroll 16
                for (int row = 0; row < rows; row++) {
                    Floats &one = running[column % turns * rows + row];
                    one = multiply_add(w, same(x[row * GROUP + column]), one);
                }
            }
            x += 8;
        }
        codes += L::code_bytes;
        scales += L::scale_bytes;
        if (L::offset) offsets += L::scale_bytes;
        x += (rows - 1) * GROUP;  // the next group of the tile's first row
    }
    for (int row = 0; row < rows; row++) {
        sums[row] = running[row];
        for (int turn = 1; turn < turns; turn++) sums[row] = sums[row] + running[turn * rows + row];
    }
}

template <int kind, int rows> struct Exact {
    static void strip(const uint8_t *codes, const uint8_t *scales, const uint8_t *offsets, const Activations &x, int row,
                      int groups, Floats *sums) {
        strip_times_tile<kind, rows>(codes, scales, offsets, x.floats + (size_t)row * groups * GROUP, groups, sums);
    }
};

// ---- many rows: prompts. Weights of two strips are turned into floats for two groups of columns, 8 KB in the nearest
// cache, and serve all rows: each is turned once for all of them, and each number of x that is loaded is multiplied
// twice. Sums are made of the same products in the same order as in a tile, and come out the same bit for bit.

constexpr int DEEP = 2;               // groups at a time
constexpr int BLOCK = 8;              // rows at a time: with two strips sixteen sums, which stay in registers
constexpr int ROUND = 4 * MOST_ROWS;  // rows that weights are turned for
constexpr int LEAST = 2 * MOST_ROWS;  // of fewer a tile is as fast
constexpr bool ROOM = MOST_ROWS == 16;  // registers for it: AVX-512 has them

// The weights of one group of a strip, column by column.
template <int kind> static inline void turn(const Strips &w, int strip, int group, Floats *to) {
    using L = Layout<kind>;
    const size_t at = (size_t)strip * w.groups + group;
    const uint8_t *codes = w.codes + at * L::code_bytes, *scales = (const uint8_t *)w.scales + at * L::scale_bytes;
    const uint8_t *offsets = (const uint8_t *)w.offsets + (L::offset ? at * L::scale_bytes : 0);
    for (int byte = 0; byte < L::code_bytes; byte += 64) fetch(codes + byte);
    Line line = {zeros(), zeros()};
#pragma GCC unroll 4
    for (int eight = 0; eight < GROUP / 8; eight++) {
        if (next_line<kind>(eight)) line = line_of<kind>(scales, offsets, eight / 2);
#pragma GCC unroll 8
        for (int column = 0; column < 8; column++) to[eight * 8 + column] = weights_of<kind>(codes, eight, column, line);
    }
}

// Rows `row` to `row` + `count` - 1, whole tiles, times strips `strip` and `strip` + 1.
template <int kind>
__attribute__((noinline)) static void pair_times_many(const Strips &w, const Activations &x, const Output &out, int row,
                                                      int count, int strip) {
    Floats sums[ROUND][2], turned[2][DEEP * GROUP];
    for (int r = 0; r < count; r++) sums[r][0] = sums[r][1] = zeros();
    for (int group = 0; group < w.groups; group += DEEP) {
        const int deep = w.groups - group < DEEP ? w.groups - group : DEEP;
        for (int d = 0; d < deep; d++) {
            turn<kind>(w, strip, group + d, turned[0] + d * GROUP);
            turn<kind>(w, strip + 1, group + d, turned[1] + d * GROUP);
        }
        for (int first = 0; first < count; first += BLOCK) {
            Floats one[BLOCK], two[BLOCK];
#pragma GCC unroll 8
            for (int r = 0; r < BLOCK; r++) one[r] = sums[first + r][0], two[r] = sums[first + r][1];
            const float *from = x.floats + place_of(x, row + first, group) * GROUP;
            for (int d = 0; d < deep; d++, from += MOST_ROWS * GROUP)
#pragma GCC unroll 4
                for (int column = 0; column < GROUP; column++) {
                    const Floats a = turned[0][d * GROUP + column], b = turned[1][d * GROUP + column];
#pragma GCC unroll 8
                    for (int r = 0; r < BLOCK; r++) {
                        const Floats number = same(from[r * GROUP + column]);
                        one[r] = multiply_add(a, number, one[r]);
                        two[r] = multiply_add(b, number, two[r]);
                    }
                }
#pragma GCC unroll 8
            for (int r = 0; r < BLOCK; r++) sums[first + r][0] = one[r], sums[first + r][1] = two[r];
        }
    }
    for (int r = 0; r < count; r++) {
        put_out(out, w, strip, row + r, 1, &sums[r][0]);
        put_out(out, w, strip + 1, row + r, 1, &sums[r][1]);
    }
}

template <int kind> static void all_rows(const Strips &w, const Activations &x, const Output &out, int first, int end) {
    int done = 0;
    if constexpr (ROOM) {
        for (int left; (left = (x.rows - done) / MOST_ROWS * MOST_ROWS) >= LEAST;) {
            const int count = left < ROUND ? left : ROUND;
            int strip = first;
            for (; strip + 2 <= end; strip += 2) pair_times_many<kind>(w, x, out, done, count, strip);
            for (int row = done; row < done + count; row += MOST_ROWS)
                tile<Exact, kind, MOST_ROWS>(w, x, out, row, strip, end);
            done += count;
        }
    }
    all_tiles<Exact, kind>(w, x, out, first, end, done);
}

void multiply_strips_exact(const Strips &w, const Activations &x, const Output &out, int first, int end) {
    switch (w.kind) {
#define ONE_KIND(kind) \
    case kind: \
        return all_rows<kind>(w, x, out, first, end);
        ONE_KIND(NIBBLES)
        ONE_KIND(NIBBLES_OFFSET)
        ONE_KIND(NIBBLES_OFFSET_WIDE)
        ONE_KIND(BYTES)
        ONE_KIND(FIVES)
        ONE_KIND(FIVES_OFFSET)
        ONE_KIND(FIVES_OFFSET_WIDE)
        ONE_KIND(SIXES_PAIRS_WIDE)
        ONE_KIND(BYTES_OFFSET_WIDE)
        ONE_KIND(HALVES)
        ONE_KIND(BFLOATS)
        ONE_KIND(FLOATS)
#undef ONE_KIND
    }
}
