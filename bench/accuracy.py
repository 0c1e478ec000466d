"""What each way of multiplying costs in accuracy, on files of each format: perplexity, greedy agreement, and Paris.

    python bench/accuracy.py [--files shipped,q4_0,q8_0] [--text shakespeare] [--threads 1] [--work FOLDER] [--out FILE]

A file's own weights, unpacked to float32 and multiplied by torch, are what each mode is held against: "exact" and
"fast" on torch, our kernels with fp32 activations and with int8 ones. So the figures tell what a mode adds, not what
the format has lost.
- Perplexity of passages, read eight tokens at a time behind a cache: by the kernels that write text.
- Greedy agreement over 100 questions: the answers of the reference are read by each mode, which is asked at every token
  what it would have written. Until the first difference that is what it writes by itself. `lead`: by how much the
  reference's best logit led its second where they part.
- "What is the capital of France?" is a near tie on the shipped file: does the answer say Paris?
Stopped, the same command goes on where it was. The K-quant of smollm2-135m is made by llama.cpp, where llama_cpp is
installed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from sides.models import by_llama, rounded, shipped
from torch import Tensor

import cutaway
from cutaway.base.paths import atomic
from cutaway.infer.continuation import Continuation
from cutaway.infer.decoding import Decoding
from cutaway.infer.engine import Engine
from cutaway.infer.language import Language
from cutaway.infer.request import Request
from cutaway.infer.scheduler import Limits
from cutaway.lab.compare.passages import passages
from cutaway.models.decoder import DecoderModel
from cutaway.ops.cpu.build import kernels
from cutaway.ops.forms import NAMED
from cutaway.weights.corpora import located
from cutaway.weights.gguf.reader import read_gguf

SMALL, GEMMA = "smollm2-135m", "gemma3-270m"
SHIPPED, K_QUANT = "shipped", "q4_k_m"
FILES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    SHIPPED: (SMALL, shipped(SMALL)),
    **{quant: (SMALL, rounded(SMALL, quant)) for quant in ("q4_0", "q5_0", "q5_1", "q8_0")},
    K_QUANT: (SMALL, by_llama(SMALL, K_QUANT, 15)),
    "gemma3": (GEMMA, shipped(GEMMA)),
}
REFERENCE, MODES = "float32", ("exact", "fast", "kernels", "kernels-int8")
EIGHT = 8
MINUTES = 5.0  # of a file, about, on one core
PARIS = "What is the capital of France?"
QUESTIONS = (
    "What is {}?",
    "Explain {} to a child.",
    "Write a short poem about {}.",
    "Name three facts about {}.",
    "Why does {} matter?",
    "Write one sentence that contains the words {}.",
    "Who first wrote about {}?",
    "Translate '{}' into French.",
    "Give a Python function whose name has to do with {}.",
    "Compare {} with bread.",
)
SUBJECTS = (
    "the sea",
    "gravity",
    "a bicycle",
    "the French Revolution",
    "photosynthesis",
    "prime numbers",
    "chess",
    "the moon",
    "an honest clock",
    "the printing press",
)
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is read and asked: `count` passages of `length` tokens of `text`, and `prompts` questions answered by `new`
    tokens at most."""

    text: str
    count: int
    length: int
    prompts: int
    new: int

    @property
    def questions(self) -> list[str]:
        """So many of all questions about all subjects, evenly apart."""
        whole = [question.format(subject) for question in QUESTIONS for subject in SUBJECTS]
        return [whole[len(whole) * number // self.prompts] for number in range(self.prompts)]


def encoded(language: Language, question: str) -> list[int]:
    """As a message where the model has a template for them."""
    assert language.tokenizer is not None
    chats = language.tokenizer.template is not None
    return language.encode([{"role": "user", "content": question}] if chats else question)


@torch.inference_mode()
def read(held: Continuation, ids: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """The logits (X, V) behind `ids`, EIGHT at a time, each with the place of the first. What `held` has read of them
    already is passed over."""
    fed = held.rewind(ids, room=len(ids))
    place = len(ids) - len(fed)
    for start in range(0, len(fed), EIGHT):
        part = fed[start : start + EIGHT]
        yield place + start, held.attempt(part[:1], part[1:]).float()


def loss(language: Language, ids: Sequence[int]) -> float:
    """Nats of a token, the first apart."""
    total, whole = 0.0, torch.tensor(ids)
    for place, logits_XV in read(language.continuation(), ids[:-1]):
        next_X1 = whole[place + 1 : place + 1 + len(logits_XV), None]
        total -= float(logits_XV.log_softmax(-1).gather(1, next_X1).sum())
    return total / (len(ids) - 1)


def answers(language: Language, prompts: list[list[int]], new: int) -> list[list[int]]:
    """What the reference writes, all together, each up to the end of its turn."""
    assert isinstance(language.module, DecoderModel) and language.tokenizer is not None
    limits = Limits(tokens=25 * (max(map(len, prompts)) + new + 16), sequences=25, budget=256)
    asked = [Request(prompt=tuple(ids), decoding=Decoding(max_tokens=new)) for ids in prompts]
    found, ends = [], language.tokenizer.eos_ids
    for sequence in Engine(language.module, limits=limits, forms=language.forms).answer(asked):
        whole = list(sequence.answer)
        end = next((place for place, token in enumerate(whole) if token in ends), len(whole) - 1)
        found.append(whole[: end + 1])
    return found


def choices(language: Language, prompts: list[list[int]], written: list[list[int]]) -> list[list[tuple[int, float]]]:
    """What is likeliest at each token of the answers, and by how much its logit leads the next one's."""
    held, found = language.continuation(), []
    for prompt, answer in zip(prompts, written, strict=True):
        told, whole = [], [*prompt, *answer[:-1]]
        for place, logits_XV in read(held, whole):
            best = logits_XV.topk(2)
            for row in range(max(0, len(prompt) - 1 - place), len(logits_XV)):
                led = float(best.values[row, 0] - best.values[row, 1])
                told.append((int(best.indices[row, 0]), led))
        assert len(told) == len(answer)
        found.append(told)
    return found


def agreement(
    written: list[list[int]], leads: list[list[float]], chosen: list[list[tuple[int, float]]]
) -> dict[str, Any]:
    """How many answers are equal, how many tokens come before the first difference, and the leads there."""
    equal = tokens = 0
    parted = []
    for answer, led, told in zip(written, leads, chosen, strict=True):
        place = next((n for n, (token, _) in enumerate(told) if token != answer[n]), None)
        tokens += len(answer) if place is None else place
        equal += place is None
        if place is not None:
            parted.append(led[place])
    return {
        "equal": equal,
        "answers": len(written),
        "agreed": tokens,
        "tokens": sum(map(len, written)),
        "leads": parted,
    }


def measured(language: Language, trial: Trial, reference: Row | None) -> Row:
    """One row: of the reference itself where there is none yet."""
    start = time.time()
    assert language.tokenizer is not None
    texts = passages(language.tokenizer, trial.text, trial.count, trial.length).tolist()
    row: Row = {"perplexity": math.exp(statistics.mean(loss(language, ids) for ids in texts))}
    prompts = [encoded(language, question) for question in trial.questions]
    written = answers(language, prompts, trial.new) if reference is None else reference["written"]
    chosen = choices(language, prompts, written)
    leads = [[led for _, led in told] for told in chosen] if reference is None else reference["answer_leads"]
    row |= agreement(written, leads, chosen)
    if reference is None:
        row |= {"written": written, "answer_leads": leads}
    if language.tokenizer.template is not None:
        row["paris"] = "Paris" in language.generate(encoded(language, PARIS), max_tokens=24).text
    return row | {"seconds": time.time() - start}


def of_file(file: Path, name: str, trial: Trial, rows: dict[str, Row], keep: Callable[[], None]) -> None:
    """All rows of a file that are not there yet, each kept as it comes."""
    loaded: dict[bool, Language] = {}
    for mode in (REFERENCE, *MODES):
        key = f"{name}/{mode}/{trial}"
        if key in rows:
            continue
        expanded = mode == REFERENCE
        if expanded not in loaded:
            loaded.clear()
            loaded[expanded] = cutaway.load(file, weights="float32" if expanded else None)
        whole = loaded[expanded]
        forms = NAMED["exact" if expanded else mode]
        language = Language(whole.module, whole.tokenizer, forms=forms, source=name)
        rows[key] = measured(language, trial, None if expanded else rows[f"{name}/{REFERENCE}/{trial}"])
        keep()
        found = rows[key]
        print(
            f"{name}, {mode}: perplexity {found['perplexity']:.4f}, {found['equal']} of {found['answers']} answers "
            f"equal, {found['seconds']:.0f} s",
            file=sys.stderr,
        )


def formats(file: Path) -> str:
    """The forms of a file's matrices."""
    return ", ".join(sorted({one.format for one in read_gguf(file).tensors.values() if len(one.shape) == 2}))


def report(rows: dict[str, Row], files: dict[str, Path], trial: Trial, arguments: argparse.Namespace) -> str:
    """The table and what is promised, as Markdown."""
    from cutaway.cli.machine import look

    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "cutaway"))
    lines = [
        f"# Accuracy of each mode, {date.today()}",
        "",
        f"`python bench/accuracy.py`; {look().processor}, kernels {kernels().set}, {platform.system()}; Python "
        f"{platform.python_version()}, {packages}.",
        f"Against the file's own weights in float32: perplexity of {trial.count} passages of {trial.length} tokens of "
        f"{arguments.called}; {trial.prompts} questions answered greedily by at most {trial.new} tokens, of which so "
        "many come before the first difference; the lead of the reference's best logit over its second where answers "
        "part, in the median and at most.",
        "",
        "| file | mode | perplexity | to float32 | equal answers | tokens before a difference | lead there | Paris |",
        "|---|---|---|---|---|---|---|---|",
    ]
    off = []
    for name, file in files.items():
        base = rows[f"{name}/{REFERENCE}/{trial}"]
        for mode in (REFERENCE, *MODES):
            row = rows[f"{name}/{mode}/{trial}"]
            more = row["perplexity"] / base["perplexity"] - 1
            off.append((abs(more), f"{name}, {mode}"))
            title = f"{FILES[name][0]} {name} ({formats(file)})" if mode == REFERENCE else ""
            lines.append(f"| {title} | {mode} | {' | '.join(cells(row, more))} |")
    most, where = max(off)
    lines += ["", "| promise | found | |", "|---|---|---|"]
    lines.append(
        f"| perplexity within 1% in every mode | {100 * most:.2f}% at most ({where}) | {verdict(most <= 0.01)} |"
    )
    for mode in ("fast", "kernels") if SHIPPED in files else ():
        said = rows[f"{SHIPPED}/{mode}/{trial}"]["paris"]
        lines.append(f"| the shipped file says Paris, {mode} | {'yes' if said else 'no'} | {verdict(said)} |")
    return "\n".join(lines) + "\n"


def cells(row: Row, more: float) -> tuple[str, ...]:
    leads = row["leads"]
    led = f"{statistics.median(leads):.3f}, {max(leads):.3f}" if leads else "–"
    paris = {None: "–", True: "yes", False: "no"}[row.get("paris")]
    equal, agreed = f"{row['equal']} of {row['answers']}", f"{row['agreed']} of {row['tokens']}"
    return f"{row['perplexity']:.4f}", f"{100 * more:+.3f}%", equal, agreed, led, paris


def verdict(promise: bool) -> str:
    return "holds" if promise else "falls short"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", default=",".join(FILES), help="which, with commas between")
    parser.add_argument("--text", default="shakespeare", help="a corpus's name, or a file")
    for name, plain, what in (
        ("passages", 4, "passages that are read"),
        ("length", 256, "tokens of a passage"),
        ("prompts", len(QUESTIONS) * len(SUBJECTS), "questions that are asked"),
        ("new", 16, "tokens of an answer at most"),
        ("threads", min(2, os.cpu_count() or 1), "processor threads"),
    ):
        parser.add_argument(f"--{name}", type=int, default=plain, help=what)
    parser.add_argument("--work", type=Path, default=Path("accuracy-bench"), help="a folder for weights and rows")
    parser.add_argument("--out", type=Path, help="write the table here (Markdown)")
    arguments = parser.parse_args()
    names = arguments.files.split(",")
    unknown = next((name for name in names if name not in FILES), None)
    if unknown is not None:
        raise SystemExit(f'no file is called "{unknown}": {", ".join(FILES)}')
    if K_QUANT in names and importlib.util.find_spec("llama_cpp") is None:
        print(f"without {K_QUANT}: llama_cpp, which makes it, is not installed", file=sys.stderr)
        names.remove(K_QUANT)
    os.environ["CUTAWAY_KERNELS"] = "on"  # the compiler is waited for
    if kernels().library is None:
        raise SystemExit(f"there are no kernels to measure: {kernels().why}")
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.called = Path(arguments.text).name
    trial = Trial(
        text=str(located(arguments.text)),
        count=arguments.passages,
        length=arguments.length,
        prompts=arguments.prompts,
        new=arguments.new,
    )
    print(f"about {MINUTES * len(names):.0f} minutes on one core; Ctrl-C stops it", file=sys.stderr)
    kept = arguments.work / "accuracy.json"
    rows: dict[str, Row] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}

    def keep() -> None:
        with atomic(kept) as partial:
            partial.write_text(json.dumps(rows), encoding="utf-8")

    files = {name: FILES[name][1](arguments.work) for name in names}
    for name, file in files.items():
        of_file(file, name, trial, rows, keep)
    text = report(rows, files, trial, arguments)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
