// Curves and sums that no instruction has, made of those that there are: e^x, tanh, erf; the sums of sixteen vectors.
//
// Each is written once for a register of any width, V: the compiler lets +, *, < and ?: work on `__m512` and `__m256`
// as numpy does on arrays. At the end stand the same functions for `Floats`, sixteen numbers at a time.
// Read next: vector.h, gate.cpp

#pragma once
#include <cstring>

#include "vector.h"

#ifdef __FAST_MATH__
#error "infinities must be seen and sums stay in their order: no -ffast-math"
#endif

template <typename V> using Whole = decltype(V{} < V{});  // whole numbers of 32 bits, as many as V has lanes

template <typename To, typename From> static inline To bits_of(From x) {  // the same bits, read as another type
    static_assert(sizeof(To) == sizeof(From));
    To y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}

// e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2. A polynomial gives e^r; 2^n is n added to the exponent's
// bits. Within 2 units in the last place; 0 below -87.3, where floats lose digits, and never above e^88.
template <typename V> static inline V exponential_of(V x) {
    // Added to a small number, ROUNDER leaves no room for a fraction: the sum is rounded to a whole number, which
    // stands in its lowest bits, and taken away again it gives that number as a float.
    constexpr float ROUNDER = 12582912.0f;  // 1.5 * 2^23
    V within = x < -87.3f ? V{} - 87.3f : x;
    within = within > 88.0f ? V{} + 88.0f : within;
    const V shifted = within * 1.44269504f + ROUNDER;
    const V n = shifted - ROUNDER;
    const V r = within - n * 0.693359375f + n * 2.12194440e-4f;  // ln 2 in two parts: n times the first is exact
    V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const V y = bits_of<V>(bits_of<Whole<V>>(p) + (bits_of<Whole<V>>(shifted) << 23));
    return x < -87.3f ? V{} : (x == x ? y : x);  // x == x: not so for NaN, which stays what it is
}

// Near 0 a polynomial, as 1 - 2 / (e^2x + 1) would lose its digits there.
template <typename V> static inline V tanh_of(V x) {
    const V size = x < 0.0f ? -x : x, square = x * x;
    const V far = 1.0f - 2.0f / (exponential_of<V>(size + size) + 1.0f);
    V p = square * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * square - 5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square - 3.33332819422e-1f;
    const V near = p * square * x + x;
    return size < 0.625f ? near : (x < 0.0f ? -far : far);
}

// 1 - erf(z) for z >= 0 (Numerical Recipes, section 6.2): within 2 parts in 10 million of itself near 0, and 1 in
// 100,000 far out, where it is tiny.
template <typename V> static inline V beyond_of(V z) {
    const V t = 1.0f / (1.0f + 0.5f * z);
    V p = t * 0.17087277f - 0.82215223f;
    p = p * t + 1.48851587f;
    p = p * t - 1.13520398f;
    p = p * t + 0.27886807f;
    p = p * t - 0.18628806f;
    p = p * t + 0.09678418f;
    p = p * t + 0.37409196f;
    p = p * t + 1.00002368f;
    return t * exponential_of<V>(p * t - 1.26551223f - z * z);
}

// x Phi(x): with the far tail's own value rather than 1 + erf, which has no digits left below -4.
template <typename V> static inline V gelu_of(V x) {
    const V tail = 0.5f * beyond_of<V>((x < 0.0f ? -x : x) * 0.70710678f);
    return x * (x < 0.0f ? tail : 1.0f - tail);
}

// Half of the lanes become sums of pairs of `a`, the other half sums of pairs of `b`; `WIDTH` apart.
#define PAIRED(a, b, low, high) (chosen(a, b, low) + chosen(a, b, high))

// Lane i of the result is lane which[i] of `a` and `b`, counted through both.
template <typename V, typename Places> static inline V chosen(V a, V b, Places which) {
#if defined(__clang__)  // knows no __builtin_shuffle, and makes one instruction of this, as all of `which` is constant
    constexpr int lanes = sizeof(V) / sizeof(float);
    V y = {};
    for (int i = 0; i < lanes; i++) y[i] = which[i] < lanes ? a[which[i]] : b[which[i] - lanes];
    return y;
#else
    return __builtin_shuffle(a, b, which);
#endif
}

#if defined(__AVX512F__)

#define FOR_FLOATS(name, of) \
    static inline Floats name(Floats x) { return {of<__m512>(x.v)}; }

