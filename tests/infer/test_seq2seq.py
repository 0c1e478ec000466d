from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors

import cutaway
from cutaway.base.errors import BadInput, CutawayError
from cutaway.infer.save import save
from cutaway.infer.seq2seq import Seq2Seq
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.stack import Stack
from cutaway.nn.attention.cross import Cross
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Plain
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Learned
from cutaway.nn.relative_bias import RelativeBias
from cutaway.ops.forms import READABLE
from cutaway.text.tokenizer import Tokenizer

VOCAB = 31
WORDS = "甲乙丙丁 red green blue one two three"


def spec() -> EncoderDecoder:
    sizes = {"heads": 2, "kv_heads": 2, "head_dim": 8, "scale": 1.0}
    reads = Block(mixer=GroupedQuery(**sizes), feed=Plain(hidden=24, activation="relu", bias=False), before=RMSNorm())
    writes = replace(reads, cross=Cross(**sizes))
    made = [
        Stack(blocks=(block,) * 2, norm=RMSNorm(), relative=RelativeBias(heads=2, causal=block is writes))
        for block in (reads, writes)
    ]
    return EncoderDecoder(vocab=VOCAB, dim=16, encoder=made[0], decoder=made[1], ends=(1,), head_scale=0.25)


def build(seed: int = 0, tokenizer: Tokenizer | None = None, **changed) -> Seq2Seq:
    torch.manual_seed(seed)
    module = replace(spec(), **changed).build()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    with torch.no_grad():
        module.embedding.weight[1] *= 2.0  # ends now and then
    return Seq2Seq(module, tokenizer)


SOURCES = [[5, 6, 7, 2], [9], [3, 3, 8, 20, 21, 22, 23, 4, 4], [30, 2, 2]]


def by_hand(model: Seq2Seq, source: list[int], most: int) -> list[int]:
    """Greedy by full passes, no cache."""
    written: list[int] = []
    while len(written) < most and 1 not in written:
        with torch.no_grad():
            logits = model(torch.tensor([source]), torch.tensor([[model.spec.start, *written]]))
        written.append(int(logits[0, -1].argmax()))
    return written


@pytest.mark.parametrize("beams", [1, 3])
def test_what_must_never_be_written_is_not(beams):
    free = build(1)
    written = {token for one in SOURCES for token in free.generate(one, max_tokens=8, beams=beams).tokens}
    never = tuple(sorted(written - {1}))
    answers = build(1, never=never).generate(SOURCES, max_tokens=8, beams=beams)
    assert never and not {token for answer in answers for token in answer.tokens} & set(never)
    assert all(math.isfinite(logprob) for answer in answers for logprob in answer.logprobs)


@pytest.mark.parametrize("seed", range(4))
def test_greedy_equals_full_passes(seed):
    model = build(seed)
    for source, answer in zip(SOURCES, model.generate(SOURCES, max_tokens=9), strict=True):
        assert list(answer.tokens) == by_hand(model, source, 9)
        assert answer.finish_reason == ("stop" if answer.tokens[-1] == 1 else "length")


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_batched_is_alone(beams):
    for seed in range(4):
        model = build(seed)
        together = model.generate(SOURCES, max_tokens=10, beams=beams)
        for source, answer in zip(SOURCES, together, strict=True):
            one = model.generate(source, max_tokens=10, beams=beams)
            assert one.tokens == answer.tokens and one.finish_reason == answer.finish_reason
            assert one.logprobs == pytest.approx(answer.logprobs, abs=1e-5)  # float32 sums in another order


@pytest.mark.parametrize("beams", [1, 3])
def test_logprobs_are_the_models_own(beams):
    model = build(2)
    answer = model.generate(SOURCES[2], max_tokens=8, beams=beams)
    with torch.no_grad():
        logits = model(torch.tensor([SOURCES[2]]), torch.tensor([[0, *answer.tokens[:-1]]]))[0]
    expected = logits.log_softmax(-1).gather(-1, torch.tensor(answer.tokens)[:, None])[:, 0]
    assert answer.logprobs == pytest.approx(expected.tolist(), abs=1e-4)  # float32, cached against uncached


def test_more_beams_find_a_better_target():
    gains = []
    for seed in range(6):
        model = build(seed)
        told = {"max_tokens": 7, "length_penalty": 0.0, "early": "never"}
        one, many = (model.generate(SOURCES[0], beams=beams, **told) for beams in (1, 6))
        gains.append(sum(many.logprobs) - sum(one.logprobs))
    assert min(gains) > -1e-4 and max(gains) > 0.01


def test_forms_write_alike():
    fast = build(1)
    slow = Seq2Seq(fast.module, forms=READABLE)
    assert [one.tokens for one in fast.generate(SOURCES, max_tokens=9)] == [
        one.tokens for one in slow.generate(SOURCES, max_tokens=9)
    ]


