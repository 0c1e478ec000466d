// A product of two matrices in fp32, as linear maps need it in training, forward and back.
//
//     out_mn (+)= sum_k a_mk b_kn (+ bias_n)
// Rows and columns of a and b lie as far apart as they are told to, so that one kernel makes y = x W^T, dx = dy W and
// dW = dy^T x. The torch sibling is `linear_readable` in ops/linear.py.
// A few rows by WIDE registers of columns are summed in registers: for each k that many numbers of a, each in all lanes,
// meet WIDE registers of b. The columns of b that stand together so, a panel, are first laid side by side in memory of the
// thread's own: they are read once for every few rows. Each number of out is summed by one thread, in the order of k, so
// that results do not depend on how many threads there are.   Read next: vector.h, causal.cpp

#include <memory>
#include <new>
#include <type_traits>

#include "curves.h"
#include "export.h"

// A register, and how many rows of a meet two registers of b at a time. Not `Floats`, which with AVX2 are two registers:
// g++ 12 would write such pairs to memory after every product.
#if defined(__AVX512F__)
using Register = __m512;
constexpr int ROWS = 12;  // 24 sums in 32 registers
static inline Register everywhere(float x) { return _mm512_set1_ps(x); }
static inline Register multiply_add(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
#else
using Register = __m256;
constexpr int ROWS = 6;  // 12 in 16
static inline Register everywhere(float x) { return _mm256_set1_ps(x); }
static inline Register multiply_add(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
#endif
constexpr int WIDE = 2, PANEL = WIDE * sizeof(Register) / sizeof(float);
// Products of a sum at a time: a panel of so many rows stays in the nearest cache, and sums of such sums are rounded less
// than one long one, as MKL's are.
constexpr int DEEP = 192;

struct Dense {  // the same fields, in the same order, as `Dense` in dense.py
    const float *a, *b, *bias;  // bias: or null
    float *out;
    int64_t a_row, a_column, b_row, b_column, out_row;
    int32_t rows, columns, count;  // of out; products in each sum
    int32_t adds;                  // whether to what is there
};

// to[k][n] = b[first + k][n] of a panel's columns; those behind the last are zeros.
static void lay(const Dense &d, int column, int columns, int first, int count, float *to) {
    const float *from = d.b + first * d.b_row + column * d.b_column;
    if (d.b_column == 1) {
        for (int k = 0; k < count; k++)
            for (int n = 0; n < PANEL; n += LANES) {
                const int lanes = columns - n < 0 ? 0 : columns - n < LANES ? columns - n : LANES;
                store(to + k * PANEL + n, load_some(from + k * d.b_row + n, lanes));
            }
        return;
    }
    for (int n = 0; n < PANEL; n += LANES)
        for (int k = 0; k < count; k += LANES) {
            Floats square[LANES];
            const int lanes = count - k < LANES ? count - k : LANES;
            for (int i = 0; i < LANES; i++)
                square[i] = n + i < columns ? load_some(from + (n + i) * d.b_column + k, lanes) : zeros();
            transpose(square);
            for (int i = 0; i < lanes; i++) store(to + (k + i) * PANEL + n, square[i]);
        }
}

// made[m][n] = sum_k a[m][k] panel[k][n], of M rows of a.
template <int M>
static inline void block(const Dense &d, const float *a, const Register *panel, int count, Register *made) {
    Register sums[M][WIDE];
    for (int m = 0; m < M; m++)
        for (int v = 0; v < WIDE; v++) sums[m][v] = everywhere(0);
    for (int k = 0; k < count; k++)
        for (int m = 0; m < M; m++) {
            const Register one = everywhere(a[m * d.a_row + k * d.a_column]);
            for (int v = 0; v < WIDE; v++) sums[m][v] = multiply_add(one, panel[k * WIDE + v], sums[m][v]);
        }
    for (int m = 0; m < M; m++)
        for (int v = 0; v < WIDE; v++) made[m * WIDE + v] = sums[m][v];
}

// out[m][n] (+)= made[m][n] (+ bias[n]).
static inline void put(const float *made, int rows, int columns, const float *bias, bool adds, float *out, int64_t row) {
    for (int n = 0; n < columns; n += LANES) {
        const int lanes = columns - n < LANES ? columns - n : LANES;
        const Floats more = bias ? load_some(bias + n, lanes) : zeros();
        for (int m = 0; m < rows; m++) {
            float *to = out + m * row + n;
            const Floats sum = load(made + m * PANEL + n) + more;
            if (lanes == LANES)
                store(to, adds ? sum + load(to) : sum);
            else
                store_some(to, adds ? sum + load_some(to, lanes) : sum, lanes);
        }
    }
}

constexpr std::align_val_t CACHE_LINE{64};

struct Free {
    void operator()(float *room) const { ::operator delete[](room, CACHE_LINE); }
};

EXPORT void dense(const Dense *given, int thread, int threads) {
    const Dense &d = *given;
    const int deep = d.count < DEEP ? d.count : DEEP;
    const std::unique_ptr<float[], Free> room(new (CACHE_LINE) float[(size_t)deep * PANEL]);
    alignas(64) float made[ROWS * PANEL];
    const int64_t panels = (d.columns + PANEL - 1) / PANEL, tiles = (d.rows + ROWS - 1) / ROWS, all = panels * tiles;
    for (int64_t one = all * thread / threads, end = all * (thread + 1) / threads, next; one < end; one = next) {
        next = (one / tiles + 1) * tiles < end ? (one / tiles + 1) * tiles : end;
        const int column = (int)(one / tiles) * PANEL, columns = d.columns - column < PANEL ? d.columns - column : PANEL;
        const int from = (int)(one % tiles) * ROWS, to = (int)(next - one) * ROWS + from, last = to < d.rows ? to : d.rows;
        const float *bias = d.bias ? d.bias + column : nullptr;
        int first = 0;
        do {  // once also where a sum is of nothing
            const int count = d.count - first < DEEP ? d.count - first : DEEP;
            lay(d, column, columns, first, count, room.get());
            const bool adds = d.adds || first;
            const auto rows = [&](auto many, int &row) {
                constexpr int M = decltype(many)::value;
                for (; row + M <= last; row += M) {
                    block<M>(d, d.a + row * d.a_row + first * d.a_column, (const Register *)room.get(), count,
                             (Register *)made);
                    put(made, M, columns, first ? nullptr : bias, adds, d.out + row * d.out_row + column, d.out_row);
                }
            };
            int row = from;
            rows(std::integral_constant<int, ROWS>(), row);
            rows(std::integral_constant<int, 4>(), row);
            rows(std::integral_constant<int, 1>(), row);
            first += DEEP;
        } while (first < d.count);
    }
}
