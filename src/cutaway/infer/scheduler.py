"""Who takes part in the next step, with how many tokens: a plan on plain values, without tensors.

Continuous batching (Orca, Yu et al. 2022, OSDI), chunked prefill under a budget of tokens (Sarathi-Serve, Agrawal et
al. 2024, arXiv 2403.02310, section 4), preemption by recomputation (PagedAttention, arXiv 2309.06180, section 4.5).
  1  each running sequence that waits for its next token only takes one of the budget, then prompts what is left of it
  2  where pages run out, the least urgent that runs is preempted: its pages go, its tokens stay and are read again
  3  then those who wait are let in, the most urgent first, as long as there are pages for all that they know already
Urgency: due = step of arrival + priority * patience, the smaller first. The order of two never changes, so the most
urgent one always goes on; and whoever waits is, in the end, more urgent than all that arrive: nobody starves. Only a
running sequence preempts, for a page that its next token needs, so every preemption is paid for by a token.
Those whose next page another one is reading just now wait for it and share it.
Read next: infer/block_tables.py, infer/runner.py
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from cutaway.base.errors import BadInput
from cutaway.infer.block_tables import BlockTables, Copy
from cutaway.infer.pages import NoPages
from cutaway.infer.request import Request, Sequence, StopReason


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`tokens`: those of all sequences that can be held at once, shared ones counted once. `sequences`: how many run at
    once. `budget`: tokens of one step. `page`: tokens of one page. `patience`: steps that one level of priority is
    worth. `slack`: tokens that can be taken back where a mixer has a window."""

    tokens: int = 8192
    sequences: int = 32
    budget: int = 512
    page: int = 16
    patience: int = 256
    slack: int = 16

    def __post_init__(self) -> None:
        for name in ("tokens", "sequences", "budget", "page", "patience", "slack"):
            count, least = getattr(self, name), 0 if name == "slack" else 1
            if type(count) is not int or count < least:
                raise BadInput(f"must be a whole number, at least {least}, is {count!r}", field=f"Limits.{name}")
        if self.budget <= self.sequences:
            said = f"{self.sequences} running sequences would leave nothing of {self.budget} tokens for a prompt"
            raise BadInput(said, field="Limits.budget")


@dataclass(eq=False, slots=True)  # to make a frozen one takes three times as long, and each step makes many
class Part:
    """Tokens start .. start + count - 1 of a sequence. `samples`: the last of them is the last that is known.
    `scores`: those of them whose logits tell a prompt's logprobs. `guesses`: the last ones of `count`, which nobody
    has written yet; the logits behind each are asked for."""

    sequence: Sequence
    start: int
    count: int
    samples: bool
    scores: range = range(0)
    guesses: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """One step: what is copied, in this order, then one pass over all parts."""

    parts: tuple[Part, ...]
    copies: tuple[Copy, ...] = ()


class Counts:
    """What has happened since the beginning; `infer.ask.Stats` says what each is."""

    def __init__(self) -> None:
        self.steps = self.prompt_tokens = self.written_tokens = self.preemptions = 0
        self.prefix_hits = self.prefix_tokens = self.proposed = self.accepted = 0


