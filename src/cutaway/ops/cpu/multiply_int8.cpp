// Rows times a packed matrix with activations in int8: whole numbers are multiplied, and scaled once for each group.
//
//     y[row][output] = sum over groups of scale * xscale * (sum over 32 columns of (q - centre) code) + offset * xsum
//
// In Python, for one strip of sixteen outputs:
//     sums = zeros(rows, 16)
//     for group in range(groups):
//         for row in range(rows):
//             dots = (codes[group] - centre) @ x_codes[row, group]                    # (16, 32) @ (32,): integers
//             sums[row] += dots * (scale[group] * x_scale[row, group])
//             sums[row] += offset[group] * (x_scale[row, group] * x_total[row, group])
// The centre costs nothing: dots begin at -centre times the sum of the activations instead of 0. What is rounded is x, to
// within half of x_scale = max |x| / 127; pack.py states what follows for y.
// Read next: activations.h, integers.h, pack.py

#include "integers.h"
#include "strips.h"

// The integer products of columns 4 * first .. 4 * end - 1 of one group, for `rows` rows. `starts`: the sums of codes
// that the centre is taken off with.
template <int kind, int rows>
static inline void dots(const Lanes *w, const int8_t *x, const int32_t *starts, int first, int end, Lanes *results) {
    using L = Layout<kind>;
    using D = Dot<L::bits>;
    constexpr int off = L::centre - D::TAKEN;
    // An instruction waits for the one before it in the same sum: four rows take turns.
    constexpr int turns = rows % 4 == 0 ? 4 : rows % 3 == 0 ? 3 : rows;
#pragma GCC unroll 16
    for (int row = 0; row < rows; row += turns) {
        Lanes begins[turns];
        D running[turns];
#pragma GCC unroll 4
        for (int turn = 0; turn < turns; turn++) {
            // Unsigned: of a tile's unused rows these are sums of whatever was there, and may not fit.
            begins[turn] = same_int(off == 0 ? 0 : (int)(0u - (unsigned)off * (unsigned)starts[row + turn]));
            running[turn] = D::from(begins[turn]);
        }
#pragma GCC unroll 8
        for (int four = first; four < end; four++)
#pragma GCC unroll 4
            for (int turn = 0; turn < turns; turn++)
                running[turn].add(w[four], same_four(x + (row + turn) * GROUP + four * 4));
#pragma GCC unroll 4
        for (int turn = 0; turn < turns; turn++) results[row + turn] = running[turn].sums(begins[turn]);
    }
}

// Sums of one strip times a tile of `rows` rows; `place` is the tile's first group in x.
template <int kind, int rows>
static inline void strip_times_tile(const uint8_t *codes, const uint8_t *scales, const uint8_t *offsets,
                                    const Activations &x, size_t place, int groups, Floats *sums) {
    using L = Layout<kind>;
    constexpr int one = LANES * (L::wide ? 4 : 2);
    for (int row = 0; row < rows; row++) sums[row] = zeros();
    for (int group = 0; group < groups; group++) {
        Lanes w[8];  // four columns each
#pragma GCC unroll 8
        for (int four = 0; four < 8; four++) w[four] = bytes_of<L::bits>(codes, four / 2, four % 2);
        for (int byte = 0; byte < L::code_bytes; byte += 64) fetch(codes + byte);
        codes += L::code_bytes;

        const int8_t *x_codes = x.codes + place * GROUP;
        const float *x_scales = x.scales + place;
        Lanes results[rows];
        const Floats scale = load_scale<L::wide>(scales);
        if constexpr (L::scales == 2) {  // sixteen columns to a scale: two halves
            int32_t seconds[rows];
            for (int row = 0; row < rows; row++)
                seconds[row] = (int)((unsigned)x.totals[place + row] - (unsigned)x.firsts[place + row]);
            dots<kind, rows>(w, x_codes, x.firsts + place, 0, 4, results);
            for (int row = 0; row < rows; row++)
                sums[row] = multiply_add(to_floats(results[row]), scale * same(x_scales[row]), sums[row]);
            dots<kind, rows>(w, x_codes, seconds, 4, 8, results);
            const Floats other = load_scale<L::wide>(scales + one);
            for (int row = 0; row < rows; row++)
                sums[row] = multiply_add(to_floats(results[row]), other * same(x_scales[row]), sums[row]);
        } else {
            dots<kind, rows>(w, x_codes, x.totals + place, 0, 8, results);
#pragma GCC unroll 16
            for (int row = 0; row < rows; row++)
                sums[row] = multiply_add(to_floats(results[row]), scale * same(x_scales[row]), sums[row]);
        }
        if constexpr (L::offset) {
            const Floats offset = load_scale<L::wide>(offsets);
#pragma GCC unroll 16
            for (int row = 0; row < rows; row++)
                sums[row] = multiply_add(offset, same(x_scales[row] * (float)x.totals[place + row]), sums[row]);
            offsets += L::scale_bytes;
        }
        scales += L::scale_bytes;
        place += rows;
    }
}

template <int kind, int rows> struct Int8 {
    static void strip(const uint8_t *codes, const uint8_t *scales, const uint8_t *offsets, const Activations &x, int row,
                      int groups, Floats *sums) {
        strip_times_tile<kind, rows>(codes, scales, offsets, x, (size_t)row * groups, groups, sums);
    }
};

void multiply_strips_int8(const Strips &w, const Activations &x, const Output &out, int first, int end) {
    switch (w.kind) {
#define ONE_KIND(kind) \
    case kind: \
        return all_tiles<Int8, kind>(w, x, out, first, end);
        ONE_KIND(NIBBLES)
        ONE_KIND(NIBBLES_OFFSET)
        ONE_KIND(NIBBLES_OFFSET_WIDE)
        ONE_KIND(BYTES)
        ONE_KIND(FIVES)
        ONE_KIND(FIVES_OFFSET)
        ONE_KIND(FIVES_OFFSET_WIDE)
        ONE_KIND(SIXES_PAIRS_WIDE)
        ONE_KIND(BYTES_OFFSET_WIDE)
#undef ONE_KIND
    }
}
