"""The recipes by name, without importing any: what each makes, how long it takes, where it is written.

Read next: recipes/nano.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

from cutaway.base.errors import NotFound
from cutaway.base.names import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Listing:
    """`takes`: the time on two cores, unless it says otherwise. `home`: module and function."""

    name: str
    about: str
    takes: str
    home: tuple[str, str]

    def function(self) -> Callable[..., Any]:
        """What returns the recipe's value; its parameters are the recipe's knobs. Imports torch."""
        module, name = self.home
        return getattr(import_module(f"cutaway.recipes.{module}"), name)


_ALL = (
    Listing(
        name="nano",
        about="a small Llama with QK-norm that has read Shakespeare's plays, with its own byte-pair tokenizer",
        takes="about 3 minutes",
        home=("nano", "nano"),
    ),
    Listing(
        name="shakespeare-char",
        about="nanoGPT's setting for a CPU: characters of Shakespeare, 0.8 million parameters, 2,000 steps",
        takes="about 1 to 2 minutes",
        home=("shakespeare_char", "shakespeare_char"),
    ),
    Listing(
        name="bert-mini",
        about="a small BERT that has learned to fill in masked words of Shakespeare",
        takes="about 4 minutes",
        home=("bert_mini", "bert_mini"),
    ),
    Listing(
        name="t5-tiny",
        about="a small T5 that writes words backwards and dates the one right way",
        takes="about 3 minutes",
        home=("t5_tiny", "t5_tiny"),
    ),
    Listing(
        name="translate",
        about="the original Transformer in small: classical Chinese into modern, or whatever pairs it is given",
        takes="about 10 minutes",
        home=("translate", "translate"),
    ),
    Listing(
        name="gpt2-124m",
        about="GPT-2 as it was, 124 million parameters, on 10 billion tokens that `cutaway data prepare` laid out",
        takes="hours on 8 GPUs",
        home=("gpt2_124m", "gpt2_124m"),
    ),
)
RECIPES = MappingProxyType({one.name: one for one in _ALL})


def find(name: str) -> Listing:
    """The recipe called `name`. Raises NotFound with the nearest names."""
    if name not in RECIPES:
        raise NotFound(f'no recipe is called "{name}"{did_you_mean(name, RECIPES)}')
    return RECIPES[name]
