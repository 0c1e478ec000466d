"""nanoGPT's setting for a CPU ends at a validation loss of 1.88; the same budget reaches it, and a part of it does.

github.com/karpathy/nanoGPT, README, "I only have a macbook": 4 layers, 4 heads, 128 dim, context 64, batches of 12,
2,000 steps, characters of tinyshakespeare.
Read next: recipes/shakespeare_char.py, bench/train.py (wall time beside nanoGPT's)
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from cutaway.lab.card import AtMost, Card, Finding
from cutaway.lab.data_sets import found
from cutaway.recipes.shakespeare_char import shakespeare_char
from cutaway.recipes.training import Training
from cutaway.train.run import Run

STEPS, ROWS, LENGTH, PARAMETERS = 2000, 12, 64, 804_096  # nanoGPT's, position table included


def _compute() -> tuple[Finding, ...]:
    recipe = shakespeare_char(corpus=str(found("tinyshakespeare/input.txt")), steps=400)
    with tempfile.TemporaryDirectory() as folder:
        training = Training.ready(recipe, Run.create(Path(folder) / "run", "shakespeare-char", recipe), lambda _: None)
        weights = sum(weight.numel() for weight in training.module.parameters())
        lines = [moment.line for moment in training.steps()]
    tokens = sum(line["tokens"] for line in lines)
    return (
        Finding(what="validation loss, the whole split", expected=AtMost(value=1.88), ours=lines[-1]["val_loss"]),
        Finding(what="tokens seen", expected=AtMost(value=STEPS * ROWS * LENGTH), ours=tokens),
        Finding(what="parameters", expected=AtMost(value=PARAMETERS), ours=weights),
    )


CARD = Card(
    name="nanogpt-cpu",
    claim="0.8 million parameters trained for 2,000 steps on characters of Shakespeare end at a loss of 1.88.",
    source="nanoGPT, README: train_shakespeare_char.py on a CPU",
    computed="`cutaway train shakespeare-char steps=400` on tinyshakespeare: a fifth of the tokens, no more weights",
    tolerance="none: the loss is over every token of the validation part, and as low or lower",
    seconds=50,
    compute=_compute,
)
