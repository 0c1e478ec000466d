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
        Floats scale = zeros(), shift = zeros();
        for (int eight = 0; eight < GROUP / 8; eight++) {  // eight columns at a time: 64 bytes of half-bytes
            if (!L::plain && eight % (4 / (L::scales ? L::scales : 1)) == 0) {
                // scale (q - centre) + offset = scale q + shift. Exact where there is no offset: the shift is a power
                // of two times the scale, and the sum has no more bits than scale and q together.
                scale = load_scale<L::wide>(scales);
                shift = L::offset ? load_scale<L::wide>(offsets) : scale * same(-L::centre);
                scales += LANES * (L::wide ? 4 : 2);
                if (L::offset) offsets += LANES * (L::wide ? 4 : 2);
            }
#pragma GCC unroll 8
            for (int column = 0; column < 8; column++) {
                const int place = eight * 8 + column;
                Floats w;
                if constexpr (kind == HALVES) w = from_halves((const uint16_t *)codes + place * LANES);
                else if constexpr (kind == BFLOATS) w = from_bfloats((const uint16_t *)codes + place * LANES);
                else if constexpr (kind == FLOATS) w = load((const float *)codes + place * LANES);
                else w = multiply_add(codes_of<L::bits>(codes, eight, column), scale, shift);
#pragma GCC unroll 16
                for (int row = 0; row < rows; row++) {
                    Floats &one = running[column % turns * rows + row];
                    one = multiply_add(w, same(x[row * GROUP + column]), one);
                }
            }
            x += 8;
        }
        codes += L::code_bytes;
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

void multiply_strips_exact(const Strips &w, const Activations &x, const Output &out, int first, int end) {
    switch (w.kind) {
#define ONE_KIND(kind) \
    case kind: \
        return all_tiles<Exact, kind>(w, x, out, first, end);
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
