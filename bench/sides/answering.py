"""A side that answers one prompt at a time: one model, one program, a process of its own with threads of its own.

python bench/sides/answering.py SIDE FILE THREADS [cpu]      [ids, new, drawn] in, [seconds reading, writing] out

SIDES names them. All are asked in ids and answer in ids: nobody turns them into text, and no end of turn cuts an answer
short. Cutaway answers by `Language.stream`, as its commands do; llama.cpp by its C interface, the least that it can be
asked for (greedily: a pass, then the place of the best logit); transformers by a bare loop.
Read next: client.py, processes.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

Answer = Callable[[list[int], int, bool], tuple[float, float]]
Clock = Callable[[], float]
Maker = Callable[[Path, int, Clock], Answer]
LONGEST = 4096  # tokens that llama.cpp keeps room for
DRAWN = {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "seed": 0}


def ours(form: str | None) -> Maker:
    """In a form of `ops.forms.NAMED`, or as a person is answered who asks for none."""

    def made(file: Path, threads: int, clock: Clock) -> Answer:
        import torch

        import cutaway
        from cutaway.infer.language import Language
        from cutaway.ops.cpu.build import kernels
        from cutaway.ops.forms import NAMED, attending

        torch.set_num_threads(threads)
        os.environ["CUTAWAY_KERNELS"] = "on"  # the compiler is waited for
        if form != "fast" and kernels().library is None:
            raise SystemExit(f"no kernels: {kernels().why}")
        # Without its tokenizer it neither spells nor knows where a turn ends.
        language = Language(cutaway.load(file).module, None, forms=attending() if form is None else NAMED[form])

        def answer(ids: list[int], new: int, drawn: bool) -> tuple[float, float]:
            start = clock()
            told = DRAWN if drawn else {}
            ends = [clock() for _ in language.stream(ids, max_tokens=new, **told)]
            assert len(ends) == new
            return ends[0] - start, ends[-1] - ends[0]

        return answer

    return made


def transformers(dtype: str) -> Maker:
    def made(file: Path, threads: int, clock: Clock) -> Answer:
        import torch
        from transformers import AutoModelForCausalLM, DynamicCache

        torch.set_num_threads(threads)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=getattr(torch, dtype))
        model.eval()

        @torch.inference_mode()
        def answer(ids: list[int], new: int, drawn: bool) -> tuple[float, float]:
            cache = DynamicCache(config=model.config)
            start = clock()
            out = model(torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            first = clock()
            # The bare loop: generate() adds bookkeeping of its own, and would only be slower.
            for _ in range(new - 1):
                token = model(token, past_key_values=cache, use_cache=True).logits[:, -1].argmax(-1, keepdim=True)
            return first - start, clock() - first

        return answer

    return made


def llama_cpp(file: Path, threads: int, clock: Clock) -> Answer:
    """With flash attention left to it, as by default, and prompts in batches of 512 as llama-bench reads them."""
    import llama_cpp as c
    import numpy as np

    c.llama_backend_init()
    model = c.llama_model_load_from_file(str(file).encode(), c.llama_model_default_params())
    told = c.llama_context_default_params()
    told.n_ctx = told.n_batch = LONGEST
    told.n_ubatch, told.n_threads, told.n_threads_batch = 512, threads, threads
    context = c.llama_init_from_model(model, told) if model else None
    if not context:
        raise SystemExit(f"llama.cpp cannot open {file}")
    vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))

    def best(ids: list[int]) -> int:
        held = (c.llama_token * len(ids))(*ids)  # a batch points to its tokens, and keeps nothing alive
        if c.llama_decode(context, c.llama_batch_get_one(held, len(ids))):
            raise SystemExit("llama.cpp did not take a batch")
        return int(np.ctypeslib.as_array(c.llama_get_logits_ith(context, -1), (vocab,)).argmax())

    def answer(ids: list[int], new: int, drawn: bool) -> tuple[float, float]:
        c.llama_memory_clear(c.llama_get_memory(context), True)
        start = clock()
        token = best(ids)
        first = clock()
        for _ in range(new - 1):
            token = best([token])
        return first - start, clock() - first

    return answer


SIDES: dict[str, Maker] = {
    "torch": ours("fast"),
    "usual": ours(None),
    "kernels": ours("kernels"),
    "kernels-int8": ours("kernels-int8"),
    "llama.cpp": llama_cpp,
    "transformers-float32": transformers("float32"),
    "transformers-bfloat16": transformers("bfloat16"),
}


class Side:
    """One of SIDES in its process. Ends with the `with` that it is used in. `cpu`: its seconds are the processor's."""

    def __init__(self, name: str, file: Path, threads: int, log: Path, *, cpu: bool = False):
        self.name = name
        with log.open("wb") as said:
            command = [sys.executable, __file__, name, str(file), str(threads), *(["cpu"] if cpu else [])]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=said, encoding="utf-8")
        assert self.process.stdin is not None and self.process.stdout is not None
        self.given, self.lines = self.process.stdin, self.process.stdout
        if self.lines.readline().strip() != "up":
            self.end()
            raise SystemExit(f"{name} did not start; see {log}")

    def answer(self, ids: list[int], new: int, drawn: bool = False) -> tuple[float, float]:
        """Seconds until the first of `new` tokens, and from it to the last."""
        self.given.write(json.dumps([ids, new, drawn]) + "\n")
        self.given.flush()
        line = self.lines.readline()
        if not line:
            raise SystemExit(f"{self.name} ended in the middle of an answer")
        reading, writing = json.loads(line)
        return reading, writing

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *wrong: object) -> None:
        self.end()

    def end(self) -> None:
        self.given.close()
        self.lines.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main() -> None:
    name, file, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    told, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    clock = time.process_time if sys.argv[4:] else time.perf_counter
    answer = SIDES[name](file, threads, clock)
    print("up", file=told, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), file=told, flush=True)


if __name__ == "__main__":
    main()
