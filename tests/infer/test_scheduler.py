from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cutaway.base.errors import BadInput
from cutaway.infer.block_tables import BlockTables, Keep
from cutaway.infer.decoding import Decoding
from cutaway.infer.request import Request, Sequence
from cutaway.infer.scheduler import Limits, Plan, Scheduler

from .book import Book

LENGTH = 40
LIMITS = Limits(tokens=60, sequences=4, budget=9, page=3, patience=10, slack=0)


def said(sequence: Sequence, tokens: list[int] | None = None) -> int:
    """What a model would say next: it depends on the whole text, and for several samples on which it is."""
    return hash((tuple(sequence.tokens if tokens is None else tokens), sequence.index)) % 3


def alone(sequence: Sequence) -> tuple[int, ...]:
    """The answer by the rules alone, without pages or steps."""
    tokens = list(sequence.request.prompt)
    while len(tokens) < min(len(sequence.request.prompt) + sequence.request.decoding.max_tokens, LENGTH + 1):
        tokens.append(said(sequence, tokens))
        if tokens[-1] in sequence.request.ends:
            break
    return tuple(tokens[len(sequence.request.prompt) :])


def request(prompt: list[int], new: int = 4, **told) -> Request:
    return Request(prompt=tuple(prompt), decoding=Decoding(max_tokens=new), **told)


def scheduler(*keeps: Keep, pages: int = 20, limits: Limits = LIMITS) -> Scheduler:
    keeps = keeps or (Keep(),)
    return Scheduler(BlockTables(keeps, [pages] * len(keeps), page=limits.page), limits, length=LENGTH)


def step(planner: Scheduler, book: Book) -> Plan:
    """One step in which plain values stand for tensors."""
    plan = planner.plan()
    book.copy(plan.copies)
    for part in plan.parts:
        assert part.count >= 1 and part.sequence.state == "running"
        book.write(part.sequence.number, part.sequence.tokens, part.start, part.start + part.count)
    assert sum(part.count for part in plan.parts) <= planner.limits.budget
    assert len({part.sequence for part in plan.parts}) == len(plan.parts)
    for choosing in planner.commit(plan):
        for sequence in choosing:
            planner.take(sequence, said(sequence))
    planner.check()
    return plan


def drain(planner: Scheduler, book: Book, most: int = 2000) -> int:
    """Steps until there is nothing to do."""
    for count in range(most):
        if planner.idle:
            return count
        assert step(planner, book).parts, "a step without anything to do"
    raise AssertionError(f"not done after {most} steps")


class Requests(RuleBasedStateMachine):
    """Requests that come and go while steps are taken, in few pages."""

    KEEPS = (Keep(), Keep(last=4, first=1))

    def __init__(self):
        super().__init__()
        self.planner = scheduler(*self.KEEPS, pages=14)
        self.book = Book(self.planner.tables)
        self.sequences: list[Sequence] = []
        self.cancelled: set[int] = set()

    @rule(
        prompt=st.lists(st.integers(0, 1), min_size=1, max_size=20),
        new=st.integers(0, 9),
        priority=st.integers(-2, 2),
        samples=st.integers(1, 3),
        ends=st.sampled_from([frozenset(), frozenset({2})]),
    )
    def submit(self, prompt, new, priority, samples, ends):
        first = self.planner.submit(request(prompt, new, priority=priority, samples=samples, ends=ends))
        self.sequences += first.siblings

    @precondition(lambda self: not self.planner.idle)
    @rule(times=st.integers(1, 4))
    def go_on(self, times):
        for _ in range(times):
            if not self.planner.idle:
                assert step(self.planner, self.book).parts

    @precondition(lambda self: self.sequences)
    @rule(which=st.integers(0), between=st.booleans(), whole=st.booleans())
    def cancel(self, which, between, whole):
        """Also between a plan and its commit, as a client may go away while a step runs."""
        one = self.sequences[which % len(self.sequences)]
        plan = self.planner.plan() if between else None
        if whole:
            self.planner.cancel(one)
        else:
            self.planner.end(one)
        if plan is not None:
            self.book.copy(plan.copies)
            going = [part for part in plan.parts if part.sequence.state == "running"]
            for part in going:
                self.book.write(part.sequence.number, part.sequence.tokens, part.start, part.start + part.count)
            for choosing in self.planner.commit(plan):
                for sequence in choosing:
                    self.planner.take(sequence, said(sequence))

    @rule()
    def forget(self):
        self.planner.forget()

    @rule()
    def fail(self):
        self.planner.abandon(self.planner.plan())

    @invariant()
    def sound(self):
        self.planner.check()

    def teardown(self):
        drain(self.planner, self.book)
        for one in self.sequences:
            assert one.state == "finished"
            if one.reason == "cancelled":
                assert one.answer == alone(one)[: len(one.answer)]
            else:
                assert one.answer == alone(one)
        assert all(pool.held == 0 for pool in self.planner.tables.pools), "a page leaked"
        assert not self.planner._coming


