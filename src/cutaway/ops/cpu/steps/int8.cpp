// Activations rounded to int8: one instruction multiplies 64 pairs of bytes. Then the same with memory asked ahead.
//
// A weight is no longer made a float. With x = d * code in groups of 32 as well (d = max |x| / 127),
//     sum of w x over a group = scale * d * (sum of q code - 8 * sum of code)
// and all that is in the brackets are integers. x is off by at most d / 2, which is what this step costs.
// Read next: multiply_int8.cpp, one folder up: a tile of rows at a time

#include <vector>

#include "../activations.h"
#include "../integers.h"
#include "steps.h"

constexpr int AHEAD = 4096;  // bytes

struct Group {
    int8_t codes[GROUP];
    float scale;
    int32_t total;  // of the codes
};

static Group rounded(const float *x) {
    Group group;
    const Floats low = load(x), high = load(x + LANES);
    const float most = largest(maximum(magnitude(low), magnitude(high)));
    const Floats inverse = same(most > 0 ? 127 / most : 0);
    group.scale = most / 127;
    group.total = put_codes(group.codes, low * inverse) + put_codes(group.codes + LANES, high * inverse);
    return group;
}

template <bool ahead>
static Floats strip_times_row(const uint8_t *codes, const uint16_t *scales, const Group *x, int groups) {
    Floats sums = zeros();
    for (int group = 0; group < groups; group++, x++) {
        const Lanes start = same_int(-8 * x->total);
        auto dot = Dot<4>::from(start);
#pragma GCC unroll 4
        for (int eight = 0; eight < 4; eight++) {
            const Lanes bytes = load_lanes(codes);
            if (ahead) _mm_prefetch((const char *)codes + AHEAD, _MM_HINT_T0);
            dot.add(low_nibbles(bytes), same_four(x->codes + 8 * eight));
            dot.add(high_nibbles(bytes), same_four(x->codes + 8 * eight + 4));
            codes += 64;
        }
        sums = multiply_add(to_floats(dot.sums(start)), from_halves(scales) * same(x->scale), sums);
        scales += LANES;
    }
    return sums;
}

template <bool ahead> static void multiply(const Product &p) {
    const int groups = p.inputs / GROUP;
    std::vector<Group> x((size_t)p.rows * groups);
    for (size_t group = 0; group < x.size(); group++) x[group] = rounded(p.x + group * GROUP);
    share(p, LANES, [&](int output) {
        const size_t first = (size_t)(output / LANES) * groups;
        for (int row = 0; row < p.rows; row++)
            store(p.y + (size_t)row * p.outputs + output,
                  strip_times_row<ahead>(p.codes + first * 256, p.scales + first * LANES, &x[(size_t)row * groups],
                                         groups));
    });
}

EXPORT void step_int8(const Product *p) { multiply<false>(*p); }
EXPORT void step_prefetch(const Product *p) { multiply<true>(*p); }
