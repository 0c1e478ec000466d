// Products of bytes: sixteen lanes of four small integers each, summed in 32 bits.
//
// A dot product of int8 numbers is where a CPU does the most arithmetic in one instruction: `vpdpbusd` takes 64 unsigned
// bytes (weights) and 64 signed ones (activations), multiplies them pair by pair, and adds each four neighbouring
// products to one of sixteen int32 sums. CPUs without it (AVX2 alone) do the same in three steps.
// Read next: multiply_int8.cpp

#pragma once
#include <cstring>

#include "vector.h"

// 64 bytes seen as sixteen lanes: of four bytes each, or of one int32.
#if defined(__AVX512F__)

struct Lanes {
    __m512i v;
};

static inline Lanes load_lanes(const uint8_t *from) { return {_mm512_loadu_si512(from)}; }
static inline Lanes same_int(int x) { return {_mm512_set1_epi32(x)}; }
static inline Lanes low_nibbles(Lanes a) { return {_mm512_and_si512(a.v, _mm512_set1_epi8(15))}; }
static inline Lanes high_nibbles(Lanes a) { return low_nibbles({_mm512_srli_epi16(a.v, 4)}); }
static inline Floats to_floats(Lanes a) { return {_mm512_cvtepi32_ps(a.v)}; }
// Byte `place` of each lane's four, 0 to 255, as a float.
static inline Floats byte_at(Lanes a, int place) {
    return {_mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(a.v, 8 * place), _mm512_set1_epi32(255)))};
}
// The half-byte that begins at `bit` of each lane, 0 to 15, as a float. It chooses one of the sixteen floats of a table:
// `vpermps` looks at no more than four bits of each lane, so that nothing has to be masked or converted.
static inline Floats nibble_at(Lanes a, int bit) {
    const __m512 table = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return {_mm512_permutexvar_ps(_mm512_srli_epi32(a.v, bit), table)};
}

// Adds `value` to those of the 64 bytes whose bit is set in the 64 at `bits`: what is kept apart from half-bytes.
static inline Lanes with_bit(Lanes a, const uint8_t *bits, int value) {
    __mmask64 mask;
    memcpy(&mask, bits, 8);
    return {_mm512_mask_add_epi8(a.v, mask, a.v, _mm512_set1_epi8((char)value))};
}

#else

struct Lanes {
    __m256i low, high;
};

static inline Lanes load_lanes(const uint8_t *from) {
    return {_mm256_loadu_si256((const __m256i *)from), _mm256_loadu_si256((const __m256i *)(from + 32))};
}
static inline Lanes same_int(int x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
static inline Lanes low_nibbles(Lanes a) {
    const __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(a.low, mask), _mm256_and_si256(a.high, mask)};
}
static inline Lanes high_nibbles(Lanes a) {
    return low_nibbles({_mm256_srli_epi16(a.low, 4), _mm256_srli_epi16(a.high, 4)});
}
static inline Floats to_floats(Lanes a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }
// `value` in each of 32 bytes whose bit is set, 0 in the others: byte i first gets the whole byte that its bit stands in,
// then all but that bit is taken away, and what is left is compared with it.
static inline __m256i at_bits(const uint8_t *bits, int value) {
    int four;
    memcpy(&four, bits, 4);
    const __m256i from = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3,
                                          3, 3, 3, 3, 3);
    const __m256i one = _mm256_set1_epi64x((long long)0x8040201008040201ull);
    const __m256i left = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(four), from), one);
    return _mm256_and_si256(_mm256_cmpeq_epi8(left, one), _mm256_set1_epi8((char)value));
}
// Adds `value` to those of the 64 bytes whose bit is set in the 64 at `bits`: what is kept apart from half-bytes.
static inline Lanes with_bit(Lanes a, const uint8_t *bits, int value) {
    return {_mm256_or_si256(a.low, at_bits(bits, value)), _mm256_or_si256(a.high, at_bits(bits + 4, value))};
}
static inline Floats bits_at(Lanes a, int bit, int mask) {
    const __m256i kept = _mm256_set1_epi32(mask);
    return to_floats({_mm256_and_si256(_mm256_srli_epi32(a.low, bit), kept),
                      _mm256_and_si256(_mm256_srli_epi32(a.high, bit), kept)});
}
// Byte `place` of each lane's four, 0 to 255, as a float.
static inline Floats byte_at(Lanes a, int place) { return bits_at(a, 8 * place, 255); }
// The half-byte that begins at `bit` of each lane, 0 to 15, as a float.
static inline Floats nibble_at(Lanes a, int bit) { return bits_at(a, bit, 15); }

#endif

