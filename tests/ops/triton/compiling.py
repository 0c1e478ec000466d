"""Compiles the kernels for a GPU that need not be here, and prints as JSON what each takes of it.

    python tests/ops/triton/compiling.py cuda 80      (NVIDIA's A100; `hip gfx942` is AMD's MI300)

In a process of its own: where the tests run, Triton was imported for its interpreter.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from cutaway.ops.triton.blocks import blocks_backward, blocks_forward
from cutaway.ops.triton.flash import SIZES
from cutaway.ops.triton.flash_backward import flash_backward_keys, flash_backward_queries
from cutaway.ops.triton.flash_forward import flash_forward
from cutaway.ops.triton.norm_rotate import ROWS, norm_rotate_backward, norm_rotate_forward
from cutaway.ops.triton.paged import paged_decode

# What the pointers of all kernels point to, by their names; whatever else is no constant is a 32-bit number.
BFLOAT16 = ("q", "k", "v", "bias", "y", "dq", "dk", "dv", "dbias", "dy", "keys", "values")
BFLOAT16 += ("x", "weight", "cos", "sin", "dx")
FLOAT32, INT32 = ("lse", "mean", "scale", "dweight"), ("table", "lengths")
INT64 = ("sequences", "tiles", "chosen", "lasts", "firsts")


def compiled(kernel: Any, constants: dict[str, Any], target: GPUTarget, sums: tuple[str, ...] = ()) -> dict[str, Any]:
    """Tensors in bfloat16, sums (`sums` too) in float32. Bytes of shared memory, and whether matrix units multiply."""
    names = kernel.arg_names
    types = dict.fromkeys(BFLOAT16, "*bf16") | dict.fromkeys(FLOAT32 + sums, "*fp32")
    types |= dict.fromkeys(INT64, "*i64") | dict.fromkeys(INT32, "*i32")
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    values = {(names.index(name),): value for name, value in constants.items() if name in names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=values)
    made = triton.compile(source, target=target)
    text = made.asm.get("ptx") or made.asm["amdgcn"]
    return {"shared": made.metadata.shared, "matrix_units": "mma" in text or "mfma" in text}


def main(backend: str, architecture: str) -> None:
    nvidia = backend == "cuda"
    target = GPUTarget(backend, int(architecture) if nvidia else architecture, 32 if nvidia else 64)
    found = {}
    tiles = SIZES[0][1]
    attention = {"K": 64, "V": 64, "SCALE": 0.125, "SOFTCAP": 30.0, "CAUSAL": True, "WINDOW": 512, "SINKS": 4}
    attention |= {"BIASED": True, "BLOCK_T": tiles.queries, "BLOCK_S": tiles.keys, "BLOCK_K": 64, "BLOCK_V": 64}
    for kernel in (flash_forward, flash_backward_queries, flash_backward_keys):
        extra = {"BIAS_LEARNS": True} if kernel is flash_backward_queries else {}
        found[kernel.__name__] = compiled(kernel, attention | extra, target)
    paged = {"SHARING": 3, "K": 64, "V": 64, "PAGE": 16, "SCALE": 0.125, "SOFTCAP": None, "WINDOW": 512}
    paged |= {"BLOCK_R": 16, "BLOCK_C": 16, "BLOCK_K": 64, "BLOCK_V": 64}
    found["paged_decode"] = compiled(paged_decode, paged, target)
    chosen = {"SHARING": 3, "SIZE": 64, "K": 64, "V": 64, "SCALE": 0.125}
    chosen |= {"BLOCK_R": 16, "BLOCK_C": 64, "BLOCK_K": 64, "BLOCK_V": 64}
    found["blocks_forward"] = compiled(blocks_forward, chosen, target)
    found["blocks_backward"] = compiled(blocks_backward, chosen, target, sums=("dk", "dv"))
    rotary = {"K": 96, "W": 64, "OFFSET": 0.0, "INTERLEAVED": True, "ROWS": ROWS, "BLOCK": 128}
    found["norm_rotate_forward"] = compiled(norm_rotate_forward, rotary | {"EPS": 1e-6}, target)
    found["norm_rotate_backward"] = compiled(norm_rotate_backward, rotary, target)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
