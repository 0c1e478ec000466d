"""Does llama.cpp read what we write, and answer as we do? Needs llama-cpp-python (the `bench` extra).

    python bench/interchange.py [MODEL ...]

Each model (smollm2-135m and gemma3-270m if none is named) is saved as f16, q8_0 and q4_0, opened by llama.cpp and by
us, and both read the same prompts: how far the log-probabilities of the last position lie apart, and whether 24 greedy
tokens agree. llama.cpp rounds activations to 8 bits and keeps its cache in fp16, so near ties may fall either way.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import cutaway
from cutaway.infer.language import Language
from cutaway.ops.forms import NAMED

PROMPTS = ["The capital of France is", "Once upon a time there was", "def add(a, b):\n", "床前明月光，", "1, 2, 3, 4,"]
NEW = 24


def theirs(path: Path, ids: list[int]) -> tuple[np.ndarray, list[int]]:
    """llama.cpp's logits behind the prompt, and its greedy tokens."""
    from llama_cpp import Llama

    llama = Llama(str(path), n_ctx=256, n_threads=2, logits_all=True, verbose=False)
    llama.eval(ids)
    logits = np.array(llama.scores[len(ids) - 1])
    tokens: list[int] = []
    for _ in range(NEW):
        tokens.append(int(np.argmax(llama.scores[llama.n_tokens - 1])))
        llama.eval(tokens[-1:])
    return logits, tokens


def ours(language: Language, ids: list[int]) -> tuple[np.ndarray, list[int]]:
    with torch.inference_mode():
        logits = language(torch.tensor([ids]))[0, -1].numpy()
    tokens = list(language.generate(ids, max_tokens=NEW).tokens)
    return logits, tokens + [-1] * (NEW - len(tokens))


def compare(name: str, quant: str, folder: Path) -> str:
    original = cutaway.load(name)
    path = cutaway.save(original, folder / f"{quant}.gguf", quant=quant)
    language = cutaway.load(path, forms=NAMED["exact"])
    apart, equal, total = [], 0, 0
    for prompt in PROMPTS:
        ids = original.encode(prompt)
        (logits, tokens), (their_logits, their_tokens) = ours(language, ids), theirs(path, ids)
        logits, their_logits = (x - np.logaddexp.reduce(x.astype(np.float64)) for x in (logits, their_logits))
        likely = logits > np.log(1e-3)  # among tokens that matter
        apart.append(float(np.abs(logits - their_logits)[likely].max()))
        length = tokens.index(-1) if -1 in tokens else NEW
        equal += next((i for i in range(length) if tokens[i] != their_tokens[i]), length)
        total += length
    return f"| {name} | {quant} | {path.stat().st_size / 1e6:.0f} MB | {max(apart):.3f} | {equal} of {total} |"


def main() -> None:
    print("| model | saved as | size | largest difference of a logprob | greedy tokens before the first difference |")
    print("|---|---|---|---|---|")
    for name in sys.argv[1:] or ["smollm2-135m", "gemma3-270m"]:
        for quant in ("f16", "q8_0", "q4_0"):
            with tempfile.TemporaryDirectory() as folder:
                print(compare(name, quant, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
