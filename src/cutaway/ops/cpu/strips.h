// A packed matrix, and the products that kernels and lists of operations make of it.
//
// Sixteen rows of the matrix (outputs) make a strip, one row in each lane, so that sixteen outputs come out of one
// register without any sum across lanes. pack.py packs them and draws the layout.
// Read next: multiply_exact.cpp, multiply_int8.cpp

#pragma once
#include "activations.h"
#include "pool.h"

// How weights are held; pack.py has the same numbers. w = scale (q - centre) + offset, 32 columns to a scale.
enum Kind {
    NIBBLES = 0,              // 4 bits, centre 8, scale fp16                      q4_0
    NIBBLES_OFFSET = 1,       // 4 bits, centre 0, scale and offset fp16           q4_1
    NIBBLES_OFFSET_WIDE = 2,  // the same, scale and offset fp32                   q4_k
    BYTES = 3,                // 8 bits, centre 128, scale fp16                    q8_0
    FIVES_OFFSET = 4,         // 5 bits, centre 0, scale and offset fp16           q5_1
    BYTES_OFFSET_WIDE = 5,    // 8 bits, centre 0, scale and offset fp32           int8z
    SIXES_PAIRS_WIDE = 6,     // 6 bits, centre 32, 16 columns to a scale, fp32    q6_k
    HALVES = 7,               // fp16 itself
    BFLOATS = 8,              // bfloat16 itself
    FLOATS = 9,               // fp32 itself
    FIVES = 10,               // 5 bits, centre 16, scale fp16                     q5_0
    FIVES_OFFSET_WIDE = 11,   // 5 bits, centre 0, scale and offset fp32           q5_k
};

// What a kind's name says, for a kernel that is compiled for each kind.
template <int kind> struct Layout {
    static constexpr bool plain = kind == HALVES || kind == BFLOATS || kind == FLOATS;
    static constexpr bool fives = kind == FIVES || kind == FIVES_OFFSET || kind == FIVES_OFFSET_WIDE;
    static constexpr bool pairs = kind == SIXES_PAIRS_WIDE;
    static constexpr int bits =
        kind <= NIBBLES_OFFSET_WIDE ? 4 : fives ? 5 : pairs ? 6 : kind == FLOATS ? 32 : plain ? 16 : 8;
    static constexpr bool wide_offset =
        kind == NIBBLES_OFFSET_WIDE || kind == BYTES_OFFSET_WIDE || kind == FIVES_OFFSET_WIDE;
    static constexpr bool wide = wide_offset || pairs;
    static constexpr bool offset = wide_offset || kind == NIBBLES_OFFSET || kind == FIVES_OFFSET;
    static constexpr int centre = plain || offset ? 0 : 1 << (bits - 1);
    static constexpr int scales = plain ? 0 : pairs ? 2 : 1;                            // for each group of a row
    static constexpr int code_bytes = GROUP * LANES * bits / 8;                         // a group of a strip
    static constexpr int scale_bytes = scales * LANES * (wide ? 4 : 2);                 // the same
};

template <bool wide> static inline Floats load_scale(const uint8_t *from) {
    return wide ? load((const float *)from) : from_halves((const uint16_t *)from);
}

// Weights are read once, in order, and memory takes long to answer: it is asked for them this many bytes ahead.
constexpr int AHEAD = 4096;
static inline void fetch(const uint8_t *from) { _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0); }

struct Strips {
    const uint8_t *codes;  // [strip][group][quarter or eighth][row][4 bytes], bits above the fourth behind a group's
    const void *scales;    // [strip][group][row], or [strip][group][half][row]
    const void *offsets;   // the same, or null
    int32_t rows;          // outputs; the last strip may be part empty
    int32_t groups;        // columns / 32
    int32_t kind;
};

// Where products go: y[row * stride + output] = product (+ bias[output]) (+ what was there, if `add`).
struct Output {
    float *y;
    size_t stride;
    const float *bias;  // or null
    bool add;
};

struct Product {  // the same fields, in the same order, as `Product` in list.py
    Strips w;
    Activations x;
    Output out;
};

// Stores the sums of one strip and the first `used` rows of a tile that begins at `row`.
static inline void put_out(const Output &out, const Strips &w, int strip, int row, int used, const Floats *sums) {
    const int left = w.rows - strip * LANES, lanes = left < LANES ? left : LANES;
    for (int r = 0; r < used; r++) {
        float *y = out.y + (size_t)(row + r) * out.stride + (size_t)strip * LANES;
        Floats result = sums[r];
        if (out.bias) result = result + load_some(out.bias + strip * LANES, lanes);
        if (lanes == LANES) {
            store(y, out.add ? result + load(y) : result);
        } else {
            store_some(y, out.add ? result + load_some(y, lanes) : result, lanes);
        }
    }
}

static inline int strips_of(const Strips &w) { return (w.rows + LANES - 1) / LANES; }

// The outputs of strips `first` to `end` - 1 for all rows of x: what one thread does. Any thread may do any strips.
// x holds floats or codes; HALVES, BFLOATS and FLOATS take floats alone.
void multiply_strips(const Strips &w, const Activations &x, const Output &out, int first, int end);

// The walk over strips and tiles, the same for both forms. `Form<kind, rows>::strip` says what the sums of one strip are,
// for the tile of rows of x that begins at `row`; it is given where that strip's codes, scales and offsets begin.
template <template <int, int> class Form, int kind, int rows>
__attribute__((noinline)) static void tile(const Strips &w, const Activations &x, const Output &out, int row, int first,
                                           int end) {
    using L = Layout<kind>;
    const int used = x.rows - row < rows ? x.rows - row : rows;
    for (int strip = first; strip < end; strip++) {
        const size_t group = (size_t)strip * w.groups;
        Floats sums[rows];
        Form<kind, rows>::strip(w.codes + group * L::code_bytes, (const uint8_t *)w.scales + group * L::scale_bytes,
                                (const uint8_t *)w.offsets + group * L::scale_bytes, x, row, w.groups, sums);
        put_out(out, w, strip, row, used, sums);
    }
}

template <template <int, int> class Form, int kind>
static void all_tiles(const Strips &w, const Activations &x, const Output &out, int first, int end, int done = 0) {
    for (int row = done; row < x.rows; row += MOST_ROWS) switch (tile_for(x.rows - row)) {
#define ONE_TILE(rows) \
    case rows:         \
        tile<Form, kind, rows>(w, x, out, row, first, end); \
        break;
            FOR_ALL_TILES(ONE_TILE)
#undef ONE_TILE
        }
}

// The two forms of it, one in each source file.
void multiply_strips_exact(const Strips &w, const Activations &x, const Output &out, int first, int end);
void multiply_strips_int8(const Strips &w, const Activations &x, const Output &out, int first, int end);
