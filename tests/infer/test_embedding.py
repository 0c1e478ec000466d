"""Vectors of texts: equal to transformers' padded pass and a pooling by hand, and whoever stands beside them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor

import cutaway
from cutaway.base.errors import BadInput, CutawayError, NotFound
from cutaway.infer.embedding import Pooling, encode
from cutaway.infer.language import Language
from cutaway.ops.forms import READABLE
from cutaway.weights.shelf import get

from .sentences import sentence_folder

TEXTS = ["the cat sat.", "", "unable", "中国", "The CAT", "a " * 40, "z", "😀", "the cat sat. " * 3, "  the\tcat\n"]
# Float32 in two layers of width 24, added up in another order; a wrong pooling moves numbers by 1e-2 and more.
CLOSE = {"atol": 2e-6, "rtol": 1e-5}
POOL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": lambda x_BTD, mask_BT: (x_BTD * mask_BT[..., None]).sum(1) / mask_BT.sum(1, keepdim=True),
    "cls": lambda x_BTD, mask_BT: x_BTD[:, 0],
    "max": lambda x_BTD, mask_BT: x_BTD.masked_fill(mask_BT[..., None] == 0, float("-inf")).amax(1),
}


def theirs(folder, texts: list[str], by: str, most: int) -> Tensor:
    """transformers' own tokenizer, padded batch and model; unit vectors."""
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    told = tokenizer(texts, padding=True, truncation=True, max_length=most, return_tensors="pt")
    with torch.no_grad():
        found = model(input_ids=told["input_ids"], attention_mask=told["attention_mask"])
    mask_BT = told["attention_mask"].float()
    made_BD = found.pooler_output if by == "pooler" else POOL[by](found.last_hidden_state, mask_BT)
    return torch.nn.functional.normalize(made_BD, dim=-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sentence_folder(tmp_path_factory.mktemp("sentences") / "model")


@pytest.fixture(scope="module")
def language(folder) -> Language:
    return cutaway.load(folder)


@pytest.mark.parametrize("by", ["mean", "cls", "max", "pooler"])
def test_vectors_are_those_of_transformers(by, folder, language):
    got_BD = language.embed(TEXTS, pooling=by)
    assert got_BD.shape == (len(TEXTS), 24) and got_BD.dtype == torch.float32
    expected_BD = theirs(folder, TEXTS, by, most=12)
    torch.testing.assert_close(got_BD, expected_BD, **CLOSE)
    assert (expected_BD[0] - expected_BD[2]).norm() > 0.1, "vectors this alike would hide mistakes"
    # float32 has 7 digits
    assert torch.allclose(got_BD.norm(dim=-1), torch.ones(len(TEXTS)), atol=1e-6)


def test_batched_equals_alone_in_any_order_and_form(language):
    together_BD = language.embed(TEXTS)
    torch.testing.assert_close(torch.cat([language.embed([text]) for text in TEXTS]), together_BD, **CLOSE)
    torch.testing.assert_close(language.embed(TEXTS[::-1]).flip(0), together_BD, **CLOSE)
    readable = Language(language.module, language.tokenizer, forms=READABLE, pooling=language.pooling)
    torch.testing.assert_close(readable.embed(TEXTS), together_BD, **CLOSE)


def test_many_texts_go_in_several_passes(language, monkeypatch):
    from cutaway.infer import embedding

    sizes = []
    hidden = language.module.hidden

    def watch(ids_N, context, **told):
        sizes.append(len(ids_N))
        return hidden(ids_N, context, **told)

    monkeypatch.setattr(language.module, "hidden", watch)
    expected_BD = language.embed(TEXTS)
    assert len(sizes) == 1
    monkeypatch.setattr(embedding, "TOKENS", 13)
    torch.testing.assert_close(language.embed(TEXTS), expected_BD, **CLOSE)
    assert len(sizes) > 4 and max(sizes[1:]) <= 13 and sum(sizes[1:]) == sizes[0]
    monkeypatch.setattr(embedding, "TOKENS", 1)
    torch.testing.assert_close(language.embed(TEXTS), expected_BD, **CLOSE)


def test_a_long_text_is_cut_and_keeps_its_special_tokens(language):
    assert language.tokenizer is not None
    for text in TEXTS:
        whole, cut = language.tokenizer.encode(text), encode(language.tokenizer, text, 5)
        assert len(cut) <= 5 and (cut[0], cut[-1]) == (2, 3)
        assert cut == (whole if len(whole) <= 5 else [*whole[:4], 3])
    with pytest.raises(BadInput, match="2 tokens leave no room beside 2 special ones"):
        encode(language.tokenizer, "the cat", 2)


def test_lower_case_where_the_model_asks_for_it(language):
    heard = []

    class Listener:
        def encode(self, text, special=True):
            heard.append(text)
            return language.tokenizer.encode(text, special)

    Language(language.module, Listener(), pooling=Pooling(lower=True)).embed(["The CAT 中"])
    assert heard == ["the cat 中"]


def test_nothing_gives_nothing(language):
    assert language.embed([]).shape == (0, 24)


@pytest.mark.parametrize("texts", ["the cat", b"the cat", ["the", 3], [["the"]], None, {"the"}])
def test_what_is_no_list_of_texts_is_refused(texts, language):
    with pytest.raises(BadInput, match="texts"):
        language.embed(texts)


def test_an_unknown_pooling_is_met_with_the_nearest(language):
    with pytest.raises(BadInput, match='no pooling is called "maen"; did you mean "mean"'):
        language.embed(["a"], pooling="maen")
    with pytest.raises(BadInput, match=r"Pooling\.length"):
        Pooling(length=0)


def test_an_encoder_speaks_not_and_says_so(language, folder):
    for ask in (language.generate, language.stream):
        with pytest.raises(BadInput, match="is an encoder: it turns texts to vectors"):
            ask("the cat")
    with pytest.raises(BadInput, match="is an encoder"):
        language.continuation()
    assert not language.speaks
    with torch.no_grad():
        assert language(torch.full((2, 5), 6)).shape == (2, 5, 24)


def test_without_numbers_or_a_tokenizer_it_says_so(language, folder):
    with pytest.raises(BadInput, match="without a tokenizer"):
        Language(language.module).embed(["a"])
    with pytest.raises(BadInput, match="shapes and no numbers"):
        cutaway.load(folder, device="meta").embed(["a"])
    broken = cutaway.load(folder)
    broken.module.get_parameter("blocks.1.feed.up.bias").data[0] = float("nan")
    with pytest.raises(BadInput, match=r"NaN or infinite numbers in blocks\.1\.feed\.up\.bias"):
        broken.embed(["a"])


def test_half_precision_on_request(folder, language):
    half = cutaway.load(folder, dtype="bfloat16").embed(TEXTS)
    assert half.dtype == torch.float32
    # 8 bits of each number, through two layers; unit vectors.
    assert torch.allclose(half, language.embed(TEXTS), atol=0.05)


@pytest.fixture(scope="module")
def minilm() -> Language:
    try:
        return cutaway.load(get("minilm"))
    except NotFound as error:
        pytest.skip(f"minilm is not here and cannot be fetched: {error}")


REAL = [
    *TEXTS,
    "Hello, world!",
    "床前明月光,疑是地上霜。举头望明月,低头思故乡。",
    "A man is playing a guitar. " * 60,
    "长" * 600,
    "[MASK] is spelled out, and [SEP] too",
]


@pytest.mark.proof
def test_minilm_gives_the_vectors_of_transformers_and_hand_pooling(minilm):
    """As sentence-transformers has them: 256 tokens, the mean, unit length."""
    assert minilm.pooling == Pooling(by="mean", unit=True, length=256)
    got_BD = minilm.embed(REAL)
    assert got_BD.shape == (len(REAL), 384) and got_BD.dtype == torch.float32
    assert torch.allclose(got_BD, theirs(get("minilm"), REAL, "mean", most=256), atol=1e-5)
    assert torch.allclose(got_BD, torch.cat([minilm.embed([text]) for text in REAL]), atol=1e-5)


@pytest.mark.proof
def test_minilm_knows_what_is_alike(minilm):
    texts = ["A man plays the guitar.", "Someone is making music.", "The stock market fell sharply today."]
    near, far = (float(a @ b) for a, b in zip(minilm.embed(texts[:1] * 2), minilm.embed(texts[1:]), strict=True))
    assert near > far + 0.3


@pytest.mark.proof
def test_minilm_through_its_short_name_and_back_from_a_folder_of_ours(minilm, tmp_path):
    named = cutaway.load("minilm")
    cutaway.save(named, tmp_path)
    again = cutaway.load(tmp_path)
    assert again.pooling == named.pooling
    assert torch.equal(again.embed(REAL[:4]), named.embed(REAL[:4]))


def test_a_decoder_still_refuses():
    from cutaway.models.decoder import Decoder
    from cutaway.nn.attention.grouped import GroupedQuery
    from cutaway.nn.block import Block
    from cutaway.nn.feedforward import Gated

    block = Block(mixer=GroupedQuery(heads=1, kv_heads=1, head_dim=4), feed=Gated(hidden=4))
    speaking = Language(Decoder(vocab=5, dim=4, length=8, blocks=(block,)).build())
    assert speaking.speaks
    with pytest.raises(CutawayError, match="embed with an encoder"):
        speaking.embed(["a"])
