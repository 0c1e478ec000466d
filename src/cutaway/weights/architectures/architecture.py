"""An architecture: how a checkpoint of one `model_type` describes a model, and what it calls its parameters.

Read next: weights/architectures/llama.py
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.models.encoder import Encoder, EncoderModel
from cutaway.models.encoder_decoder import EncoderDecoder, EncoderDecoderModel
from cutaway.weights.architectures.place import Names, Place, place_of
from cutaway.weights.fields import Fields

Spec = Decoder | Encoder | EncoderDecoder  # what a checkpoint may describe
Model = DecoderModel | EncoderModel | EncoderDecoderModel


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """`spec` reads config.json, `config` writes it: an architecture can hold a value of the kind `holds` if reading
    gives it back.

    `names` are those of Hugging Face checkpoints, behind `prefix`, which a checkpoint without a head leaves out;
    `gguf_names` are llama.cpp's, whose name for the architecture is `gguf` (None: it has none). `copies`: tensors that
    some files hold once more, by the name of our parameter that they must equal. `older`: ends of names as older
    programs wrote them, and what they are now. `fit` alters a value by the names of the tensors that there are.
    `stacked_names`: those of files that hold each layer's experts as one tensor.
    `variant`: the architecture by whose names a value's tensors go, where values of one `model_type` differ in that.
    """

    model_type: str
    made_by: str  # transformers' class, which config.json names
    prefix: str
    names: Names
    spec: Callable[[Fields], Any]
    config: Callable[[Any], dict[str, Any]]
    holds: type = Decoder
    gguf: str | None = None
    gguf_names: Names | None = None
    stacked_names: Names | None = None
    passed_over: tuple[str, ...] = ()  # starts of the names of tensors that belong to other parts of the model
    copies: Mapping[str, str] = field(default_factory=dict)
    older: Mapping[str, str] = field(default_factory=dict)
    fit: Callable[[Any, Collection[str]], Any] | None = None
    variant: Callable[[Any], Architecture] | None = None
    bare: Callable[[Any], bool] = lambda spec: False  # whether it is written without `prefix`

    def of(self, spec: Any) -> Architecture:
        """The one by whose names this value's tensors go."""
        return self if self.variant is None else self.variant(spec)

    def names_in(self, entries: Collection[str]) -> Names:
        """The names by which a checkpoint with such tensors goes."""
        stacks = [place for place in (self.stacked_names or {}).values() if isinstance(place, Place) and place.stacked]
        ends = tuple(place.name.rpartition("*")[2] for place in stacks)
        found = self.stacked_names is not None and any(name.endswith(ends) for name in entries)
        return self.stacked_names if found and self.stacked_names is not None else self.names

    def copied(self) -> dict[str, str]:
        """`copies`, and a tied decoder's head, which is its token table."""
        head = {place_of(self.names, "head.weight").name: "embedding.weight"} if "head" in self.names else {}
        return head | dict(self.copies)
