"""Who a step's time goes to: a model's parts, its forms and its cache view, each of which tells when it runs.

The pass is given a `Context` whose forms and view count for themselves; methods of parts and of the scheduler are
wrapped on the one object, as long as `watching` lasts. torch's own hooks would do the same at four times the cost: a
module that has one is called by another way. No class is touched, and nothing is left behind.
    embedding    rows of the token table
    norms        wherever they stand
    projections  a mixer's products with weights
    positions    what turns queries and keys, and what is added to the embedding
    attention    what is left of a mixer: scores and sums, and what stands around them
    cache        keeping and fetching what mixers keep
    feed         feed-forwards and experts, all of them
    head         behind the last norm
    sampling     from logits to tokens
    engine       the rest of a step: planning, building tensors of ids, committing
    rest         what is left of the pass: residual sums, casts
What a watch costs itself is part of the times (a microsecond or so for each call): see `Phase.overhead`.
Read next: lab/profile/work.py
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.infer.engine import Engine
from cutaway.infer.scheduler import Plan
from cutaway.lab.profile.clock import Clock
from cutaway.lab.profile.listed import parts_of
from cutaway.nn.context import Apart, Context
from cutaway.nn.linear import Linear
from cutaway.ops.cpu.list import watching as lists_watched
from cutaway.ops.forms import Forms

PARTS = (
    "embedding",
    "norms",
    "projections",
    "positions",
    "attention",
    "cache",
    "feed",
    "head",
    "sampling",
    "engine",
    "rest",
)

# Which part a form works for. A product is whose it is called in; in a mixer that is a projection.
FORMS: dict[str, Callable[[str], str]] = {
    "attend": lambda name: "attention",
    "attend_blocks": lambda name: "attention",
    "attend_paged": lambda name: "attention",
    "delta": lambda name: "attention",
    "rotate": lambda name: "positions",
    "rms_norm": lambda name: "norms",
    "layer_norm": lambda name: "norms",
    "multiply": lambda name: product(name),
}
KERNELS = "kernels"
SCHEDULER = ("plan", "commit", "take", "end", "abandon", "forget")
VIEW = ("append", "read", "replace", "where", "placed", "advance")


def product(name: str) -> str:
    """Who a product with weights is counted for, by who it is called in."""
    return "projections" if name == "attention" else name


@dataclass(frozen=True, kw_only=True)
class Counting(Forms):
    """Forms that count for themselves. `given`: those that they stand for, which say what is run."""

    given: Forms

    @property
    def in_pages(self) -> Callable | None:
        return None if self.given.in_pages is None else self.attend_paged


class Watch:
    """What was seen: a clock, what passes narrowed to (None: nothing), and where each part ran."""

    def __init__(self, now: Callable[[], float] | None = None):
        self.clock = Clock() if now is None else Clock(now)
        self.narrow: torch.dtype | None = None
        self.where: defaultdict[str, set[str]] = defaultdict(set)
        self._ran = 0  # lists and products of our kernels
        self._forms: dict[int, tuple[Forms, Forms]] = {}  # by identity: the given ones, and those that count

    def told(self, context: Context) -> Context:
        """The same pass, with forms and a view that count for themselves."""
        if id(context.forms) in self._forms and context.forms is self._forms[id(context.forms)][1]:
            return context
        self.narrow = context.narrow
        seen = object.__new__(Context)  # as in Context.at
        cache, apart = self._view(context.cache), context.apart
        if apart is not None:
            apart = Apart(steps=self._view(apart.steps), rest=self._view(apart.rest))
        told = {"forms": self._counting(context.forms), "cache": cache, "apart": apart}
        seen.__dict__.update(context.__dict__, **told)
        return seen

    def _view(self, view: Any) -> Any:
        return None if view is None else WatchedView(view, self.clock)

    def _counting(self, forms: Forms) -> Forms:
        found = self._forms.get(id(forms))
        if found is None:
            held = {one.name: getattr(forms, one.name) for one in fields(Forms)}
            counted = {one: self._one(held[one], name) for one, name in FORMS.items()}
            made = Counting(given=forms, **{**held, **counted})
            # Kept under both, and the given ones with them: an identity is only theirs while they are there.
            found = self._forms[id(forms)] = self._forms[id(made)] = forms, made
        return found[1]

    def _one(self, form: Callable, name: Callable[[str], str]) -> Callable:
        place = where(form)

        def named(caller: str) -> str:
            part = name(caller)
            if place != KERNELS:
                self.where[part].add(place)
            return part

        return self.clock.timed(self._seen(form) if place == KERNELS else form, named)

    def _seen(self, form: Callable) -> Callable:
        """A form that runs our kernels where it can, and leaves the rest to torch: which of them it was."""

        def ran(*given: Any, **told: Any) -> Any:
            before, part = self._ran, self.clock.name
            made = form(*given, **told)
            self.where[part].add("torch" if self._ran == before else KERNELS)
            return made

        return ran

    def listed(self, names: tuple[str, ...], seconds: Sequence[float]) -> None:
        """A list of kernels ran. A product by itself has no seconds: its form's are counted already."""
        self._ran += 1
        if seconds:
            parts = parts_of(names)
            self.clock.share(list(zip(parts, seconds, strict=True)))
            for part in parts:
                self.where[part].add(KERNELS)


