"""Memory that opening a quantised file takes beyond its mapping: anonymous pages at peak, against the packed size.

    python bench/memory.py [--layers 12] [--shrink 4] [--quant q4_0] [--json]

Writes a file of random numbers with the shapes of Qwen2-7B, fewer layers and every width divided by `--shrink`, opens
it in a process of its own, runs a prompt of 32 and 4 tokens one by one, and reads RssAnon all the while (Linux). The
copies that products read grow with the file, the rest with its widths: so both are extrapolated to the real one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cutaway.nn.quantised import Fan
from cutaway.ops.packed import Packed
from cutaway.weights.gguf.writer import write_gguf

LAYERS, DIM, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 28, 3584, 18944, 28, 4, 128, 152_064
BLOCK = {"q4_0": 18, "q4_1": 20, "q8_0": 34}


def shapes(layers: int, shrink: int) -> dict[str, tuple[int, ...]]:
    """The tensors of Qwen2-7B by llama.cpp's names, the head's dim kept."""
    dim, hidden, vocab = DIM // shrink, HIDDEN // shrink // 32 * 32, VOCAB // shrink // 32 * 32
    queries, keys = HEADS * HEAD_DIM // shrink, max(KV_HEADS // shrink, 1) * HEAD_DIM
    made: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocab, dim),
        "output.weight": (vocab, dim),
        "output_norm.weight": (dim,),
    }
    for layer in range(layers):
        for name, shape in {
            "attn_norm.weight": (dim,),
            "attn_q.weight": (queries, dim),
            "attn_q.bias": (queries,),
            "attn_k.weight": (keys, dim),
            "attn_k.bias": (keys,),
            "attn_v.weight": (keys, dim),
            "attn_v.bias": (keys,),
            "attn_output.weight": (dim, queries),
            "ffn_norm.weight": (dim,),
            "ffn_gate.weight": (hidden, dim),
            "ffn_up.weight": (hidden, dim),
            "ffn_down.weight": (dim, hidden),
        }.items():
            made[f"blk.{layer}.{name}"] = shape
    return made


def packed_bytes(made: dict[str, tuple[int, ...]], quant: str) -> int:
    return sum(shape[0] * shape[1] // 32 * BLOCK[quant] for shape in made.values() if len(shape) == 2)


def write(path: Path, layers: int, shrink: int, quant: str) -> int:
    """The file; returns the bytes of its packed matrices."""
    made, random = shapes(layers, shrink), np.random.default_rng(0)

    def numbers(shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1:
            return np.ones(shape, np.float32)
        blocks = random.integers(0, 256, (shape[0] * shape[1] // 32, BLOCK[quant]), np.uint8)
        blocks[:, :2] = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)  # the scale
        return blocks

    tensors = [
        (name, shape, "f32" if len(shape) == 1 else quant, lambda shape=shape: numbers(shape))
        for name, shape in made.items()
    ]
    heads = HEADS // shrink
    write_gguf(
        path,
        {
            "general.architecture": "qwen2",
            "qwen2.block_count": layers,
            "qwen2.embedding_length": made["token_embd.weight"][1],
            "qwen2.feed_forward_length": made["blk.0.ffn_up.weight"][0],
            "qwen2.attention.head_count": heads,
            "qwen2.attention.head_count_kv": max(KV_HEADS // shrink, 1),
            "qwen2.context_length": 32768,
            "qwen2.rope.freq_base": 1e6,
            "qwen2.attention.layer_norm_rms_epsilon": 1e-6,
        },
        tensors,
    )
    return packed_bytes(made, quant)


def anonymous() -> int:
    """Bytes of this process's own pages that are in memory now; a mapped file's are not among them."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not say RssAnon")


def opened(path: str) -> None:
    """In a process of its own: the peak over opening and running, less what Python and torch held before."""
    import cutaway

    cutaway.load  # noqa: B018 - its modules are part of what was there before
    before = highest = anonymous()
    running = True

    def watch() -> None:
        nonlocal highest
        while running:
            highest = max(highest, anonymous())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    language = cutaway.load(path)
    language.generate(list(range(32)), max_tokens=4)
    running = False
    watcher.join()
    print(json.dumps({"peak": max(highest, anonymous()) - before, "copies": copies(language.module)}))


def copies(module: nn.Module) -> int:
    """Bytes of all matrices as they were repacked for fast products; what is a run of another is counted once."""
    packed = [part for part in module.modules() if isinstance(part, Packed)]
    fans = [fan for part in module.modules() if isinstance(fan := getattr(part, "fan", None), Fan)]
    packed += [fan.joined for fan in fans if fan.joined is not None]
    kept = [copy for part in packed for copy in part.copies.values()]
    tensors = [value for copy in kept for value in vars(copy).values() if isinstance(value, torch.Tensor)]
    counted = end = 0
    for start, stop in sorted((tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes) for tensor in tensors):
        counted += max(0, stop - max(start, end))
        end = max(end, stop)
    return counted


def measure(layers: int, shrink: int, quant: str) -> dict[str, int]:
    """Bytes: `packed` in the file, `copies` made of them, `peak` of anonymous pages; the same for the `real` file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "qwen2.gguf"
        packed = write(path, layers, shrink, quant)
        command = [sys.executable, __file__, "--opened", str(path)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    small, large = shapes(layers, shrink), shapes(LAYERS, 1)
    real = packed_bytes(large, quant)
    # The table of an untied model is looked up, never multiplied: it has no copy.
    multiplied = [
        packed_bytes({n: s for n, s in made.items() if n != "token_embd.weight"}, quant) for made in (small, large)
    ]
    real_copies = found["copies"] * multiplied[1] // multiplied[0]
    rest = max(found["peak"] - found["copies"], 0) * shrink
    return {"packed": packed, **found, "real_packed": real, "real_copies": real_copies, "real_peak": real_copies + rest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--shrink", type=int, default=4, choices=(1, 2, 4))
    parser.add_argument("--quant", choices=BLOCK, default="q4_0")
    parser.add_argument("--json", action="store_true", help="bytes, as one JSON object")
    parser.add_argument("--opened", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.opened:
        opened(arguments.opened)
        return
    found = measure(arguments.layers, arguments.shrink, arguments.quant)
    if arguments.json:
        print(json.dumps(found))
        return
    size = {name: f"{count / 1e6:.0f} MB" for name, count in found.items()}
    print(f"packed {size['packed']}, copies {size['copies']}, anonymous at peak {size['peak']}")
    print(
        f"extrapolated to Qwen2-7B {arguments.quant}: packed {size['real_packed']}, copies {size['real_copies']}, "
        f"anonymous at peak {size['real_peak']}; allowed: packed + 500 MB = {found['real_packed'] / 1e6 + 500:.0f} MB"
    )


if __name__ == "__main__":
    main()
