"""The service: many threads ask, each is told its own answers, and nothing ever hangs."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from cutaway.base.errors import CutawayError
from cutaway.infer.ask import Ask, Busy, Event
from cutaway.infer.decoding import Decoding
from cutaway.infer.language import Language
from cutaway.infer.rounded import Rounded
from cutaway.infer.runner import steady
from cutaway.infer.scheduler import Limits
from cutaway.infer.service import Service, Ticket
from cutaway.ops.forms import FAST

from .spoken import END, ids, language

LONG = 60.0  # seconds that nothing here should ever take
LIMITS = Limits(tokens=640, sequences=4, budget=24, page=8)


@contextmanager
def serving(**told) -> Iterator[Service]:
    service = Service(language(), **{"limits": LIMITS, **told})
    try:
        yield service
        service._engine.check()
    finally:
        service.close()


class Heard(list[Event]):
    """What one ask was told, in order."""

    def text(self, index: int = 0) -> str:
        return "".join(event.text for event in self if event.index == index)

    def tokens(self, index: int = 0) -> list[int | None]:
        return [event.token for event in self if event.index == index and event.kind == "token"]

    def reason(self, index: int = 0) -> str | None:
        [end] = [event for event in self if event.index == index and event.kind == "end"]
        return end.reason


def asked(service: Service, **told) -> Heard:
    heard = Heard()
    assert service.ask(Ask(**told), heard.append).wait(LONG)
    return heard


def saying(text: str, more: int = 20, **told) -> Decoding:
    """An answer that begins so."""
    return Decoding(forced=ids(text), max_tokens=len(ids(text)) + more, **told)


def test_an_answer_is_that_of_generate():
    with serving() as service:
        for told in ({}, {"temperature": 1.0, "seed": 4, "top_k": 40}, {"min_tokens": 9, "repetition_penalty": 1.4}):
            decoding = Decoding(max_tokens=20, **told)
            heard = asked(service, prompt=ids("Hello"), decoding=decoding)
            expected = service.language.generate(list(ids("Hello")), **vars(decoding))
            assert heard.tokens() == list(expected.tokens) and heard.text() == expected.text
            assert heard.reason() == expected.finish_reason
            assert [event.kind for event in heard] == ["prompt", *["token"] * len(expected.tokens), "end"]
            # Two orders of summation in float32.
            logprobs = [event.logprob for event in heard if event.kind == "token"]
            assert logprobs == pytest.approx(expected.logprobs, abs=1e-4)


@pytest.mark.parametrize(
    ("stop", "shown"),
    [("停止", "今天，"), ("止。", "今天，停"), ("天，停止。明", "今"), ("Q", "今天，停止。明天")],
)
def test_a_stop_text_ends_an_answer_across_tokens_and_characters(stop, shown):
    text = "今天，停止。明天Q"
    with serving() as service:
        heard = asked(service, prompt=ids("好"), decoding=saying(text, stop=(stop,)))
        assert heard.text() == shown and heard.reason() == "stop"
        assert len(heard.tokens()) == len(ids(shown + stop)), "the token that completes it is the last"
        assert all("\ufffd" not in event.text for event in heard)
        # What came at once was sure: no beginning of the stop text was ever shown.
        assert all(shown.startswith(Heard(heard[:n]).text()) for n in range(len(heard)))


def test_what_may_be_a_stop_text_is_shown_at_the_end_if_it_was_none():
    with serving() as service:
        heard = asked(service, prompt=ids("好"), decoding=saying("今天停", 0, stop=("停止",)))
        assert heard.text() == "今天停" and heard[-1].text == "停" and heard.reason() == "length"


def test_half_a_character_is_never_shown():
    with serving() as service:
        decoding = Decoding(forced=ids("今天")[:5], max_tokens=5)
        assert asked(service, prompt=ids("好"), decoding=decoding).text() == "今"


def test_samples_are_those_of_their_seeds_and_share_the_prompt():
    told = Decoding(max_tokens=12, temperature=1.2, seed=5)
    with serving(deterministic=True) as service:
        heard = asked(service, prompt=ids("One prompt for all"), decoding=told, samples=3)
        assert len({tuple(heard.tokens(index)) for index in range(3)}) == 3
        assert heard.tokens(0) == asked(service, prompt=ids("One prompt for all"), decoding=told).tokens()
        assert sum(event.kind == "prompt" for event in heard) == 1
        assert sum(event.kind == "end" for event in heard) == 3


def test_the_best_of_several_have_the_highest_mean_logprob():
    told = Decoding(max_tokens=9, temperature=1.5, seed=1)
    with serving(deterministic=True) as service:
        every = asked(service, prompt=ids("abc"), decoding=told, samples=5)
        best = asked(service, prompt=ids("abc"), decoding=told, samples=2, best_of=5)
    means = {}
    for index in range(5):
        logprobs = [event.logprob for event in every if event.index == index and event.kind == "token"]
        means[tuple(every.tokens(index))] = sum(logprobs) / len(logprobs)
    expected = sorted(means, key=lambda tokens: -means[tokens])[:2]
    assert [tuple(best.tokens(index)) for index in (0, 1)] == expected
    assert {event.index for event in best} == {0, 1}


def test_logprobs_of_answer_and_prompt_are_those_of_one_pass_over_all():
    prompt = ids("The prompt is longer than a step, so that it comes in parts.")
    with serving() as service:
        for _ in range(2):  # the second finds its prompt read, and has to read it all the same
            heard = asked(service, prompt=prompt, decoding=Decoding(max_tokens=5), logprobs=3, prompt_logprobs=True)
            text = [*prompt, *heard.tokens()]
            logprobs_TV = service.language(torch.tensor([text]))[0].log_softmax(-1).detach()
            told = heard[0].prompt
            assert [token for token, _, _ in told] == list(prompt) and told[0][1:] == (None, ())
            told += tuple((event.token, event.logprob, event.tops) for event in heard[1:-1])
            for place, (token, logprob, tops) in enumerate(told[1:]):
                # Two orders of summation in float32.
                assert logprob == pytest.approx(float(logprobs_TV[place, token]), abs=1e-4)
                best = logprobs_TV[place].topk(3)
                assert [id for id, _ in tops] == best.indices.tolist()
                assert [number for _, number in tops] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert heard[0].cached_tokens == 0
        assert asked(service, prompt=prompt).pop(0).cached_tokens == len(prompt) // 8 * 8


def test_a_prompt_can_be_scored_without_an_answer():
    with serving() as service:
        heard = asked(service, prompt=ids("score me"), decoding=Decoding(max_tokens=0), prompt_logprobs=True, samples=2)
        assert len(heard[0].prompt) == len(ids("score me")) and heard.tokens() == heard.tokens(1) == []
        assert heard.reason(0) == heard.reason(1) == "length"
        assert asked(service, prompt=ids("no"), decoding=Decoding(max_tokens=0)).reason() == "length"


def test_a_cancelled_answer_frees_its_pages_and_ends_once():
    with serving() as service:
        heard, first = Heard(), threading.Event()

        def listen(event: Event) -> None:
            heard.append(event)
            first.set()

        ticket = service.ask(Ask(prompt=ids("long"), decoding=Decoding(max_tokens=200), samples=2), listen)
        assert first.wait(LONG) and not ticket.done
        ticket.cancel()
        assert ticket.wait(LONG) and service.stats().pages_held == 0
        ticket.cancel()
        assert heard.reason(0) == heard.reason(1) == "cancelled"
        assert asked(service, prompt=ids("next")).reason() == "length"


def test_a_listener_may_cancel_and_one_that_fails_hurts_nobody_else():
    with serving() as service:
        holder: list[Ticket] = []
        told = threading.Event()

        def cancels(event: Event) -> None:
            if event.kind == "token" and told.wait(LONG):
                holder[0].cancel()

        def fails(event: Event) -> None:
            raise RuntimeError("a listener's own affair")

        holder.append(service.ask(Ask(prompt=ids("a"), decoding=Decoding(max_tokens=200)), cancels))
        told.set()
        failing = service.ask(Ask(prompt=ids("b"), decoding=Decoding(max_tokens=200)), fails)
        assert len(asked(service, prompt=ids("c"), decoding=Decoding(max_tokens=30)).tokens()) == 30
        assert holder[0].wait(LONG) and failing.wait(LONG)
        assert isinstance(failing.error, RuntimeError) and holder[0].error is None
        assert service.stats().pages_held == 0


def test_more_than_may_wait_is_refused():
    with serving(queue=2) as service:
        gate, begun = threading.Event(), threading.Event()

        def holds(event: Event) -> None:
            begun.set()
            assert gate.wait(LONG)

        first = service.ask(Ask(prompt=ids("a"), decoding=Decoding(max_tokens=3)), holds)
        assert begun.wait(LONG)
        waiting = [service.ask(Ask(prompt=ids("b")), lambda event: None) for _ in range(2)]
        with pytest.raises(Busy):
            service.ask(Ask(prompt=ids("c")), lambda event: None)
        assert service.stats().waiting == 2
        gate.set()
        assert first.wait(LONG) and all(ticket.wait(LONG) for ticket in waiting)
        assert asked(service, prompt=ids("c"), decoding=Decoding(max_tokens=2)).reason() == "length"


def test_whoever_leaves_while_waiting_is_told_so_and_their_prompt_is_never_read():
    with serving() as service:
        gate, begun = threading.Event(), threading.Event()

        def holds(event: Event) -> None:
            begun.set()
            assert gate.wait(LONG)

        first = service.ask(Ask(prompt=ids("a"), decoding=Decoding(max_tokens=3)), holds)
        assert begun.wait(LONG)  # the service's thread is held: what comes now waits before the engine
        heard = Heard()
        second = service.ask(Ask(prompt=ids("never read"), samples=2), heard.append)
        second.cancel()
        gate.set()
        assert first.wait(LONG) and second.wait(LONG)
        assert [(event.index, event.kind, event.reason) for event in heard] == [
            (0, "end", "cancelled"),
            (1, "end", "cancelled"),
        ]
        assert service.stats().prompt_tokens == len(ids("a")) and service._waiting == 0


@pytest.mark.parametrize("finish", [0.0, LONG])
def test_closing_finishes_or_cancels_and_nobody_is_left_waiting(finish):
    service = Service(language(), limits=LIMITS)
    heard = [Heard() for _ in range(9)]
    tickets = [service.ask(Ask(prompt=ids("text"), decoding=Decoding(max_tokens=40)), one.append) for one in heard]
    service.close(finish=finish)
    assert all(ticket.done for ticket in tickets)
    ends = [one.reason() for one in heard]
    assert set(ends) == {"length"} if finish else "cancelled" in ends
    with pytest.raises(CutawayError, match="closed"):
        service.ask(Ask(prompt=(1,)), lambda event: None)
    service.close()


def test_an_error_in_the_thread_ends_all_and_is_raised_to_whoever_asks_later(monkeypatch):
    with serving() as service:
        step, count = service._engine.step, iter(range(100))

        def broken():
            if next(count) == 3:
                raise ZeroDivisionError("on purpose")
            return step()

        monkeypatch.setattr(service._engine, "step", broken)
        heard = [Heard() for _ in range(6)]
        tickets = [service.ask(Ask(prompt=ids("text"), decoding=Decoding(max_tokens=40)), one.append) for one in heard]
        assert all(ticket.wait(LONG) for ticket in tickets)
        assert [one.reason() for one in heard] == ["failed"] * 6
        with pytest.raises(CutawayError, match="ZeroDivisionError: on purpose"):
            service.ask(Ask(prompt=(1,)), lambda event: None)


Asked = list[tuple[tuple[int, ...], Decoding, Heard]]


def clients(service: Service, count: int, turns: int, at_once: int) -> Asked:
    """So many threads ask so many times, a few asks at once, and cancel some: what each asked and heard."""
    errors: list[str] = []
    asks: Asked = []

    def client(number: int) -> None:
        draw = random.Random(number)
        for turn in range(turns):
            tickets = []
            for part in range(at_once):
                prompt = ids("shared beginning, " * draw.randint(0, 3) + f"{number}/{turn}/{part}")
                said = ids(draw.choice(("", "今天停", "ab", "天")))
                told = draw.choice(({}, {}, {"temperature": 1.1, "top_k": 50}, {"repetition_penalty": 1.3}))
                most = len(said) + draw.randint(1, 9)
                stop = draw.choice(((), ("停止", "b"), ("a", "天", "Ė"), ("e",)))
                decoding = Decoding(max_tokens=most, forced=said, stop=stop, seed=draw.randrange(99), **told)
                heard = Heard()
                asks.append((prompt, decoding, heard))
                ask = Ask(prompt=prompt, decoding=decoding, priority=draw.randint(0, 1))
                tickets.append(service.ask(ask, heard.append))
                if draw.random() < 0.2:
                    tickets[-1].cancel()
            if not all(ticket.wait(LONG) for ticket in tickets):
                errors.append("a ticket never ended")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10 * LONG)
    assert not errors and len(asks) == count * turns * at_once
    assert service.stats().pages_held == 0 and service.stats().running == 0
    return asks


def check_as_alone(service: Service, asks: Asked) -> tuple[int, int]:
    """Each answer is, token for token and letter for letter, what `generate` says in the same arithmetic. How many were
    cancelled, and how many ended with a stop text."""
    alone = Language(service.language.module, service.language.tokenizer, forms=steady(FAST))
    cancelled = stopped = 0
    for prompt, decoding, heard in asks:
        with Rounded():
            expected = alone.generate(list(prompt), **vars(decoding))
        if heard.reason() == "cancelled":
            cancelled += 1
            assert list(expected.tokens)[: len(heard.tokens())] == heard.tokens()
        else:
            assert (heard.tokens(), heard.text()) == (list(expected.tokens), expected.text)
            assert heard.reason() == expected.finish_reason
            stopped += expected.finish_reason == "stop"
    return cancelled, stopped


def test_many_threads_each_hear_their_own():
    with serving(deterministic=True) as service:
        check_as_alone(service, clients(service, count=4, turns=1, at_once=4))


@pytest.mark.proof
def test_a_thousand_asks_together_are_each_as_alone():
    """Tokens, texts and stop texts, with pages shared, prompts in parts, preemption and cancellation."""
    limits = Limits(tokens=128, sequences=12, budget=24, page=2)
    with serving(deterministic=True, limits=limits) as service:
        cancelled, stopped = check_as_alone(service, clients(service, count=8, turns=25, at_once=5))
        stats = service.stats()
        assert cancelled > 50 and stopped > 100 and stats.prefix_hits > 100 and stats.preemptions > 5, stats


def test_a_constraint_is_asked_before_each_token_and_told_each():
    class Only:
        """Lets END come, or the first of what is left."""

        done = False

        def __init__(self, left: tuple[int, ...]):
            self.left = left

        def begin(self, tokenizer) -> Only:
            return self

        def copy(self) -> Only:
            return Only(self.left)

        def mask(self, logits_V: torch.Tensor) -> torch.Tensor:
            kept = torch.full_like(logits_V, -torch.inf)
            kept[self.left[0]] = logits_V[self.left[0]]
            return kept

        def take(self, token: int) -> None:
            assert token == self.left[0]
            self.left = self.left[1:]

        def agrees(self, decoding: Decoding) -> None: ...

    with serving() as service:
        told = {"decoding": Decoding(max_tokens=30), "samples": 2}
        heard = asked(service, prompt=ids("x"), constraint=Only((*ids("是的"), END)), **told)
        assert [heard.text(index) for index in (0, 1)] == ["是的"] * 2 and heard.reason() == "stop"


def test_stats_count_what_happened():
    with serving() as service:
        prompt = ids("a beginning that two share")
        for _ in range(2):
            asked(service, prompt=prompt, decoding=Decoding(max_tokens=4))
        stats = service.stats()
        assert (stats.prompt_tokens, stats.written_tokens) == (2 * len(prompt), 8)
        assert (stats.prefix_hits, stats.prefix_tokens) == (1, len(prompt) // 8 * 8)
        assert stats.running == stats.waiting == stats.pages_held == 0 and stats.pages == 80
        assert stats.tokens_per_second > 0 and stats.steps >= 8
