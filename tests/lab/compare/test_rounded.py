from __future__ import annotations

import math

import pytest
import torch

import cutaway
from cutaway.base.errors import BadInput
from cutaway.infer.language import Language
from cutaway.lab.checks.perplexity import perplexity
from cutaway.lab.compare import rounded
from cutaway.lab.compare.passages import passages
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.text.character import Character


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved model that reads characters, and a text."""
    path = tmp_path_factory.mktemp("model")
    text = "".join(f"the cat sat on {n * 37 % 100} mats.\n" for n in range(400))
    (path / "text.txt").write_text(text, encoding="utf-8")
    torch.manual_seed(0)
    mixer = GroupedQuery(heads=2, kv_heads=1, head_dim=16, rope=Rope(width=16))
    block = Block(mixer=mixer, feed=Gated(hidden=64), before=RMSNorm())
    tokenizer = Character.train([text]).fast()
    module = Decoder(vocab=tokenizer.vocab, dim=32, length=128, norm=RMSNorm(), blocks=(block, block)).build()
    for parameter in module.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    cutaway.save(Language(module, tokenizer), path / "model")
    return path


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(rounded, "TOKENS", 4)
    monkeypatch.setattr(rounded, "READINGS", 1)


def test_figures_are_those_of_the_model(folder):
    told = {"count": 2, "length": 40}
    text, model = str(folder / "text.txt"), str(folder / "model")
    plain = rounded.measure(model, text, None, None, **told)
    language = cutaway.load(model)
    ids_BT = passages(language.tokenizer, text, 2, 40)
    expected = math.exp(sum(math.log(perplexity(language, ids.tolist(), 39)) for ids in ids_BT) / 2)
    # Read at once and eight at a time: sums in fp32 in another order.
    assert plain["perplexity"] == pytest.approx(expected, rel=1e-4)
    parameters = sum(one.numel() for one in language.module.parameters())
    assert plain["weight_bytes"] == 4 * parameters == 4 * plain["parameters"] and plain["formats"] == ["float32"]
    assert plain["cache_bytes"] == 2 * 2 * 16 * 4 and plain["write_per_second"] > 0 < plain["read_per_second"]


def test_fewer_bits_take_less_and_say_other_things(folder):
    told = {"count": 1, "length": 40}
    text, model = str(folder / "text.txt"), str(folder / "model")
    made = {
        name: rounded.measure(model, text, name, cache, **told)
        for name, cache in ((None, None), ("int8:row", "int8"), ("int4:group=32", "bfloat16"))
    }
    sizes = [one["weight_bytes"] for one in made.values()]
    assert sizes == sorted(sizes, reverse=True) and made["int4:group=32"]["formats"] == ["int4", "int8"]
    assert made["int8:row"]["cache_bytes"] == 2 * 2 * 18 and made["int4:group=32"]["cache_bytes"] == 2 * 2 * 32
    off = [abs(one["perplexity"] / made[None]["perplexity"] - 1) for one in made.values()]
    assert 0 < off[1] < 0.02 and off[1] < off[2], "8 bits move it little, 4 bits more"


def test_gptq_has_the_bytes_of_its_scheme_and_numbers_of_its_own(folder):
    text, model = str(folder / "text.txt"), str(folder / "model")
    plain, better = (
        rounded.measure(model, text, f"int4:group=32{rest}", None, count=1, length=40) for rest in ("", ",gptq")
    )
    assert better["weight_bytes"] == plain["weight_bytes"] and better["formats"] == plain["formats"]
    assert better["perplexity"] != plain["perplexity"]


def test_what_is_no_decoder_is_refused(folder, tmp_path):
    mixer = GroupedQuery(heads=2, kv_heads=1, head_dim=16, rope=Rope(width=16))
    block = Block(mixer=mixer, feed=Gated(hidden=64), before=RMSNorm())
    module = Decoder(vocab=8, dim=32, length=64, norm=RMSNorm(), blocks=(block,)).build()
    cutaway.save(Language(module), tmp_path / "mute")
    with pytest.raises(BadInput, match="no decoder with a tokenizer"):
        rounded.measure(str(tmp_path / "mute"), str(folder / "text.txt"), None, None, count=1, length=8)