def where(form: Callable) -> str:
    """What a form may run on, by the file that it is written in: "torch", "kernels" or "triton" of ours, "own" for a
    reader's. Whether "kernels" did run, only a watch can see."""
    module = getattr(form, "__module__", None) or type(form).__module__
    if not module.startswith("cutaway."):
        return "own"
    parts = module.split(".")
    return next((place for room, place in (("cpu", KERNELS), ("triton", "triton")) if room in parts), "torch")


class WatchedView:
    """A cache view that counts the time that it takes; all else is the view's own."""

    def __init__(self, view: Any, clock: Clock):
        self._view = view
        for method in VIEW:
            if hasattr(view, method):
                setattr(self, method, clock.timed(getattr(view, method), lambda name: "cache"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)


@contextmanager
def watching(engine: Engine, watch: Watch) -> Iterator[None]:
    """As long as this lasts, and the watch's clock runs, what the engine does is counted."""
    with ExitStack() as stack:
        stack.enter_context(lists_watched(watch.listed))
        for owner, method, counted in _wrapped(engine, watch):
            setattr(owner, method, counted)  # found before the class's own; a module keeps it beside its parts
            stack.callback(delattr, owner, method)
        yield


def _wrapped(engine: Engine, watch: Watch) -> Iterator[tuple[Any, str, Callable]]:
    """Whose method, which, and what takes its place."""
    timed, module = watch.clock.timed, engine.runner.module
    for method in SCHEDULER:
        if hasattr(engine.scheduler, method):
            yield engine.scheduler, method, timed(getattr(engine.scheduler, method), lambda name: "engine")
    run = engine.runner.run

    def stepped(plan: Plan) -> Tensor:
        logits_XV = run(plan)
        if len(logits_XV):
            watch.clock.become("sampling")
        return logits_XV

    yield engine.runner, "run", stepped
    hidden, logits = timed(module.hidden, lambda name: "rest"), timed(module.logits, lambda name: "head")
    yield module, "hidden", lambda ids_N, context: hidden(ids_N, watch.told(context))

    def scored(x_ND: Tensor, context: Context) -> Tensor:
        logits_NV = logits(x_ND, watch.told(context))
        watch.clock.become("sampling")
        return logits_NV

    yield module, "logits", scored
    yield from _around(module.embedding, "embedding", timed)
    if module.positions is not None:
        yield from _around(module.positions, "positions", timed)
    for block in dict.fromkeys(module.blocks):
        parts = block._modules
        for name, part in (("attention", parts.get("mixer")), ("feed", parts.get("feed"))):
            assert part is not None, "a block without a mixer or a feed"
            yield from _around(part, name, timed)
            for one in part.modules():
                if isinstance(one, Linear):  # a packed one calls `forms.multiply`
                    yield one, "forward", timed(one.forward, product)


def _around(module: nn.Module, name: str, timed: Callable) -> Iterator[tuple[Any, str, Callable]]:
    yield module, "forward", timed(module.forward, lambda caller: name)
