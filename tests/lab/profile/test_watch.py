from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.infer.quantising import decoder
from torch import nn

from cutaway.infer.engine import Engine
from cutaway.infer.language import Language
from cutaway.lab.profile.phase import engine_for, request
from cutaway.lab.profile.watch import PARTS, Watch, watching, where
from cutaway.nn.context import Context
from cutaway.ops import attend
from cutaway.ops.cpu import multiply as multiplying
from cutaway.ops.cpu.build import kernels
from cutaway.ops.forms import FAST, NAMED


def run(engine: Engine, watch: Watch | None = None) -> tuple[int, ...]:
    """A prompt of 20 tokens and the 6 behind it, watched or not."""
    sequence = engine.submit(request(Language(engine.runner.module), 20, 6, 0))
    while not engine.idle:
        if watch is None:
            engine.step()
            continue
        with watching(engine, watch):
            watch.clock.start("engine")
            engine.step()
            watch.clock.stop()
    return sequence.answer


def test_every_kind_answers_as_it_does_unwatched_and_all_time_is_someones(every):
    watch = Watch()
    assert run(engine_for(every, 20, 6, 1), watch) == run(engine_for(every, 20, 6, 1))
    seconds = watch.clock.seconds
    assert seconds.keys() <= set(PARTS)
    # The times are differences of the same readings, so only the rounding of their sums is between them.
    assert sum(seconds.values()) == pytest.approx(watch.clock.whole, rel=1e-9)
    for part in ("embedding", "norms", "projections", "attention", "cache", "feed", "head", "sampling", "engine"):
        assert seconds[part] > 0, part


def test_calls_are_those_that_the_model_makes(one):
    watch = Watch()
    run(engine_for(one, 20, 6, 1), watch)
    steps, blocks = 6, 2
    calls = {part: count / steps for part, count in watch.clock.calls.items()}
    assert calls["embedding"] == 1
    assert calls["norms"] == 2 * blocks + 1
    assert calls["projections"] == 4 * blocks
    assert calls["attention"] == 2 * blocks  # the mixer, and `attend` in it
    assert calls["cache"] == 4 * blocks + 1  # two kept and fetched, and the pass that ends
    assert calls["feed"] == 4 * blocks  # itself and three maps
    assert calls["head"] == calls["rest"] == 1


def test_nothing_is_left_behind(one):
    engine = engine_for(one, 20, 6, 1)
    before = [dict(vars(part)) for part in [engine.scheduler, *engine.runner.module.modules()]]
    with pytest.raises(RuntimeError, match="from inside"), watching(engine, Watch()):
        assert "forward" in vars(engine.runner.module.blocks[0].mixer)
        raise RuntimeError("from inside")
    assert [dict(vars(part)).keys() for part in [engine.scheduler, *engine.runner.module.modules()]] == [
        one.keys() for one in before
    ]
    assert run(engine) == run(engine_for(one, 20, 6, 1))


def test_a_prompt_in_pieces_of_which_most_ask_for_no_logits(one):
    engine, watch = engine_for(one, 20, 6, 1), Watch()
    short = Engine(one.module, limits=replace(engine.limits, budget=8))
    assert run(short, watch) == run(engine)
    # 20 tokens are read in 3 passes, of which the last gives the first token.
    assert (watch.clock.calls["rest"], watch.clock.calls["head"]) == (3 + 5, 6)


def test_where_a_form_is_written():
    def mine(*given, **told):
        return attend.attend_sdpa(*given, **told)

    assert where(attend.attend_sdpa) == "torch"
    assert where(mine) == "own"
    kernel = type("Kernel", (), {"__module__": "cutaway.ops.cpu.attend", "__call__": lambda self: None})()
    assert where(kernel) == "kernels"
    assert where(nn.Identity()) == "own"


def test_a_readers_own_form_is_told(one):
    def mine(*given, **told):
        return attend.attend_sdpa(*given, **told)

    engine, watch = Engine(one.module, forms=replace(FAST, attend=mine)), Watch()
    run(engine, watch)
    assert watch.where["attention"] == {"own"} and watch.where["norms"] == {"torch"}


def test_time_that_a_form_takes_is_its_parts(one):
    now = 0.0

    def slow(*given, **told):
        nonlocal now
        now += 5.0
        return attend.attend_sdpa(*given, **told)

    engine, watch = Engine(one.module, forms=replace(FAST, attend=slow)), Watch(lambda: now)
    run(engine, watch)
    assert dict(watch.clock.seconds)["attention"] == watch.clock.whole == 5.0 * 2 * 6


def test_a_pass_is_told_once_and_what_it_narrows_to_is_seen():
    watch = Watch()
    context = Context.of((3,), narrow=torch.bfloat16)
    told = watch.told(context)
    assert watch.narrow == torch.bfloat16 and told.narrow == torch.bfloat16 and told.memo is context.memo
    assert told.forms is not context.forms and context.forms is FAST and watch.told(told) is told
    assert watch.told(Context.of((4,))).forms is told.forms


@pytest.mark.parametrize("paged", [True, False])
def test_many_streams_attend_to_pages_where_they_lie_watched_or_not(one, paged):
    """Forms that count must not change which forms run: the choice asks what `attend` is."""
    calls = []

    def spy(*given, **told):
        calls.append(given)
        return FAST.attend_paged(*given, **told)

    own = {} if paged else {"attend": lambda *given, **told: attend.attend_sdpa(*given, **told)}
    found = []
    for watch in (None, Watch()):
        engine = Engine(one.module, forms=replace(FAST, attend_paged=spy, **own))
        for seed in range(4):
            engine.submit(request(one, 20, 6, seed))
        run(engine, watch)
        found.append(len(calls))
        calls.clear()
    assert found[0] == found[1] and (found[0] > 0) is paged


@pytest.mark.skipif(kernels().library is None, reason="no kernels")
@pytest.mark.parametrize("family", ["llama", "experts"])
def test_lists_of_kernels_are_told_apart_and_said_to_be_kernels(family):
    language = Language(decoder(family), forms=NAMED["kernels"])
    watch = Watch()
    answer = run(engine_for(language, 20, 6, 1), watch)
    assert answer == run(engine_for(language, 20, 6, 1))
    seconds = watch.clock.seconds
    assert sum(seconds.values()) == pytest.approx(watch.clock.whole, rel=1e-9)
    for part in ("embedding", "norms", "projections", "positions", "attention", "feed", "head"):
        assert seconds[part] > 0 and watch.where[part] == {"kernels"}, part
    assert seconds["sampling"] > 0 and seconds["engine"] > 0
    assert watch.clock.calls["embedding"] == 6


@pytest.mark.skipif(kernels().library is None, reason="no kernels")
def test_a_form_that_may_run_on_kernels_is_where_it_did_run():
    """A reader's own norm keeps lists away: products alone run on kernels, and those in bfloat16 on torch."""
    own = replace(NAMED["kernels"], rms_norm=lambda *given, **told: FAST.rms_norm(*given, **told))
    watch = Watch()
    run(engine_for(Language(decoder("llama"), forms=own), 20, 6, 1), watch)
    assert watch.where["projections"] == {"kernels"} and watch.where["norms"] == {"own"}
    watch, off = Watch(), pytest.MonkeyPatch()
    off.setattr(multiplying, "library", lambda: None)
    run(engine_for(Language(decoder("llama"), forms=own), 20, 6, 1), watch)
    off.undo()
    assert watch.where["projections"] == {"torch"}