def test_a_changed_weight_shows_in_the_next_answer():
    model = build(3)
    before = model.generate(SOURCES[0], max_tokens=8).tokens
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert list(model.generate(SOURCES[0], max_tokens=8).tokens) == by_hand(model, SOURCES[0], 8) != list(before)


def test_a_rectangle_of_ids_gives_a_rectangle_of_logits():
    model = build()
    sources_BS, targets_BT = torch.randint(VOCAB, (3, 4)), torch.randint(VOCAB, (3, 5))
    with torch.no_grad():
        logits_BTV = model(sources_BS, targets_BT)
        assert logits_BTV.shape == (3, 5, VOCAB)
        for row in range(3):
            alone = model(sources_BS[row : row + 1], targets_BT[row : row + 1])[0]
            assert torch.allclose(alone, logits_BTV[row], atol=1e-5)  # float32 sums in another order
    model(sources_BS, targets_BT).sum().backward()
    assert all(parameter.grad is not None for parameter in model.module.parameters())


def test_a_decoder_of_bounded_length_ends_its_targets():
    stack = replace(spec().decoder, relative=None, positions=Learned(length=5))
    model = build(0, decoder=stack, ends=())
    assert len(model.generate([3], max_tokens=50).tokens) == 5
    assert len(model.generate([3], max_tokens=50, beams=2).tokens) == 5


@pytest.mark.parametrize("beams", [1, 2])
def test_nothing_asked_for_nothing_written(beams):
    assert build().generate([], beams=beams) == []
    assert build().generate([3], max_tokens=0, beams=beams).tokens == ()


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("red", {}, "without a tokenizer"),
        ([VOCAB], {}, "outside the vocabulary"),
        ([-1], {}, "outside the vocabulary"),
        ([[]], {}, "the source is empty"),
        ([[1, "a"]], {}, "token ids"),
        ([True], {}, "is a bool"),
        (b"red", {}, "is a bytes"),
        (None, {}, "is a NoneType"),
        ([1], {"beams": 0}, "beams"),
        ([1], {"beams": True}, "beams"),
        ([1], {"max_tokens": -1}, "max_tokens"),
        ([1], {"length_penalty": float("nan")}, "length_penalty"),
        ([1], {"early": "soon"}, "early"),
    ],
)
def test_an_impossible_question_is_refused(source, options, said):
    with pytest.raises(BadInput, match=said):
        build().generate(source, **options)


def test_a_source_beyond_the_encoders_length_is_refused():
    stack = replace(spec().encoder, relative=None, positions=Learned(length=3))
    with pytest.raises(BadInput, match="4 tokens, the encoder's most is 3"):
        build(0, encoder=stack).generate([1, 2, 3, 4])


def test_nan_weights_are_named():
    model = build()
    with torch.no_grad():
        model.module.decoder.blocks[1].cross.key.weight[0, 0] = float("nan")
    with pytest.raises(BadInput, match=r"decoder\.blocks\.1\.cross\.key\.weight"):
        model.generate([1])


def test_what_it_cannot_do_is_said():
    with pytest.raises(BadInput, match="meta"):
        Seq2Seq(spec().build().to("meta")).generate([1])
    with pytest.raises(CutawayError, match="encoder"):
        build().embed(["a"])


def tokenizer() -> Backend:
    words = ["<pad>", "</s>", "<unk>", *WORDS.split(), *map(str, range(20))]
    backend = Backend(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["<pad>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return backend


def test_a_folder_is_loaded_and_writes_text(tmp_path):
    backend, folder = tokenizer(), tmp_path / "模型"
    save(build(1), folder)
    backend.save(str(folder / "tokenizer.json"))
    model = cutaway.load(folder, device="cpu")
    assert isinstance(model, Seq2Seq) and model.spec == spec()
    assert model.encode("甲乙丙丁 red") == [3, 4, 1]
    answers = model.generate(["甲乙丙丁 red", "two"], max_tokens=6, beams=2)
    assert [one.tokens for one in answers] == [
        build(1).generate(ids, max_tokens=6, beams=2).tokens for ids in ([3, 4, 1], [8, 1])
    ]
    for answer in answers:
        assert answer.text == backend.decode(list(answer.tokens), skip_special_tokens=True)
    again = save(model, tmp_path / "again")
    assert cutaway.load(again, device="cpu").generate("two", max_tokens=6) == model.generate("two", max_tokens=6)
    told = json.loads((again / "generation_config.json").read_text(encoding="utf-8"))
    assert told["decoder_start_token_id"] == 0 and told["eos_token_id"] == [1] and told["bad_words_ids"] is None
    with pytest.raises(BadInput, match="only decoders"):
        save(model, tmp_path / "model.gguf")
