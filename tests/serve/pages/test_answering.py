"""An answer between the engine's thread and a page, without either."""

from __future__ import annotations

import pytest
from tests.serve.small import language as made

from cutaway.base.errors import BadInput
from cutaway.infer.scheduler import Limits
from cutaway.infer.service import Service
from cutaway.serve.pages.answering import ALTERNATIVES, Answering, Settings, prompt_of


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    limits = Limits(tokens=512, sequences=4, budget=64, page=8)
    with Service(made(tmp_path_factory.mktemp("tiny")), limits=limits) as one:
        yield one


def test_tokens_come_once_with_their_alternatives(service):
    prompt = prompt_of(service, [{"role": "user", "content": "你好"}], "Be short.")
    one = Answering(service, prompt, Settings(temperature=1.0, max_tokens=30, seed=3))
    assert one.ticket.wait(60)
    tokens = one.take()
    assert one.take() == [] and one.reason in ("stop", "length") and 0 < one.count <= 30
    assert "".join(told["t"] for told in tokens) == one.text
    for told in tokens[: one.count]:
        assert len(told["a"]) == ALTERNATIVES
        chances = [chance for _, chance in told["a"]]
        assert chances == sorted(chances, reverse=True) and 0 <= told["p"] <= chances[0] <= 1
        near = [chance for spelled, chance in told["a"] if spelled == told["k"]]
        assert not near or any(abs(chance - told["p"]) < 2e-4 for chance in near)
    again = Answering(service, prompt, Settings(max_tokens=1))
    assert again.ticket.wait(60) and again.cached >= 8


def test_stopping(service):
    one = Answering(service, prompt_of(service, [{"role": "user", "content": "x"}], ""), Settings(max_tokens=400))
    one.stop()
    assert one.ticket.wait(60) and one.reason == "cancelled"


def test_a_system_prompt_is_told_first(service):
    messages = [{"role": "user", "content": "x"}]
    text = service.language.tokenizer.decode(prompt_of(service, messages, "Be short."), special=True)
    assert text.startswith("<|im_start|>system\nBe short.") and text.endswith("<|im_start|>assistant\n")
    assert "system" not in service.language.tokenizer.decode(prompt_of(service, messages, "  "), special=True)


def test_fields_of_a_page_become_a_decoding():
    told = Settings(temperature=None, top_k=40.0, top_p=None, min_p=0.1, max_tokens=5.0, seed=7.0).decoding()
    assert (told.temperature, told.top_k, told.top_p, told.min_p, told.max_tokens, told.seed) == (
        0,
        40,
        None,
        0.1,
        5,
        7,
    )
    for wrong in ({"top_k": 0.5}, {"top_p": 2.0}, {"max_tokens": -1}, {"temperature": -1.0}):
        with pytest.raises(BadInput) as caught:
            Settings(**wrong).decoding()
        assert caught.value.field == next(iter(wrong))