class Scheduler:
    """Sequences and their pages. `length`: the longest sequence of the model."""

    def __init__(self, tables: BlockTables, limits: Limits, *, length: int):
        if tables.page != limits.page:
            raise BadInput(f"the tables' pages have {tables.page} tokens, not {limits.page}", field="Limits.page")
        self.tables, self.limits, self.length = tables, limits, length
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []  # the most urgent first
        self._coming: dict[bytes, int] = {}  # pages that are being read just now, and by whom
        self._numbers = 0
        self.counts = Counts()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.running and not self.waiting

    @property
    def longest(self) -> int:
        """Tokens that a prompt and its answer can have together; the last one is never read."""
        held = range(1, self.length + 1)
        return 1 + bisect_left(held, True, key=lambda tokens: not self.tables.fits(tokens, self.limits.budget))

    def submit(self, request: Request, salt: bytes = b"") -> Sequence:
        """Takes a request in; the first of the sequences that answer it. Raises BadInput where none ever could."""
        limit = self.refuse(request)
        due = self.counts.steps + request.priority * self.limits.patience
        siblings = [
            Sequence(request, self._numbers + index, index, limit=limit, due=due, salt=salt)
            for index in range(request.samples)
        ]
        self._numbers += len(siblings)
        self.counts.prompt_tokens += len(request.prompt)
        for sequence in siblings:
            sequence.siblings = siblings
            if limit <= len(request.prompt) and (sequence.index or not request.prompt_logprobs):
                sequence.end("length")  # it asks for nothing
        if siblings[0].state != "finished":
            self._wait(siblings[0])
        return siblings[0]

    def refuse(self, request: Request) -> int:
        """Raises BadInput for what could never be answered; returns the tokens that an answer may become long, prompt
        included. Changes nothing, so that any thread may ask."""
        prompt, most = len(request.prompt), request.decoding.max_tokens
        if prompt > self.length:
            raise BadInput(f"has {prompt} tokens, the model's context {self.length}", field="prompt")
        limit = min(prompt + most, self.length + 1)
        if not self.tables.fits(limit - 1, self.limits.budget):
            said = f"{prompt} tokens and {most} new ones need more pages than there are: raise Limits.tokens"
            raise BadInput(said, field="prompt")
        return limit

    def plan(self) -> Plan:
        """The next step. Running sequences may be preempted, waiting ones begin to run."""
        self.counts.steps += 1
        made: dict[int, tuple[Part, list[Copy]]] = {}  # in the order in which pages were reserved
        left, preempted = self.limits.budget, False
        for sequence in sorted(self.running, key=lambda one: (self._pending(one) > 1, *one.rank)):
            if sequence.state != "running" or not left:
                continue
            part = self._part(sequence, left)
            while (copies := self._reserve(part)) is None:
                if part.guesses:  # they are worth nobody's pages
                    sequence.guesses = ()
                    part = self._part(sequence, left)
                    continue
                preempted = True
                victim = max(self.running, key=lambda one: one.rank)
                self._preempt(victim)
                if victim.number in made:
                    left += made.pop(victim.number)[0].count
                if victim is sequence:
                    break
            if copies is not None:
                made[sequence.number] = part, copies
                left -= part.count
        if not preempted:
            self._admit(left, made)
        parts, copies = [part for part, _ in made.values()], [copy for _, some in made.values() for copy in some]
        return Plan(parts=tuple(parts), copies=tuple(copies))

    def _admit(self, left: int, made: dict[int, tuple[Part, list[Copy]]]) -> None:
        """Lets in who waits, the most urgent first, until there is no room for one."""
        for sequence in list(self.waiting):
            if not left or len(self.running) >= self.limits.sequences:
                return
            if self._follows(sequence):
                continue
            keys, known = sequence.keys(self.limits.page), len(sequence.tokens)
            self.tables.open(sequence.number)
            shared = self.tables.share(sequence.number, keys, sequence.most)
            part = self._part(sequence, left)
            copies = self._reserve(part, ahead=known)
            # A page is left for each that runs: to let one in and preempt it at once would be of no use.
            if copies is None or (self.running and self.tables.spare < len(self.running)):
                self.tables.close(sequence.number)
                return
            self.waiting.remove(sequence)
            self.running.append(sequence)
            sequence.state = "running"
            if not sequence.preemptions:
                sequence.shared = shared
                self.counts.prefix_hits += shared > 0
                self.counts.prefix_tokens += shared
            for key in keys[shared // self.limits.page :]:
                self._coming.setdefault(key, sequence.number)
            made[sequence.number] = part, copies
            left -= part.count

    def _follows(self, sequence: Sequence) -> bool:
        """Whether the first page that it does not find is being read by another: then it waits to share it."""
        if not self._coming:
            return False
        keys, most = sequence.keys(self.limits.page), sequence.most
        found = self.tables.shareable(keys, most) // self.limits.page
        return found < most // self.limits.page and keys[found] in self._coming

    @property
    def writing(self) -> list[Sequence]:
        """Those that run and wait for their next token only, behind one that they wrote."""
        return [one for one in self.running if self._pending(one) == 1 and len(one.tokens) > len(one.request.prompt)]

    def commit(self, plan: Plan) -> list[list[Sequence]]:
        """A pass went well. Returns, for each part that samples, the sequences that choose a token by its logits: its
        own, and its siblings where it has just read the prompt for all. None where it was cancelled meanwhile."""
        choosing = []
        for part in plan.parts:
            sequence, page = part.sequence, self.limits.page
            running = sequence.state == "running"
            if running and not part.guesses:  # or else `keep` settles it, once it is known what was right
                end = part.start + part.count
                ended = slice(part.start // page, end // page)
                keys = sequence.keys(page) if ended.start < ended.stop else ()  # they are asked for where a page ended
                self.tables.settle(sequence.number, end, keys)
                for key in keys[ended]:
                    if self._coming.get(key) == sequence.number:
                        del self._coming[key]
            if part.samples:
                choosing.append([sequence, *self._followers(sequence)] if running else [])
        return choosing

    def _followers(self, sequence: Sequence) -> list[Sequence]:
        """The siblings that go on from where this one is; those for which there is no room wait, and read it again."""
        began = []
        for sibling in sequence.siblings:
            if sibling.state != "following":
                continue
            if len(self.running) < self.limits.sequences:
                self.tables.fork(sequence.number, sibling.number)
                self.running.append(sibling)
                sibling.state = "running"
                began.append(sibling)
            else:
                self._wait(sibling)
        return began

    def keep(self, part: Part, count: int) -> None:
        """Of the guesses of a part the first `count` were right; what the pass kept of the others is taken back."""
        self.counts.proposed += len(part.guesses)
        self.counts.accepted += count
        if part.sequence.state == "running":
            end, keys = part.start + part.count - len(part.guesses) + count, part.sequence.keys(self.limits.page)
            self.tables.settle(part.sequence.number, end, keys)

    def take(self, sequence: Sequence, token: int) -> None:
        """A token that a running sequence chose. At its end it lets go of all its pages."""
        sequence.take(token)
        self.counts.written_tokens += 1
        if sequence.state == "finished":
            self._leave(sequence)

    def end(self, sequence: Sequence, reason: StopReason = "cancelled") -> None:
        """Ends a sequence that has not ended: its pages are free at once. Those that follow it are let in instead."""
        if sequence.state == "running":
            self._leave(sequence)
        elif sequence.state == "waiting":
            self.waiting.remove(sequence)
        if sequence.state != "finished":
            sequence.end(reason)
            for sibling in sequence.siblings[1:]:
                if sequence.index == 0 and sibling.state == "following":
                    self._wait(sibling)

    def cancel(self, sequence: Sequence) -> None:
        """Ends all that answers the same request."""
        for sibling in reversed(sequence.siblings):  # the first at last: nobody follows it any more
            self.end(sibling)

    def abandon(self, plan: Plan) -> None:
        """A pass went wrong: nobody knows what its sequences hold. They are read again."""
        for part in plan.parts:
            if part.sequence.state == "running":
                self._preempt(part.sequence)

    def forget(self) -> None:
        """All that was read is out of date: nothing is shared with it, and what runs is read again."""
        for sequence in list(self.running):
            self._preempt(sequence)
        self.tables.forget()

    def _pending(self, sequence: Sequence) -> int:
        return len(sequence.tokens) - self.tables.length(sequence.number)

    def _part(self, sequence: Sequence, left: int) -> Part:
        """The next tokens of a sequence, as many as are left of the budget. With states, a part that could end at a
        page's border does: there its state can be shared."""
        start, known = self.tables.length(sequence.number), len(sequence.tokens)
        count = min(known - start, left)
        if self.tables.stateful and count > 1:
            # The last token of a text is always read, by whoever shares what stands before it.
            border = min(start + count, known - 1) // self.limits.page * self.limits.page
            count = border - start if border > start else count
        wanted, end = sequence.unscored, start + count
        scores = range(max(start, wanted.start), min(end, wanted.stop)) if wanted else wanted
        guesses = tuple(sequence.guesses[: left - count]) if end == known else ()
        return Part(sequence, start, count + len(guesses), end == known, scores, guesses)

    def _reserve(self, part: Part, ahead: int = 0) -> list[Copy] | None:
        try:
            return self.tables.reserve(part.sequence.number, part.start + part.count, ahead)
        except NoPages:
            return None

    def _wait(self, sequence: Sequence) -> None:
        sequence.state = "waiting"
        insort(self.waiting, sequence, key=lambda one: one.rank)

    def _leave(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.tables.close(sequence.number)
        self._coming = {key: number for key, number in self._coming.items() if number != sequence.number}

    def _preempt(self, sequence: Sequence) -> None:
        sequence.preemptions += 1
        sequence.guesses = ()
        self.counts.preemptions += 1
        self._leave(sequence)
        self._wait(sequence)

    def check(self) -> None:
        """Asserts the invariants, between two steps."""
        self.tables.check()
        assert self.tables.owners >= {one.number for one in self.running}, "a running sequence has no table"
        assert not self.tables.owners & {one.number for one in self.waiting}, "a waiting sequence holds pages"
        assert len(self.running) <= self.limits.sequences, "too many run"
        assert all(one.state == "running" and self._pending(one) >= 1 for one in self.running), "nothing is pending"
        assert all(one.state == "waiting" for one in self.waiting), "one who waits does not"
        ranks = [one.rank for one in self.waiting]
        assert ranks == sorted(set(ranks)), "who waits stands in no order"
        unread = {
            (key, one.number)
            for one in self.running
            for key in one.keys(self.limits.page)[self.tables.length(one.number) // self.limits.page :]
        }
        assert set(self._coming.items()) <= unread, "pages come from nobody"
