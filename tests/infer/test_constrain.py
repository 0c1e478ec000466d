"""Constraints: what is refused, how far an answer is, and answers of models and engines that are held to them."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from contextlib import suppress
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.infer.vocabularies import KINDS, closing, scribble, tokenizer

from cutaway.base.errors import BadInput
from cutaway.infer.ask import Ask
from cutaway.infer.call_reader import reader
from cutaway.infer.constrain import Constraint
from cutaway.infer.decoding import Decoding
from cutaway.infer.language import Language
from cutaway.infer.load import load
from cutaway.infer.proposers import Draft, PromptLookup
from cutaway.infer.request import Stuck
from cutaway.infer.scheduler import Limits
from cutaway.infer.service import Service
from cutaway.infer.tool_calls import held, marks
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.text.tools import render, style_of, tools_of
from cutaway.weights.shelf import path_of

MADE = {kind: tokenizer(kind) for kind in KINDS}


@pytest.mark.parametrize(
    "kind, body, said",
    [
        ("json_schema", {"type": "strin"}, "strin"),
        ("json_schema", "{", "is no JSON"),
        ("json_schema", [1], "must be an object"),
        ("json_schema", {"not": {}}, "not"),
        ("json_schema", {"type": "array", "uniqueItems": True}, "uniqueItems"),
        ("json_schema", {"type": "integer", "minimum": 3, "maximum": 1}, "minimum"),
        ("json_schema", {"type": "string", "enum": [1]}, "Unsatisfiable"),
        ("json_schema", {"$ref": "https://example.org/x"}, "example.org"),
        ("json_schema", {"$ref": "#/$defs/none"}, "none"),
        ("json_object", {}, "takes nothing"),
        ("regex", "(a", "unclosed"),
        ("regex", "a(?=b)", "look-around"),
        ("regex", r"(a)\1", "backreferences"),
        ("regex", "", "not empty"),
        ("regex", 3, "must be a text"),
        ("regex", "\ud800", "surrogate"),
        ("regex", "a" * 70_000, "at most"),
        ("choice", [], "at least one"),
        ("choice", ["a", ""], "not empty"),
        ("choice", 3, "at least one"),
        ("shape", "x", "kind"),
    ],
)
def test_what_is_wrong_is_refused_when_it_is_made(kind, body, said):
    with pytest.raises(BadInput, match=re.escape(said)) as caught:
        Constraint(kind=kind, body=body)
    assert kind in str(caught.value.field)


@pytest.mark.parametrize(
    "kind, body, said",
    [
        ("grammar", "hello", "Expected token"),
        ("grammar", "start: thing", "unknown name"),
        ("grammar", 'root ::= "a', "GBNF"),
        ("json_schema", {"$ref": "#"}, "no text fits"),
        ("json_schema", {"enum": [f"value {n}" for n in range(20_000)]}, "at most"),
        ("regex", r"[^\x00-\x{10FFFF}]", "no text"),
    ],
)
def test_what_nobody_could_write_is_refused_at_the_beginning(kind, body, said):
    with pytest.raises(BadInput, match=said):
        Constraint(kind=kind, body=body).begin(MADE["byte-level"])


def test_a_vocabulary_that_cannot_spell_it_is_refused():
    with pytest.raises(BadInput, match=r"fits it|can write"):
        Constraint(kind="choice", body="上海").begin(MADE["characters"])
    with pytest.raises(BadInput, match="without a tokenizer"):
        Constraint(kind="choice", body="a").begin(None)


def test_a_step_that_costs_too_much_is_refused(monkeypatch):
    monkeypatch.setattr("cutaway.infer.constrain.BURST", 0.0)
    monkeypatch.setattr("cutaway.infer.constrain.EACH", 0.0)
    with pytest.raises(BadInput, match="too costly"):
        Constraint(kind="regex", body="never seen before").begin(MADE["byte-level"])


@pytest.mark.parametrize(
    "body",
    [
        "(.*a.{100}){20}",
        "(a*)*b",
        r"(?:\w{1,50}\W{1,50}){1,200}",
    ],
)
def test_a_hostile_expression_ends(body):
    """Each would take hours in an engine that goes back; here every step is bounded, whatever comes of it."""
    with suppress(BadInput, Stuck):
        scribble(MADE["byte-level"], Constraint(kind="regex", body=body), 0, most=20)


def test_a_hostile_schema_ends():
    """References that double 30 times over."""
    defs = {"a0": {"type": "string"}}
    for n in range(1, 31):
        inner = {"$ref": f"#/$defs/a{n - 1}"}
        defs[f"a{n}"] = {"anyOf": [inner, {"type": "array", "items": inner}], "allOf": [inner, inner]}
    with suppress(BadInput, Stuck):
        scribble(MADE["byte-level"], Constraint(kind="json_schema", body={"$defs": defs, "$ref": "#/$defs/a30"}), 0)


def allowed(matcher) -> list[int]:
    return matcher.mask(torch.zeros(matcher._spelled.size)).isfinite().nonzero().flatten().tolist()


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**31), data=st.data())
@settings(max_examples=25)
def test_going_back_and_copies(kind, seed, data):
    """Law: after any walk to and fro, the mask is that of a matcher which took the same tokens straight on."""
    constraint = Constraint(kind="json_schema", body={"type": "array", "items": {"enum": ["a", " hello", 12, None]}})
    matcher, taken = constraint.begin(MADE[kind]), []
    for _ in range(12):
        if taken and data.draw(st.booleans()):
            count = data.draw(st.integers(1, len(taken)))
            matcher.back(count)
            del taken[len(taken) - count :]
        ids = allowed(matcher)
        token = data.draw(st.sampled_from(ids))
        other = matcher.copy()
        assert matcher.fits([token]) == 1
        other.take(token)
        if not (matcher.done and token in MADE[kind].eos_ids):
            assert allowed(matcher) == ids  # the copy went on, and not this one
        matcher.take(token)
        taken.append(token)
    fresh = constraint.begin(MADE[kind])
    for token in taken:
        fresh.take(token)
    assert (allowed(fresh), fresh.done, fresh.accepts) == (allowed(matcher), matcher.done, matcher.accepts)
    matcher.back(len(taken))
    assert allowed(matcher) == allowed(constraint.begin(MADE[kind]))


def test_what_may_not_come_is_not_taken():
    made = MADE["byte-level"]
    matcher = Constraint(kind="regex", body="ab").begin(made)
    wrong, right = (made.vocabulary.backend.token_to_id(one) for one in ("b", "a"))
    with pytest.raises(Stuck, match="may not come"):
        matcher.take(wrong)
    matcher.take(right)
    assert matcher.fits([wrong, right]) == 1 and not matcher.done
    with pytest.raises(BadInput, match="only 1"):
        matcher.back(2)
    matcher.take(wrong)
    end = min(made.eos_ids)
    assert matcher.done and matcher.accepts
    matcher.take(end)
    with pytest.raises(Stuck):
        matcher.take(wrong)
    matcher.back(2)  # the end, which said nothing new, and "b"
    assert not matcher.done and allowed(matcher) == [wrong]


def test_rules_that_leave_nothing():
    made = MADE["byte-level"]
    matcher = Constraint(kind="choice", body="a").begin(made)
    logits_V = torch.zeros(made.vocab + 5)
    logits_V[made.vocabulary.backend.token_to_id("a")] = -torch.inf
    with pytest.raises(Stuck, match="leave none"):
        matcher.mask(logits_V)
    with pytest.raises(BadInput, match="what must be written"):
        Constraint(kind="choice", body="a").agrees(Decoding(forced=(1,)))


def test_a_tokenizer_without_an_end():
    made = tokenizer("byte-level", ends=False)
    for seed in range(5):
        assert scribble(made, Constraint(kind="choice", body=["a", "bb"]), seed)[1] == "stop"
    assert scribble(made, Constraint(kind="regex", body="a*"), 0, most=30)[1] == "length"


def test_special_tokens_come_only_where_a_grammar_names_them():
    made = MADE["byte-level"]
    spoken, called = (made.special[name] for name in ("<pad>", "[TOOL_CALLS]"))
    matcher = Constraint(kind="regex", body=r"(?s:.)*").begin(made)
    assert spoken not in allowed(matcher) and called not in allowed(matcher)
    matcher = Constraint(kind="grammar", body=f'start: <[{called}]> "a"').begin(made)
    assert allowed(matcher) == [called]


def speaker(kind: str = "byte-level", seed: int = 0) -> Language:
    """A random model over one of the vocabularies; what closes is likelier, or it would hardly ever end."""
    made = MADE[kind]
    torch.manual_seed(seed)
    mixer = GroupedQuery(heads=2, kv_heads=1, head_dim=8, rope=Rope(width=8))
    block = Block(mixer=mixer, feed=Gated(hidden=32), before=RMSNorm())
    module = Decoder(vocab=made.vocab, dim=16, length=512, norm=RMSNorm(), blocks=(block,)).build()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return Language(Closing(module, closing(made)), made)  # type: ignore[arg-type]


class Closing(DecoderModel):
    """A model with something added to its logits."""

    def __init__(self, module: DecoderModel, more_V: torch.Tensor):
        super().__init__(module.spec)
        self.load_state_dict(module.state_dict())
        self.more_V = more_V

    def logits(self, *told, **named):
        return super().logits(*told, **named) + self.more_V


SHAPE = {"type": "object", "properties": {"北京": {"type": "string"}, "n": {"type": "integer", "minimum": 0}}}
SHAPE |= {"required": ["北京", "n"], "additionalProperties": False}


@pytest.mark.parametrize("kind", ["byte-level", "spm"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_answers_within_a_constraint(kind, temperature):
    language, ended = speaker(kind), 0
    constraint = Constraint(kind="json_schema", body=SHAPE)
    for seed in range(6):
        answer = language.generate("hello", constraint=constraint, temperature=temperature, seed=seed, max_tokens=100)
        if answer.finish_reason == "stop":
            assert set(json.loads(answer.text)) == {"北京", "n"}
            ended += 1
        else:
            assert len(answer.tokens) == 100
    assert ended or temperature == 0.0
    with pytest.raises(BadInput, match="what must be written"):
        language.generate("hello", constraint=constraint, forced=(1,))
    banned = tuple((id,) for id in range(language.spec.vocab) if "{" in language.tokenizer.token(id) or id == 124)
    with pytest.raises(Stuck, match="leave none"):
        language.generate("hello", constraint=constraint, banned=banned)


def test_guesses_change_nothing_of_a_constrained_answer():
    """Law: with a proposer that is certain, a constrained answer is token for token what it is without."""
    language = speaker()
    constraint = Constraint(
        kind="json_schema", body={"type": "array", "items": {"enum": ["ab", "aab", 12]}, "minItems": 4}
    )
    for seed in range(5):
        told = {"constraint": constraint, "seed": seed, "temperature": 0.8, "max_tokens": 60}
        plain = language.generate('["ab", "aab", "ab", 12]', **told)
        guessed = language.generate('["ab", "aab", "ab", 12]', proposer=PromptLookup(adaptive=False), **told)
        assert (guessed.tokens, guessed.text, guessed.finish_reason) == (plain.tokens, plain.text, plain.finish_reason)
        assert guessed.speculated.judged > 0


def test_drawn_guesses_leave_a_constrained_distribution_as_it_is():
    """A chi-square over the choices, drawn with a draft of other weights. Bound: 16 is exceeded by chance with
    p = 0.001 at 3 degrees of freedom; the seeds are fixed."""
    language, draft = speaker(), speaker(seed=5)
    constraint = Constraint(kind="choice", body=["aa", "ab", "ba", "bb"])
    counts = {way: Counter() for way in ("plain", "guessed")}
    torch.manual_seed(0)
    random.seed(0)
    for _ in range(120):
        for way, more in (("plain", {}), ("guessed", {"proposer": Draft(language=draft, adaptive=False)})):
            counts[way][language.generate("x", constraint=constraint, temperature=1.0, max_tokens=4, **more).text] += 1
    assert set(counts["guessed"]) <= {"aa", "ab", "ba", "bb"}
    plain, guessed = counts["plain"], counts["guessed"]
    chi = sum((plain[one] - guessed[one]) ** 2 / (plain[one] + guessed[one]) for one in plain | guessed)
    assert chi < 16


def test_the_engine_holds_some_and_lets_others_go():
    """Constrained and free requests in one batch, several samples of each, a prompt in common: each as alone."""
    language = speaker()
    constraint, other = Constraint(kind="json_schema", body=SHAPE), Constraint(kind="regex", body="(ab|a)+b")
    prompt = tuple(language.encode("hello hello hello hello hello"))
    asks = [
        Ask(prompt=prompt, decoding=Decoding(max_tokens=40, temperature=0.9, seed=seed), samples=2, constraint=held)
        for seed in range(2)
        for held in (constraint, None, other)
    ]
    limits = Limits(tokens=512, sequences=6, budget=24, page=4)  # some wait, some are preempted
    with Service(language, limits=limits, deterministic=True) as service:
        alone = [hear(service, [ask])[0] for ask in asks]
        together = hear(service, asks)
        assert service.stats().prefix_hits > 0
    assert together == alone
    ended = 0
    for ask, answers in zip(asks, together, strict=True):
        for text, reason in answers:
            if reason == "stop" and ask.constraint is not None:
                ended += 1
                assert (
                    set(json.loads(text)) == {"北京", "n"}
                    if ask.constraint is constraint
                    else re.fullmatch("(ab|a)+b", text)
                )
    assert ended > 1


def hear(service: Service, asks: list[Ask]) -> list[list[tuple[str, str]]]:
    """The text of each sample of each ask, and why it ended."""
    told = [[["", ""] for _ in range(ask.samples)] for ask in asks]

    def listen(place: int, event) -> None:
        told[place][event.index][0] += event.text
        told[place][event.index][1] = event.reason or ""

    tickets = [service.ask(ask, partial(listen, place)) for place, ask in enumerate(asks)]
    assert all(ticket.wait(120) for ticket in tickets)
    return [[tuple(sample) for sample in samples] for samples in told]


@pytest.mark.proof
def test_a_model_that_is_no_toy():
    """SmolLM2-135M fills in a form, answers in Chinese within an expression, and calls a tool."""
    if path_of("smollm2-135m") is None:
        pytest.skip("smollm2-135m is not fetched")
    language = load("smollm2-135m")
    tokenizer = language.tokenizer
    form = {"name": {"type": "string", "maxLength": 30}, "age": {"type": "integer", "minimum": 0, "maximum": 150}}
    schema = {"type": "object", "properties": form, "required": ["name", "age"], "additionalProperties": False}
    asked = [{"role": "user", "content": "Ada is 36 years old. Give her name and age as JSON."}]
    for told in ({}, {"temperature": 1.0, "seed": 1}, {"proposer": PromptLookup()}):
        answer = language.generate(asked, constraint=Constraint(kind="json_schema", body=schema), max_tokens=80, **told)
        assert answer.finish_reason == "stop" and set(json.loads(answer.text)) == {"name", "age"}
    chinese = Constraint(kind="regex", body="[\u4e00-\u9fff]{4,12}[。！]")
    said = language.generate([{"role": "user", "content": "你好，请介绍北京。"}], constraint=chinese, max_tokens=60)
    assert said.finish_reason == "stop" and re.fullmatch("[\u4e00-\u9fff]{4,12}[。！]", said.text)
    city = {"properties": {"city": {"enum": ["Paris", "北京"]}}, "required": ["city"], "additionalProperties": False}
    tools = tools_of([{"name": "get_weather", "parameters": city}])  # closed: whatever the model writes, it ends
    prompt = render(tokenizer, [{"role": "user", "content": "What is the weather in Paris?"}], tools)
    style = style_of(tokenizer)
    constraint = held(tokenizer, tools, style, "required", parallel=False)
    answer = language.generate(tokenizer.encode(prompt, special=False), constraint=constraint, max_tokens=80)
    (call, *_) = reader(style, ["get_weather"], marks(tokenizer)).push(answer.text)
    assert answer.finish_reason == "stop" and call.name == "get_weather"
    assert json.loads(call.arguments) == {"city": "Paris"}