class Stateful(Requests):
    KEEPS = (Keep(), Keep(last=4), Keep(whole=True))


@pytest.mark.parametrize("machine", [Requests, Stateful])
def test_every_answer_is_what_it_is_alone(machine):
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=20, deadline=None))


@pytest.mark.proof
@pytest.mark.parametrize("machine", [Requests, Stateful])
def test_the_same_over_ten_thousand_operations(machine):
    run_state_machine_as_test(machine, settings=settings(max_examples=200, stateful_step_count=50, deadline=None))


def test_prompts_are_read_in_parts_beside_those_who_write():
    planner = scheduler()
    book = Book(planner.tables)
    planner.submit(request([0] * 3))
    step(planner, book)
    planner.submit(request([1] * 20))
    counts = [[part.count for part in step(planner, book).parts] for _ in range(3)]
    assert counts == [[1, 8], [1, 8], [1, 4]]


def test_a_more_urgent_one_is_let_in_first():
    planner = scheduler()
    late = planner.submit(request([1] * 6, priority=1))
    soon = planner.submit(request([0] * 6, priority=0))
    first = planner.submit(request([2] * 6, priority=-1))
    assert planner.waiting == [first, soon, late]
    assert [part.sequence for part in planner.plan().parts] == [first, soon]


def test_a_level_of_priority_is_worth_so_many_steps_and_nobody_starves():
    """One of low priority beside urgent ones that never cease to come."""
    limits = Limits(tokens=60, sequences=1, budget=9, page=3, patience=10, slack=0)
    planner = scheduler(limits=limits)
    book = Book(planner.tables)
    low = planner.submit(request([1] * 6, 3, priority=2))
    count = 0
    while low.state != "finished":
        while len(planner.waiting) < 3:
            planner.submit(request([0] * 6, 3, priority=0))
        step(planner, book)
        count += 1
        assert count < 2 * limits.patience + 20
    assert count > 2 * limits.patience - 5


def test_the_least_urgent_is_preempted_and_nothing_of_its_answer_is_lost():
    """Two that fit at first and not in the end."""
    planner = scheduler(pages=8)
    book = Book(planner.tables)
    first = planner.submit(request([0] * 7, 12))
    second = planner.submit(request([1] * 7, 12))
    drain(planner, book)
    assert first.preemptions == 0 and second.preemptions > 0
    assert first.answer == alone(first) and second.answer == alone(second)


def test_many_that_do_not_fit_all_end():
    """Each preemption is paid for by a token, so there is an end to them."""
    planner = scheduler(pages=13)
    book = Book(planner.tables)
    sequences = [planner.submit(request([number % 3, number], 30)) for number in range(12)]
    drain(planner, book)
    assert all(one.answer == alone(one) for one in sequences)
    assert sum(one.preemptions for one in sequences) <= sum(len(one.answer) for one in sequences)


