// Sixteen floats at a time, under names that say what is done to them: the same source serves every instruction set.
//
// A CPU adds, multiplies and loads several numbers by one instruction. The compiler offers each such instruction as a
// function with a name like _mm512_fmadd_ps ("512 bits, fused multiply and add, packed singles"); they are called
// intrinsics. With AVX-512 one register holds all sixteen floats; with AVX2 it takes two, `low` and `high`.
// Think of `Floats` as a numpy array of shape (16,) that lives in a register: a + b, a * b work element by element.
// Read next: norm.cpp, multiply_exact.cpp

#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

constexpr int LANES = 16;  // floats in a `Floats`; a lane is the place of one of them

#if defined(__AVX512F__)

struct Floats {
    __m512 v;
};

static inline Floats zeros() { return {_mm512_setzero_ps()}; }
static inline Floats same(float x) { return {_mm512_set1_ps(x)}; }  // x in every lane
static inline Floats load(const float *from) { return {_mm512_loadu_ps(from)}; }
static inline void store(float *to, Floats x) { _mm512_storeu_ps(to, x.v); }
// Only the first `count` lanes, 0 to 16: memory behind them is neither read nor written. Lanes not read are 0.
static inline Floats load_some(const float *from, int count) {
    return {_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from)};
}
static inline void store_some(float *to, Floats x, int count) {
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), x.v);
}
static inline Floats operator+(Floats a, Floats b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline Floats operator-(Floats a, Floats b) { return {_mm512_sub_ps(a.v, b.v)}; }
static inline Floats operator*(Floats a, Floats b) { return {_mm512_mul_ps(a.v, b.v)}; }
static inline Floats operator/(Floats a, Floats b) { return {_mm512_div_ps(a.v, b.v)}; }
static inline Floats multiply_add(Floats a, Floats b, Floats c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }  // a b + c
static inline Floats maximum(Floats a, Floats b) { return {_mm512_max_ps(a.v, b.v)}; }
static inline Floats minimum(Floats a, Floats b) { return {_mm512_min_ps(a.v, b.v)}; }
static inline Floats magnitude(Floats a) { return {_mm512_abs_ps(a.v)}; }
static inline Floats square_root(Floats a) { return {_mm512_sqrt_ps(a.v)}; }
static inline float sum(Floats a) { return _mm512_reduce_add_ps(a.v); }
static inline float largest(Floats a) { return _mm512_reduce_max_ps(a.v); }
static inline Floats from_halves(const uint16_t *from) {  // 16 numbers of fp16
    return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from))};
}
static inline void to_halves(uint16_t *to, Floats a) {  // rounded to the nearest fp16, ties to even
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
static inline Floats from_bfloats(const uint16_t *from) {  // bfloat16 is the upper half of an fp32
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}

#elif defined(__AVX2__)

struct Floats {
    __m256 low, high;
};

static inline Floats zeros() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
static inline Floats same(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }  // x in every lane
static inline Floats load(const float *from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
static inline void store(float *to, Floats x) {
    _mm256_storeu_ps(to, x.low);
    _mm256_storeu_ps(to + 8, x.high);
}
// Only the first `count` lanes, 0 to 16: memory behind them is neither read nor written. Lanes not read are 0.
static inline Floats load_some(const float *from, int count) {
    float whole[LANES] = {0};
    for (int lane = 0; lane < count; lane++) whole[lane] = from[lane];
    return load(whole);
}
static inline void store_some(float *to, Floats x, int count) {
    float whole[LANES];
    store(whole, x);
    for (int lane = 0; lane < count; lane++) to[lane] = whole[lane];
}
static inline Floats operator+(Floats a, Floats b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
static inline Floats operator-(Floats a, Floats b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
static inline Floats operator*(Floats a, Floats b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
static inline Floats operator/(Floats a, Floats b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
static inline Floats multiply_add(Floats a, Floats b, Floats c) {  // a b + c
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
static inline Floats maximum(Floats a, Floats b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
static inline Floats minimum(Floats a, Floats b) {
    return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
static inline Floats magnitude(Floats a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);  // the sign bit alone
    return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
static inline Floats square_root(Floats a) { return {_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high)}; }
static inline float sum(Floats a) {
    float lanes[8], total = 0;
    _mm256_storeu_ps(lanes, _mm256_add_ps(a.low, a.high));
    for (float one : lanes) total += one;
    return total;
}
static inline float largest(Floats a) {
    float lanes[8];
    _mm256_storeu_ps(lanes, _mm256_max_ps(a.low, a.high));
    float most = lanes[0];
    for (float one : lanes) most = one > most ? one : most;
    return most;
}
static inline Floats from_halves(const uint16_t *from) {  // 16 numbers of fp16
    return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from)),
            _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + 8)))};
}
static inline void to_halves(uint16_t *to, Floats a) {  // rounded to the nearest fp16, ties to even
    _mm_storeu_si128((__m128i *)to, _mm256_cvtps_ph(a.low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(to + 8), _mm256_cvtps_ph(a.high, _MM_FROUND_TO_NEAREST_INT));
}
static inline __m256 upper_half(const uint16_t *from) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from)), 16));
}
static inline Floats from_bfloats(const uint16_t *from) {  // bfloat16 is the upper half of an fp32
    return {upper_half(from), upper_half(from + 8)};
}

#else
#error "compiled for no instruction set that instructions.py knows"
#endif

// One number of fp16; and the smallest fp16 that is not below x, as its bits.
static inline float from_half(uint16_t bits) { return _cvtsh_ss(bits); }
static inline uint16_t half_above(float x) { return _cvtss_sh(x, _MM_FROUND_TO_POS_INF); }
