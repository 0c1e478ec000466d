"""Reading beyond the trained length: each way of stretching a model, or of narrowing what it sees, beside the others.

For each position of a text the loss, and for each length and depth whether a number told there is found
(lab/compare/haystack.py), under every variant that the model can take (lab/compare/stretched.py).
Read next: lab/compare/length_page.py, cli/compare/length.py
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise

from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.infer.language import Language
from cutaway.infer.load import load
from cutaway.lab.compare import length_page
from cutaway.lab.compare.comparison import Cell, Figures, Measured, Table
from cutaway.lab.compare.haystack import Reader, questions, read
from cutaway.lab.compare.passages import learned, passages
from cutaway.lab.compare.short import SHORT, STEPS, short
from cutaway.lab.compare.stretched import rebuilt, variant
from cutaway.lab.compare.subject import Subject, key
from cutaway.models.decoder import Decoder
from cutaway.ops.choice import choose_attend
from cutaway.ops.forms import attended

BUCKETS = 32  # of positions, at most
LEAST = 16  # tokens of a bucket


@dataclass(frozen=True, kw_only=True)
class LengthComparison:
    """`text`: a corpus by its name, a file or a folder. `steps`: those of the small models' training. `attend`: the
    form of attention that reads (ops/choice.py)."""

    subjects: tuple[Subject, ...]
    text: str
    depths: tuple[float, ...] = (0.1, 0.5, 0.9)
    steps: int = STEPS
    seed: int = 0
    attend: str | None = None

    def __post_init__(self) -> None:
        names = [subject.model for subject in self.subjects]
        if not names or len(set(names)) != len(names):
            raise BadInput("needs a model, and each once", field="subjects")
        if not self.depths or not all(0.0 <= depth <= 1.0 for depth in self.depths):
            raise BadInput(f"must be from 0 to 1, are {self.depths}", field="depths")
        if self.steps < 1:
            raise BadInput(f"must be at least 1, is {self.steps}", field="steps")
        choose_attend(self.attend)

    def cells(self) -> tuple[Cell, ...]:
        found = []
        for subject in self.subjects:
            if subject.model in SHORT:
                told = {"about": f"training {subject.model}", "seconds": 0.15 * self.steps}
                found.append(Cell(key=f"{subject.model}, trained", measure=partial(self._train, subject), **told))
            for name in subject.variants:
                about, seconds = f"{subject.model} {name}", subject.seconds(name, self.depths)
                measure = partial(self._measure, subject, name)
                found.append(Cell(key=key(subject.model, name), about=about, seconds=seconds, measure=measure))
        return tuple(found)

    def tables(self, measured: Measured) -> tuple[Table, ...]:
        return length_page.tables(self.subjects, measured)

    def page(self, measured: Measured) -> str:
        return length_page.page(self.subjects, self.text, measured, self.attend)

    def _train(self, subject: Subject) -> Figures:
        language = opened(subject.model, self.text, self.steps, self.seed)
        return {"parameters": sum(weight.numel() for weight in language.module.parameters())}

    def _measure(self, subject: Subject, name: str) -> Figures:
        language = opened(subject.model, self.text, self.steps, self.seed)
        spec = variant(_spec(language), name, subject.sizes)
        if spec is None:
            raise BadInput(f"has no variant {name}", source=subject.model)
        assert language.tokenizer is not None
        ids_BT = passages(language.tokenizer, self.text, subject.passages, subject.context)
        asked = questions(language.tokenizer, subject.passages, subject.lengths, self.depths, self.seed)
        reader = Reader(
            rebuilt(language.module, spec),  # type: ignore[arg-type]
            passages=subject.passages,
            prompt=subject.context,
            forms=attended(self.attend),
            formats=language.continuation().formats,
        )
        losses_BT, answers = read(reader, ids_BT, asked)
        return {
            **curve(losses_BT.mean(0)),
            "within": _mean(losses_BT, subject.trained // 2, subject.trained),
            "beyond": _mean(losses_BT, subject.trained, subject.context),
            "passkey": [
                {"length": one.length, "depth": one.depth, "found": found, "nats": nats}
                for one, found, nats in sorted(answers, key=lambda told: (told[0].length, told[0].depth))
            ],
        }


def curve(losses_T: Tensor) -> Figures:
    """Mean losses of stretches of positions, and the first token of each: position t is said by the t before it."""
    count = max(1, min(BUCKETS, len(losses_T) // LEAST))
    edges = [len(losses_T) * at // count for at in range(count + 1)]
    means = [float(losses_T[first:last].mean()) for first, last in pairwise(edges)]
    return {"edges": edges, "losses": means}


def _mean(losses_BT: Tensor, first: int, last: int) -> float | None:
    """Of the tokens at positions `first` to `last` - 1; None of none."""
    # Loss t is that of token t + 1.
    part = losses_BT[:, max(0, first - 1) : max(0, last - 1)]
    return float(part.mean()) if part.numel() else None


@lru_cache(maxsize=1)
def opened(model: str, text: str, steps: int, seed: int) -> Language:
    """The model by its name; a small one is trained if need be."""
    if model in SHORT:
        module, tokenizer = short(model, learned(text), steps=steps, seed=seed)
        return Language(module, tokenizer, source=model)
    language = load(model)
    if not isinstance(language, Language) or not isinstance(language.spec, Decoder):
        raise BadInput("only a decoder reads on and on", source=model)
    if language.tokenizer is None:
        raise BadInput("came without a tokenizer: texts cannot be read", source=model)
    return language


def _spec(language: Language) -> Decoder:
    assert isinstance(language.spec, Decoder)
    return language.spec
