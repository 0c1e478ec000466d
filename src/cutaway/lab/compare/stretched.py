"""A model made to read further than it was trained for, by its value alone: other rotations, a window, sinks.

The weights stay; the blocks' values are replaced and the model is built again around the same parts:
    block = replace(block, mixer=replace(block.mixer, rope=replace(block.mixer.rope, scaling=Yarn(...))))
Scalings: nn/rope_scaling.py. Windows: Beltagy et al. 2020 (arXiv 2004.05150); with sinks: StreamingLLM (Xiao et al.
2023, arXiv 2309.17453).   Departure: in a model whose layers see all or a window by turns (Gemma), what is stretched or
narrowed are those that see all.   Read next: lab/compare/haystack.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.positions import Learned
from cutaway.nn.rope_scaling import DynamicNtk, LinearScaling, Llama3Scaling, Scaling, Yarn


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """`trained`: the longest text that a model met in training; `context`: the longest that it is to read; `window`,
    `sinks`: those of the variants that have them."""

    trained: int
    context: int
    window: int
    sinks: int

    def __post_init__(self) -> None:
        for name, least in (("trained", 1), ("context", 2), ("window", 1), ("sinks", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"must be at least {least}, is {getattr(self, name)}", field=f"Sizes.{name}")
        if self.window + self.sinks > self.context:
            said = f"{self.window} tokens and {self.sinks} sinks are more than the context of {self.context}"
            raise BadInput(said, field="Sizes.window")

    @property
    def factor(self) -> float:
        """By how much positions have to shrink."""
        return max(1.0, self.context / self.trained)


def lengthened(spec: Decoder, context: int) -> Decoder:
    """The same model, which may read so far. Raises BadInput where it has no positions there."""
    if isinstance(spec.positions, Learned) and context > spec.positions.length:
        said = f"its positions are learned, and there are {spec.positions.length} of them: none for {context} tokens"
        raise BadInput(said, field="Decoder.positions")
    return replace(spec, length=max(spec.length, context))


def scaled(spec: Decoder, scaling: Scaling) -> Decoder | None:
    """Rotations stretched so; None where nothing turns, or where they cannot be."""
    return _changed(spec, lambda mixer: _turned(mixer, scaling))


def windowed(spec: Decoder, window: int, sinks: int = 0) -> Decoder | None:
    """Each token sees so many, itself included, and the first ones; None where no layer could have a window."""

    def narrowed(mixer: Any) -> Any:
        by_prompt = getattr(mixer, "rope", None) is not None and isinstance(mixer.rope.scaling, DynamicNtk)
        if not isinstance(mixer, GroupedQuery) or (sinks and by_prompt):
            return None
        return replace(mixer, window=window, sinks=sinks)

    return _changed(spec, narrowed)


def _turned(mixer: Any, scaling: Scaling) -> Any:
    turns = getattr(mixer, "rope", None)
    if turns is None or (isinstance(scaling, DynamicNtk) and (getattr(mixer, "sinks", 0) or turns.width == 2)):
        return None
    return replace(mixer, rope=replace(turns, scaling=scaling))


def _changed(spec: Decoder, change: Callable[[Any], Any]) -> Decoder | None:
    """With the mixers of those layers changed that see everything, of all where none does."""
    near = [isinstance(block.mixer, GroupedQuery) and block.mixer.window is not None for block in spec.blocks]
    blocks = []
    for block, keep in zip(spec.blocks, near, strict=True):
        mixer = block.mixer if keep and not all(near) else change(block.mixer)
        if mixer is None:
            return None
        blocks.append(replace(block, mixer=mixer))
    return replace(spec, blocks=tuple(blocks))


# By the names that a command line takes: the model's value and the sizes to the variant's value, None where the model
# has no such thing. Each value is already `lengthened`.
VARIANTS: Mapping[str, Callable[[Decoder, Sizes], Decoder | None]] = MappingProxyType(
    {
        "as-is": lambda spec, sizes: spec,
        "linear": lambda spec, sizes: scaled(spec, LinearScaling(factor=sizes.factor)),
        "dynamic-ntk": lambda spec, sizes: scaled(spec, DynamicNtk(factor=sizes.factor, original_length=sizes.trained)),
        "yarn": lambda spec, sizes: scaled(spec, Yarn(factor=sizes.factor, original_length=sizes.trained)),
        "llama3": lambda spec, sizes: scaled(spec, Llama3Scaling(factor=sizes.factor, original_length=sizes.trained)),
        "window": lambda spec, sizes: windowed(spec, sizes.window),
        "window+sinks": lambda spec, sizes: windowed(spec, sizes.window, sizes.sinks),
    }
)
WINDOWED = ("window", "window+sinks")  # those that leave most of a long text unread


def variant(spec: Decoder, name: str, sizes: Sizes) -> Decoder | None:
    """The value of a variant, long enough for `sizes.context`; None where the model has no such thing."""
    return VARIANTS[name](lengthened(spec, sizes.context), sizes)


def rebuilt(module: DecoderModel, spec: Decoder) -> DecoderModel:
    """Another value's model around the very same parameters, plain or packed; nothing is copied."""
    with torch.device("meta"):
        twin = spec.build()
    _share(module, twin)
    return twin.eval()


def _share(module: nn.Module, twin: nn.Module) -> None:
    """Puts what holds numbers in one module into the same places of another."""
    for name, part in module.named_children():
        there = twin.get_submodule(name)
        # Where a packed map stands in the place of a plain one, it is of another type.
        if type(part) is not type(there) or not list(part.children()):
            twin.set_submodule(name, part)
        else:
            _share(part, there)
    for name, parameter in module.named_parameters(recurse=False):
        twin.register_parameter(name, parameter)
    for name, buffer in module.named_buffers(recurse=False):
        twin.register_buffer(name, buffer, persistent=False)