// Sixty-four codes of 4, 5, 6 or 8 bits as bytes: four columns of a group that begins at `codes`, the upper or the lower
// four of its eight columns from 8 * eight. Five and six bits are half-bytes, and behind all those of a group the fifth
// bits of all, then the sixth.
template <int bits> static inline Lanes bytes_of(const uint8_t *codes, int eight, bool upper) {
    const int four = 2 * eight + upper;
    if constexpr (bits == 8) return load_lanes(codes + four * 64);
    const Lanes both = load_lanes(codes + eight * 64);
    Lanes bytes = upper ? high_nibbles(both) : low_nibbles(both);
    for (int bit = 4; bit < bits; bit++) bytes = with_bit(bytes, codes + 256 + (bit - 4) * 64 + four * 8, 1 << bit);
    return bytes;
}

// The four int8 numbers at `x` in every lane.
static inline Lanes same_four(const int8_t *x) {
    int four;
    memcpy(&four, x, 4);
    return same_int(four);
}

// A running dot product with weights of `bits` 4 (0 to 15) to 8 (0 to 255), that begins at `start` instead of 0:
//     auto dot = Dot<4>::from(start);  dot.add(weights, activations); ...;  Lanes sums = dot.sums(start);
// TAKEN is what `add` takes off every weight by the way; the caller takes off the rest of its centre in `start`.
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)

#if defined(__AVXVNNI__)
static inline __m256i four_products(__m256i sum, __m256i w, __m256i x) { return _mm256_dpbusd_avx_epi32(sum, w, x); }
#elif !defined(__AVX512F__)  // the same instruction as AVX-512 spells it: how this half is tested on a CPU without AVX-VNNI
static inline __m256i four_products(__m256i sum, __m256i w, __m256i x) { return _mm256_dpbusd_epi32(sum, w, x); }
#endif

template <int bits> struct Dot {
    static constexpr int TAKEN = 0;
    Lanes running;
    static inline Dot from(Lanes start) { return {start}; }
#if defined(__AVX512F__)
    inline void add(Lanes w, Lanes x) { running.v = _mm512_dpbusd_epi32(running.v, w.v, x.v); }
#else
    inline void add(Lanes w, Lanes x) {
        running.low = four_products(running.low, w.low, x.low);
        running.high = four_products(running.high, w.high, x.high);
    }
#endif
    inline Lanes sums(Lanes) const { return running; }
};

#else

static inline Lanes plus(Lanes a, Lanes b) {
    return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
// Neighbouring int16 pairs added to int32.
static inline Lanes widened(Lanes a) {
    const __m256i one = _mm256_set1_epi16(1);
    return {_mm256_madd_epi16(a.low, one), _mm256_madd_epi16(a.high, one)};
}

// Up to 6 bits two products fit, 63 * 127 * 2 = 16002, but not all of a group: each pair goes on in int32.
template <int bits> struct Dot {
    static constexpr int TAKEN = 0;
    Lanes running;
    static inline Dot from(Lanes) { return {same_int(0)}; }
    inline void add(Lanes w, Lanes x) {
        running = plus(running, widened({_mm256_maddubs_epi16(w.low, x.low), _mm256_maddubs_epi16(w.high, x.high)}));
    }
    inline Lanes sums(Lanes start) const { return plus(running, start); }
};

// `vpmaddubsw` adds pairs of products in int16. A group is eight such pairs: 8 * 2 * 15 * 127 = 30480 fits into int16.
template <> struct Dot<4> {
    static constexpr int TAKEN = 0;
    Lanes running;  // int16
    static inline Dot from(Lanes) { return {same_int(0)}; }
    inline void add(Lanes w, Lanes x) {
        running.low = _mm256_add_epi16(running.low, _mm256_maddubs_epi16(w.low, x.low));
        running.high = _mm256_add_epi16(running.high, _mm256_maddubs_epi16(w.high, x.high));
    }
    inline Lanes sums(Lanes start) const { return plus(widened(running), start); }
};

// 255 * 127 * 2 would not fit. With the weight's sign moved over to the activation, 128 * 127 * 2 = 32512 does.
template <> struct Dot<8> {
    static constexpr int TAKEN = 128;
    Lanes running;
    static inline Dot from(Lanes) { return {same_int(0)}; }
    static inline __m256i pairs(__m256i w, __m256i x) {
        const __m256i signed_w = _mm256_xor_si256(w, _mm256_set1_epi8((char)128));  // 0..255 -> -128..127
        return _mm256_maddubs_epi16(_mm256_abs_epi8(signed_w), _mm256_sign_epi8(x, signed_w));
    }
    inline void add(Lanes w, Lanes x) {
        running = plus(running, widened({pairs(w.low, x.low), pairs(w.high, x.high)}));
    }
    inline Lanes sums(Lanes start) const { return plus(running, start); }
};

#endif
