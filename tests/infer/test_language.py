from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput, CutawayError
from cutaway.infer.language import Language
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.nn.rope_scaling import DynamicNtk


def decoder(rope: Rope | None = None, window: int | None = None, length: int = 48) -> Language:
    torch.manual_seed(0)
    mixer = GroupedQuery(heads=2, kv_heads=1, head_dim=8, rope=rope or Rope(width=8), window=window)
    block = Block(mixer=mixer, feed=Gated(hidden=24), before=RMSNorm())
    module = Decoder(vocab=61, dim=16, length=length, norm=RMSNorm(), blocks=(block, block)).build()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return Language(module)


def by_hand(language: Language, ids: list[int], count: int) -> list[int]:
    """Greedy by full passes, no cache."""
    ids = list(ids)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(language(torch.tensor([ids]))[0, -1].argmax()))
    return ids[-count:]


@pytest.mark.parametrize("window", [None, 5])
def test_greedy_equals_full_passes(window):
    language = decoder(window=window)
    answer = language.generate([3, 1, 4, 1, 5], max_tokens=20)
    assert list(answer.tokens) == by_hand(language, [3, 1, 4, 1, 5], 20)
    assert answer.finish_reason == "length"
    assert answer.text == ""


def test_logprobs_are_of_the_models_own_distribution():
    language = decoder()
    answer = language.generate([7, 8], max_tokens=6, temperature=2.0, top_k=3, repetition_penalty=1.5, seed=4)
    ids = [7, 8, *answer.tokens]
    with torch.no_grad():
        logprobs = language(torch.tensor([ids]))[0].log_softmax(-1)
    expected = [float(logprobs[1 + place, token]) for place, token in enumerate(answer.tokens)]
    assert answer.logprobs == pytest.approx(expected, abs=1e-4)  # float32, cached against uncached


def test_a_seed_repeats():
    language = decoder()
    answers = [language.generate([1], max_tokens=12, temperature=1.5, seed=seed).tokens for seed in (5, 5, 6)]
    assert answers[0] == answers[1] != answers[2]


def test_a_batch_is_each_alone():
    language = decoder()
    ids_BT = torch.randint(61, (3, 7))
    with torch.no_grad():
        logits_BTV = language(ids_BT)
        assert logits_BTV.shape == (3, 7, 61)
        for row, ids in zip(logits_BTV, ids_BT, strict=True):
            assert torch.allclose(language(ids[None])[0], row, atol=1e-4)


def test_gradients_flow_through_a_call():
    language = decoder()
    language(torch.tensor([[1, 2, 3]])).sum().backward()
    assert all(parameter.grad is not None for parameter in language.module.parameters())


@pytest.mark.parametrize("rope", [None, Rope(width=8, scaling=DynamicNtk(factor=2.0, original_length=8))])
@pytest.mark.parametrize("window", [None, 4])
def test_a_held_continuation_changes_nothing_but_time(rope, window):
    language = decoder(rope, window, length=96)
    held, ids = language.continuation(), [5, 6, 7, 8, 9]
    for turn in range(4):
        with_held = language.generate(ids, max_tokens=6, held=held)
        assert with_held.tokens == language.generate(ids, max_tokens=6).tokens
        ids = ids + list(with_held.tokens) + [turn]
    again = language.generate(ids[:7], max_tokens=6, held=held)  # back to an earlier point
    assert again.tokens == language.generate(ids[:7], max_tokens=6).tokens


def test_the_context_ends_an_answer():
    language = decoder(length=10)
    answer = language.generate([1] * 8, max_tokens=50)
    assert len(answer.tokens) == 3 and answer.finish_reason == "length"
    with pytest.raises(BadInput, match="11 tokens, the model's context 10"):
        language.generate([1] * 11)


def test_a_changed_weight_shows_in_the_next_answer():
    language = decoder()
    before = language.generate([1, 2], max_tokens=8).tokens
    with torch.no_grad():
        for parameter in language.module.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert list(language.generate([1, 2], max_tokens=8).tokens) == by_hand(language, [1, 2], 8) != list(before)


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        ([], {}, "empty"),
        ([61], {}, "outside the vocabulary"),
        ([-1], {}, "outside the vocabulary"),
        ("text", {}, "without a tokenizer"),
        (["text"], {}, "list of str"),
        ([1, {"role": "user", "content": "hi"}], {}, "list of dict and int"),
        ([True], {}, "list of bool"),
        (b"text", {}, "is a bytes"),
        (None, {}, "is a NoneType"),
        (torch.tensor([1, 2]), {}, "is a Tensor"),
        ([{"role": "user", "content": "hi"}], {}, "without a tokenizer"),
        ([1], {"temprature": 1.0}, "temperature"),
        ([1], {"top_p": 2.0}, "top_p"),
    ],
)
def test_an_impossible_question_is_refused_before_anything_runs(prompt, options, said):
    with pytest.raises(BadInput, match=said):
        decoder().stream(prompt, **options)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_weights_are_named_at_the_first_forward(value):
    language = decoder()
    with torch.no_grad():
        language.module.blocks[1].feed.down.weight[3, 2] = value
    with pytest.raises(BadInput, match=r"blocks\.1\.feed\.down\.weight"):
        language.generate([1])


@pytest.mark.parametrize("ask", [lambda one: one.generate([1, 2]), lambda one: one(torch.tensor([[1, 2]]))])
def test_nan_that_attention_hides_from_the_logits_is_named(ask):
    """torch's fused attention on a CPU gives zeros where all scores of a row are NaN, and the logits look sound."""
    language = decoder()
    with torch.no_grad():
        language.module.blocks[0].mixer.key.weight[3, 2] = float("nan")
    with pytest.raises(BadInput, match=r"weights: NaN.*blocks\.0\.mixer\.key\.weight"):
        ask(language)


def test_weights_spoilt_between_two_tokens_are_named():
    language = decoder()
    pieces = language.stream([1], max_tokens=8)
    next(pieces)
    with torch.no_grad():
        language.module.norm.weight[3] = float("nan")
    with pytest.raises(BadInput, match=r"norm\.weight"):
        list(pieces)


def test_sound_weights_whose_logits_overflow_are_told_apart():
    language = decoder()
    with torch.no_grad():
        language.module.norm.weight.fill_(3e38)
    with pytest.raises(BadInput, match="although all weights are"):
        language.generate([1])


def test_what_has_no_numbers_cannot_answer():
    with pytest.raises(BadInput, match="meta"):
        Language(decoder().spec.build().to("meta")).generate([1])


def test_no_tokens_asked_for_none_given():
    answer = decoder().generate([1], max_tokens=0)
    assert answer.tokens == () and answer.finish_reason == "length"


def test_an_endless_answer_takes_no_endless_memory():
    """The second forward pass would not be reached if room were made for all that was asked for: 2 TB."""
    language = decoder(length=2**31)
    pieces = language.stream([1], max_tokens=2**40)
    assert next(pieces).token == next(language.stream([1], max_tokens=1)).token
    next(pieces)


def test_a_decoder_does_not_embed():
    with pytest.raises(CutawayError, match="encoder"):
        decoder().embed(["a"])
