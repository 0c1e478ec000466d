"""transformers' side: a plain loop, in a process of its own, so that its threads are not ours.

python bench/sides/plain.py FOLDER THREADS      a line of ids in, a line of seconds out
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":  # then this folder is where Python looks, and not the one above
    sys.path.insert(0, str(Path(__file__).parents[1]))

from sides.client import Timing, prompt


def loop(folder: Path, threads: int) -> None:
    """Answers until there are no more lines."""
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    print("up", flush=True)
    for line in sys.stdin:
        ids, new = json.loads(line)
        cache, begun = DynamicCache(config=model.config), time.perf_counter()
        with torch.inference_mode():
            out = model(torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            first = time.perf_counter() - begun
            for _ in range(new - 1):
                token = model(token, past_key_values=cache, use_cache=True).logits[:, -1].argmax(-1, keepdim=True)
        print(json.dumps([first, time.perf_counter() - begun, new]), flush=True)


@contextmanager
def plain_loop(folder: Path, threads: int) -> Iterator[Callable[[list[int], int], Timing]]:
    command = [sys.executable, __file__, str(folder), str(threads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdin is not None and process.stdout is not None
        lines, given = process.stdout, process.stdin
        if lines.readline().strip() != "up":
            raise SystemExit("transformers did not start")

        def run(ids: list[int], new: int) -> Timing:
            given.write(json.dumps([ids, new]) + "\n")
            given.flush()
            first, last, tokens = json.loads(lines.readline())
            return Timing(first=first, last=last, tokens=tokens)

        run(prompt(0, 32), 4)
        yield run
        given.close()


if __name__ == "__main__":
    loop(Path(sys.argv[1]), int(sys.argv[2]))
