// Which instructions may run here: asked of the CPU itself, once, before anything else of this folder is compiled.
//
// This file alone is compiled for any x86-64 CPU; all others are compiled for one of the sets that it names.
// Read next: instructions.py

#include <cstdint>

#include "export.h"

// The sets, one bit each. instructions.py has the same numbers in SETS.
enum Set { AVX2 = 1, AVX2_VNNI = 2, AVX512 = 4 };

#if defined(__x86_64__)
#include <cpuid.h>

// The instruction `cpuid` answers questions by number ("leaf", and within it "subleaf") in four registers of 32 flags.
struct Answer {
    uint32_t a, b, c, d;
};

static Answer ask(uint32_t leaf, uint32_t subleaf) {
    Answer answer = {0, 0, 0, 0};  // stays zero where the CPU does not know the question
    __get_cpuid_count(leaf, subleaf, &answer.a, &answer.b, &answer.c, &answer.d);
    return answer;
}

static bool has(uint32_t flags, int bit) { return flags >> bit & 1; }

// Having an instruction is half of it: the operating system must also save its registers when it switches programs.
// `xgetbv` tells which ones it saves: bits 1 and 2 are the 16-byte and 32-byte registers, 5 to 7 those of AVX-512.
static uint64_t saved_registers() {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

EXPORT int instruction_sets() {
    const Answer basic = ask(1, 0), more = ask(7, 0), newer = ask(7, 1);
    if (!has(basic.c, 27)) return 0;  // OSXSAVE: without it `xgetbv` itself would be an illegal instruction
    const uint64_t saved = saved_registers();
    int sets = 0;
    // FMA (12), F16C (29: fp16 to fp32 and back), AVX2 (5)
    if ((saved & 0x06) == 0x06 && has(basic.c, 12) && has(basic.c, 29) && has(more.b, 5)) {
        sets |= AVX2;
        if (has(newer.a, 4)) sets |= AVX2_VNNI;  // AVX-VNNI: a product of four bytes with four bytes in one go
        // AVX512F (16), DQ (17), BW (30), VL (31), and the same product for them: AVX512_VNNI (11)
        if ((saved & 0xe6) == 0xe6 && has(more.b, 16) && has(more.b, 17) && has(more.b, 30) && has(more.b, 31) &&
            has(more.c, 11))
            sets |= AVX512;
    }
    return sets;
}
#else
EXPORT int instruction_sets() { return 0; }
#endif
