"""Turns a plan into tensors: one pass over all its parts, laid end to end, and logits where a token is to be chosen.

Only this file and infer/paged.py know that there are tensors at all.
N tokens of all parts, flat · X of them whose logits are asked for · V vocabulary
Read next: infer/engine.py, models/decoder.py
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.infer.kernel_pages import KernelPages
from cutaway.infer.kernel_reach import asked, orderly
from cutaway.infer.paged import PagedCache, PagedView
from cutaway.infer.rounded import Rounded
from cutaway.infer.scheduler import Limits, Plan
from cutaway.infer.stretches import Stretch, flat, whole
from cutaway.infer.watch import Watch
from cutaway.models.decoder import DecoderModel
from cutaway.nn.context import Context
from cutaway.nn.narrow_cache import narrow_streams, seen_through
from cutaway.nn.quantised import QuantisedLinear
from cutaway.nn.rope_scaling import DynamicNtk
from cutaway.ops.forms import NAMED, READABLE, Forms
from cutaway.ops.multiply.narrow import never


class Runner:
    """A live module and the pages of all sequences. `deterministic`: a token's logits do not depend on who else is in
    the pass, nor on the part of its prompt that comes with it (infer/rounded.py). `kept`: what pages hold, None for
    what the model computes in (nn/narrow_cache.py), or for fp16 where our kernels read them."""

    def __init__(
        self,
        module: DecoderModel,
        limits: Limits,
        forms: Forms,
        *,
        deterministic: bool = False,
        kept: torch.dtype | None = None,
    ):
        place = next(parameter for parameter in module.parameters() if parameter.is_floating_point())
        self.module, self.dtype, self.device = module, place.dtype, place.device
        int8 = asked(module, forms) if orderly(module) or not deterministic else None
        self.kept = torch.float16 if kept is None and int8 is not None else kept
        streams = narrow_streams(module.spec.streams(), self.kept)
        self.cache = PagedCache(streams, limits, dtype=self.dtype, device=self.device)
        self.deterministic = deterministic
        self.forms = forms
        if deterministic:
            if self.dtype.itemsize < 4:
                said = f"is promised for float32, this model computes in {self.dtype}: texts may part at near ties"
                raise BadInput(said, field="deterministic")
            self.forms = steady(forms)
        linear = [part.packed.format.name for part in module.modules() if isinstance(part, QuantisedLinear)]
        self.formats = frozenset(linear if self.device.type == "cpu" and self.dtype == torch.float32 else ())
        ropes = [getattr(block.mixer, "rope", None) for block in module.spec.blocks]
        self.by_prompt = any(isinstance(rope.scaling, DynamicNtk) for rope in ropes if rope is not None)
        self.weights = Watch.over(module)
        # What runs passes where our kernels do, or None. Their sums are of one order as they are.
        self.steps: KernelPages | None = None
        if int8 is not None:
            told = {"sequences": limits.sequences, "int8": int8, "length": module.spec.length, "steady": deterministic}
            self.steps = KernelPages(module, self.cache, **told)

    def run(self, plan: Plan) -> Tensor:
        """The logits (X, V) behind the parts that sample and behind each of their guesses, in their order, then those
        behind all tokens that are scored. Takes one step of their sequences."""
        training = self.module.training
        if training:  # it is trained meanwhile; here it drops nothing
            self.module.eval()
        try:
            with torch.inference_mode(), self.rounded():
                self.cache.copy(plan.copies)
                return self._pass(plan) if self.steps is None else self.steps.run(plan.parts, self._told)
        finally:
            if training:
                self.module.train()

    def _pass(self, plan: Plan) -> Tensor:
        """What `run` says, by torch."""
        ids, _, rows = flat(plan.parts)
        context = self._told(whole(plan.parts))
        ids_N, rows_X = (torch.tensor(one, dtype=torch.long).to(self.device) for one in (ids, rows))
        if not rows:
            x_ND, _ = self.module.hidden(ids_N, context)
            return x_ND.new_empty(0, self.module.spec.vocab)
        return self.module(ids_N, context, rows_X)[0]

    def review(self) -> None:
        """The module's parts may have been replaced, or its weights."""
        self.weights = Watch.over(self.module)
        if self.steps is not None:
            self.steps.review()

    def rounded(self) -> AbstractContextManager:
        """What arithmetic happens in: as it comes, or rounded."""
        return Rounded() if self.deterministic else nullcontext()

    def _told(self, stretches: Sequence[Stretch]) -> Context:
        """What the module is told of a pass over these tokens."""
        lengths = tuple(to - at for _, at, to in stretches)
        positions = [place for _, at, to in stretches for place in range(at, to)]
        pages = PagedView(self.cache, [part.sequence.number for part, _, _ in stretches], lengths)
        view = seen_through(pages, self.module.spec.streams(), self.kept, self.dtype)
        return Context(
            lengths=lengths,
            positions_N=torch.tensor(positions, dtype=torch.long).to(self.device),
            cache=view,
            forms=self.forms,
            prompts=tuple(len(part.sequence.request.prompt) for part, _, _ in stretches),
            # Each part is as exact as it is alone: steps are steps, however many, and prompts are not steps.
            narrow=self.forms.narrow(max(lengths), self.formats),
            apart=view.apart() if isinstance(view, PagedView) else None,
        )


def steady(forms: Forms) -> Forms:
    """The same without what chooses its arithmetic by the size of a pass; a reader's own forms stay."""
    kept = {
        name: getattr(READABLE, name)
        for name in ("rms_norm", "multiply", "delta")
        if any(getattr(forms, name) is getattr(one, name) for one in NAMED.values())
    }
    return replace(forms, narrow=never, absorb=lambda cheaper: True, **kept)