static inline Floats from_bytes(const int8_t *from) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)))};
}

// Sixteen vectors -> one, its lane i the sum of all lanes of vector i. Each round halves how many there are: one vector
// after the other would take as many additions for each as this takes for all.
static inline Floats sums_of(Floats *x) {
    typedef int Lanes __attribute__((vector_size(64)));
    const Lanes low8 = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23};
    const Lanes low4 = {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27};
    const Lanes low2 = {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29};
    const Lanes low1 = {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30};
    for (int i = 0; i < 8; i++) x[i].v = PAIRED(x[i].v, x[i + 8].v, low8, low8 + 8);
    for (int i = 0; i < 4; i++) x[i].v = PAIRED(x[i].v, x[i + 4].v, low4, low4 + 4);
    for (int i = 0; i < 2; i++) x[i].v = PAIRED(x[i].v, x[i + 2].v, low2, low2 + 2);
    return {PAIRED(x[0].v, x[1].v, low1, low1 + 1)};
}

// Sixteen vectors, turned: lane i of vector j becomes lane j of vector i. Each round swaps blocks half as large.
static inline void transpose(Floats *x) {
    typedef int Lanes __attribute__((vector_size(64)));
    const Lanes low[4] = {{0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23},
                          {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27},
                          {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29},
                          {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30}};
    const int far[4] = {8, 4, 2, 1};
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < LANES; i++) {
            const int other = i + far[round];
            if (i & far[round]) continue;
            const __m512 a = x[i].v, b = x[other].v;
            x[i].v = chosen(a, b, low[round]);
            x[other].v = chosen(a, b, low[round] + far[round]);
        }
}

#else

#define FOR_FLOATS(name, of) \
    static inline Floats name(Floats x) { return {of<__m256>(x.low), of<__m256>(x.high)}; }

static inline __m256 eight_bytes(const int8_t *from) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
}
static inline Floats from_bytes(const int8_t *from) { return {eight_bytes(from), eight_bytes(from + 8)}; }

// As above: sixteen vectors -> one, in two halves of eight.
static inline Floats sums_of(Floats *x) {
    typedef int Lanes __attribute__((vector_size(32)));
    const Lanes low4 = {0, 1, 2, 3, 8, 9, 10, 11}, low2 = {0, 1, 8, 9, 4, 5, 12, 13};
    const Lanes low1 = {0, 8, 2, 10, 4, 12, 6, 14};
    __m256 halves[2];
    for (int half = 0; half < 2; half++) {
        __m256 y[8];
        for (int i = 0; i < 8; i++) y[i] = x[8 * half + i].low + x[8 * half + i].high;
        for (int i = 0; i < 4; i++) y[i] = PAIRED(y[i], y[i + 4], low4, low4 + 4);
        for (int i = 0; i < 2; i++) y[i] = PAIRED(y[i], y[i + 2], low2, low2 + 2);
        halves[half] = PAIRED(y[0], y[1], low1, low1 + 1);
    }
    return {halves[0], halves[1]};
}

static inline void transpose_eight(__m256 *x) {
    typedef int Lanes __attribute__((vector_size(32)));
    const Lanes low[3] = {{0, 1, 2, 3, 8, 9, 10, 11}, {0, 1, 8, 9, 4, 5, 12, 13}, {0, 8, 2, 10, 4, 12, 6, 14}};
    const int far[3] = {4, 2, 1};
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 8; i++) {
            const int other = i + far[round];
            if (i & far[round]) continue;
            const __m256 a = x[i], b = x[other];
            x[i] = chosen(a, b, low[round]);
            x[other] = chosen(a, b, low[round] + far[round]);
        }
}

// Sixteen vectors, turned: lane i of vector j becomes lane j of vector i; in four blocks of eight by eight.
static inline void transpose(Floats *x) {
    __m256 block[4][8];
    for (int i = 0; i < 8; i++) {
        block[0][i] = x[i].low;
        block[1][i] = x[i].high;
        block[2][i] = x[i + 8].low;
        block[3][i] = x[i + 8].high;
    }
    for (__m256 *one : block) transpose_eight(one);
    for (int i = 0; i < 8; i++) {
        x[i] = {block[0][i], block[2][i]};
        x[i + 8] = {block[1][i], block[3][i]};
    }
}

#endif

FOR_FLOATS(exponential, exponential_of)
FOR_FLOATS(tanh_curve, tanh_of)
FOR_FLOATS(gelu_curve, gelu_of)
