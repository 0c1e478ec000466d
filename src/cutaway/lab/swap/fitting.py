"""A reader's part put into a loaded model: a form in its context, the sampler, or every module of a class.

Read next: ops/forms.py, lab/swap/child.py
"""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.infer.language import Language
from cutaway.lab.swap.part import Part
from cutaway.nn.quantised import QuantisedLinear
from cutaway.ops.blocks.dequantise import dequantise_readable
from cutaway.ops.forms import Forms
from cutaway.ops.multiply.narrow import never


def fitted(language: Language, part: Part, mine: Any) -> tuple[Language, int]:
    """The model with the part in it, all else as it was, and how often a token meets it. BadInput where the model has
    no place for it."""
    told: dict[str, Any] = {"source": language.source, "forms": language.forms}
    if part.place == "choose":
        return Language(language.module, language.tokenizer, **told, sampler=mine), 1
    if part.place in {field.name for field in fields(Forms)}:
        places = _calls(language, part.place)
        if not places:
            raise BadInput(f"never calls {part.place}: {part.name} would change nothing", source=language.source)
        told["forms"] = replace(language.forms, **{part.place: mine})
        return Language(language.module, language.tokenizer, **told), places
    module, places = copy.deepcopy(language.module), 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == part.place:
                setattr(parent, name, _made(mine, child))
                places += 1
    if not places:
        raise BadInput(f"has no {part.place}: nothing to put {part.name} in the place of", source=language.source)
    # A packed model's parts hand on bfloat16 where that pays: the reader's module has weights in float32 alone.
    told["forms"] = replace(language.forms, narrow=never)
    return Language(module, language.tokenizer, **told), places


def _calls(language: Language, place: str) -> int:
    """How often a pass over one token calls this form."""
    calls, ours = 0, getattr(language.forms, place)

    def counting(*given: Any, **told: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return ours(*given, **told)

    forms = replace(language.forms, **{place: counting})
    with torch.no_grad():
        Language(language.module, forms=forms)(torch.zeros(1, 1, dtype=torch.long))
    return calls


def _made(mine: Any, ours: nn.Module) -> nn.Module:
    """The reader's module with the weights of ours, unpacked where they are packed."""
    state = dict(_state(ours))
    dim = next(value.shape[-1] for name, value in state.items() if name.endswith("weight"))
    module = mine(dim, ours.spec)
    module.load_state_dict(state)
    return module.eval()


def _state(module: nn.Module, prefix: str = "") -> list[tuple[str, Tensor]]:
    if isinstance(module, QuantisedLinear):
        weight = dequantise_readable(module.packed.blocks, module.packed.format).to(torch.float32)
        return [(f"{prefix}weight", weight), *([] if module.bias is None else [(f"{prefix}bias", module.bias)])]
    own: list[tuple[str, Tensor]] = [(prefix + name, value) for name, value in module.named_parameters(recurse=False)]
    for name, child in module.named_children():
        own += _state(child, f"{prefix}{name}.")
    return own