def test_a_shared_beginning_is_read_once():
    planner = scheduler(pages=40, limits=Limits(tokens=120, sequences=8, budget=12, page=3, slack=0))
    book = Book(planner.tables)
    common = [0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0]
    sequences = [planner.submit(request([*common, 1, number % 2], 1)) for number in range(6)]
    read = []
    while not planner.idle:
        read.append(sum(part.count for part in step(planner, book).parts))
    assert sum(read) == 14 + 5 * 2  # the others wait for the first, then read what is behind the common beginning
    assert [one.shared for one in sequences] == [0] + [12] * 5


def test_samples_read_the_prompt_once_and_copy_when_they_write():
    planner = scheduler()
    book = Book(planner.tables)
    first = planner.submit(request([0] * 8, 4, samples=3))
    plan = step(planner, book)
    assert [part.count for part in plan.parts] == [8] and planner.tables.pools[0].held == 3
    plan = step(planner, book)
    assert [part.count for part in plan.parts] == [1, 1, 1]
    assert len(plan.copies) == 2 and planner.tables.pools[0].held == 5
    drain(planner, book)
    assert [one.answer for one in first.siblings] == [alone(one) for one in first.siblings]


def test_samples_for_which_there_is_no_room_wait():
    planner = scheduler()
    book = Book(planner.tables)
    first = planner.submit(request([0] * 8, 4, samples=7))
    step(planner, book)
    assert len(planner.running) == 4 and len(planner.waiting) == 3
    drain(planner, book)
    assert [one.answer for one in first.siblings] == [alone(one) for one in first.siblings]


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_cancelling_frees_at_once(steps):
    planner = scheduler()
    book = Book(planner.tables)
    one = planner.submit(request([0] * 20, 9, samples=2))
    for _ in range(steps):
        step(planner, book)
    planner.cancel(one)
    assert planner.idle and planner.tables.pools[0].held == 0
    assert [sibling.reason for sibling in one.siblings] == ["cancelled"] * 2
    planner.cancel(one)  # again: nothing to do
    planner.check()


def test_ending_the_first_sample_leaves_the_others():
    planner = scheduler()
    book = Book(planner.tables)
    one = planner.submit(request([0] * 20, 5, samples=3))
    step(planner, book)
    planner.end(one)
    drain(planner, book)
    assert [sibling.reason for sibling in one.siblings] == ["cancelled", "length", "length"]
    assert [sibling.answer for sibling in one.siblings[1:]] == [alone(sibling) for sibling in one.siblings[1:]]


def test_what_asks_for_nothing_is_answered_at_once():
    planner = scheduler()
    one = planner.submit(request([0] * 3, 0, samples=2))
    assert planner.idle and [sibling.reason for sibling in one.siblings] == ["length"] * 2


def test_an_answer_ends_where_the_context_does():
    planner = scheduler()
    book = Book(planner.tables)
    one = planner.submit(request([0] * LENGTH, 9))
    drain(planner, book)
    assert len(one.answer) == 1 and one.reason == "length"  # the last token is never read


def test_a_page_that_is_held_by_nobody_is_found_out():
    planner = scheduler()
    book = Book(planner.tables)
    planner.submit(request([0] * 20, 9))
    step(planner, book)
    planner.running[0].state = "waiting"
    with pytest.raises(AssertionError):
        planner.check()


def test_a_request_that_could_never_run_is_refused():
    with pytest.raises(BadInput, match="the model's context 40"):
        scheduler().submit(request([0] * 41))
    with pytest.raises(BadInput, match=r"raise Limits\.tokens"):
        scheduler(pages=5).submit(request([0] * 15, 2))
    scheduler(pages=5).submit(request([0] * 15, 1))
    with pytest.raises(BadInput, match="at least one"):
        request([])
    with pytest.raises(BadInput, match="samples"):
        request([1], samples=0)
    with pytest.raises(BadInput, match="priority"):
        request([1], priority=0.5)


def test_limits_leave_room_for_prompts():
    with pytest.raises(BadInput, match="for a prompt"):
        Limits(sequences=8, budget=8)
    with pytest.raises(BadInput, match=r"Limits\.page"):
        Limits(page=0)
