"""Models from every place; with the real ones, in `make proof`: Paris, transformers' tokens, and perplexities."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import cutaway
from cutaway.base.errors import BadInput, NotFound
from cutaway.infer.language import Language
from cutaway.lab.checks.perplexity import perplexity, requantised, with_forms
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.ops.blocks.format import FORMATS
from cutaway.weights.shelf import get

DATA = Path(__file__).parents[1] / "data"
PROMPTS = [
    "The capital of France is",
    "Once upon a time",
    "def fibonacci(n):",
    "Water boils at",
    "The three primary colours are",
    "To be, or not to be",
    "import numpy as np\n",
    "Q: What is 7 times 8?\nA:",
    "The opposite of hot is",
    "In 1969, the first man",
    "床前明月光",
    "中国的首都是",
    "我喜欢吃",
    "请用一句话介绍北京。",
    "人工智能是",
    "{'name': 'Alice', 'age':",
    "Dear Sir or Madam,",
    "A haiku about the sea:\n",
    "The derivative of x^2 is",
    "😀 means",
]


def small() -> Language:
    torch.manual_seed(0)
    block = Block(
        mixer=GroupedQuery(heads=2, kv_heads=1, head_dim=16, rope=Rope(width=16)),
        feed=Gated(hidden=64),
        before=RMSNorm(),
    )
    return Language(Decoder(vocab=70, dim=32, length=64, norm=RMSNorm(), blocks=(block, block)).build())


def test_what_is_saved_is_loaded(tmp_path):
    language = small()
    expected = language.generate([1, 2, 3], max_tokens=12)
    cutaway.save(language, tmp_path / "folder")
    cutaway.save(language, tmp_path / "file.gguf", quant="q8_0")
    assert cutaway.load(tmp_path / "folder").generate([1, 2, 3], max_tokens=12).tokens == expected.tokens
    back = cutaway.load(tmp_path / "file.gguf")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        # 8 bits of each weight: 1 part in 254 of the largest in a block
        assert torch.allclose(back(ids), language(ids), atol=0.05)


def test_half_precision_on_request(tmp_path):
    cutaway.save(small(), tmp_path)
    language = cutaway.load(tmp_path, dtype="bfloat16")
    assert language.dtype == torch.bfloat16
    assert language(torch.arange(5)[None]).dtype == torch.bfloat16
    assert len(language.generate([1], max_tokens=4).tokens) == 4


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("smollm2-135", NotFound, "smollm2-135m"),
        ("nothing-like-it", NotFound, "no such file, folder or short name"),
        ("/no/such/place", NotFound, "no such"),
        ("here.gguf", NotFound, "no such"),
        ("~nobody-of-that-name/model", NotFound, "no such"),
        ("", BadInput, "is empty"),
        ("README.md", BadInput, "neither a GGUF file nor a folder"),
    ],
)
def test_what_is_not_there_is_said(name, error, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("hello", encoding="utf-8")
    with pytest.raises(error, match=said):
        cutaway.load(name)


@pytest.mark.parametrize("name", ["there/x.gguf", "there/folder"])
def test_a_place_that_cannot_be_written_is_one_clear_line(name, tmp_path):
    (tmp_path / "there").write_text("a file, not a folder", encoding="utf-8")
    with pytest.raises(BadInput, match=r"there.*cannot be written"):
        cutaway.save(small(), tmp_path / name)


@pytest.mark.parametrize(("path", "quant"), [("x.gguf", "q3_k"), ("folder", "f16")])
def test_an_impossible_form_is_refused_and_nothing_is_written(path, quant, tmp_path):
    with pytest.raises(BadInput, match="quant"):
        cutaway.save(small(), tmp_path / path, quant=quant)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def smollm2() -> Language:
    try:
        return cutaway.load(get("smollm2-135m"))
    except NotFound as error:
        pytest.skip(f"smollm2-135m is not here and cannot be fetched: {error}")


@pytest.mark.proof
def test_it_says_paris(smollm2):
    answer = smollm2.generate([{"role": "user", "content": "What is the capital of France?"}], max_tokens=40)
    assert "Paris" in answer.text
    assert answer.finish_reason == "stop"


@pytest.mark.proof
def test_float32_greedy_tokens_are_those_of_transformers(smollm2):
    """20 prompts, Chinese among them, on the same dequantised weights."""
    from transformers import AutoModelForCausalLM

    path = get("smollm2-135m")
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    ours = with_forms(smollm2, "exact")
    for prompt in PROMPTS:
        ids = ours.encode(prompt)
        with torch.inference_mode():
            expected = theirs.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)[0, len(ids) :]
        assert list(ours.generate(prompt, max_tokens=24).tokens) == expected.tolist(), prompt


@pytest.mark.proof
@pytest.mark.parametrize("format", ["q4_1", "q4_0", "q5_0", "q5_1", "q8_0"])
def test_every_path_of_a_format_keeps_the_perplexity_within_1_percent(smollm2, format):
    """Against float32 on the same dequantised weights; passes of 1, 4 and 16 tokens and of all take different paths."""
    language = smollm2 if format == "q4_1" else requantised(smollm2, FORMATS[format])
    ids = language.encode((DATA / "english.txt").read_text(encoding="utf-8"))[:257]
    expected = perplexity(with_forms(language, "readable"), ids, 256)
    for form in ("fast", "exact", "bfloat16"):
        for chunk in (1, 4, 16, 256):
            got = perplexity(with_forms(language, form), ids, chunk)
            assert abs(got / expected - 1) < 0.01, f"{form}, {chunk} at a time: {got:.4f}, expected {expected:.4f}"


@pytest.mark.proof
@pytest.mark.parametrize("text", ["english.txt", "chinese.txt"])
def test_a_long_prompt_keeps_the_perplexity_within_1_percent(smollm2, text):
    """Its attention goes through products of its own, in bfloat16 where those pay (ops/attend.py)."""
    ids = smollm2.encode((DATA / text).read_text(encoding="utf-8"))[:513]
    expected = perplexity(with_forms(smollm2, "readable"), ids, 512)
    for chunk in (200, 512):
        got = perplexity(with_forms(smollm2, "fast"), ids, chunk)
        assert abs(got / expected - 1) < 0.01, f"{chunk} at a time: {got:.4f}, expected {expected:.4f}"


@pytest.mark.proof
@pytest.mark.parametrize("text", ["english.txt", "chinese.txt"])
def test_the_k_quants_of_gemma_keep_the_perplexity_within_1_percent(text):
    """gemma3-270m holds q4_k, q5_0, q6_k and q8_0 matrices."""
    try:
        language = cutaway.load(get("gemma3-270m"))
    except NotFound as error:
        pytest.skip(f"gemma3-270m is not here and cannot be fetched: {error}")
    ids = language.encode((DATA / text).read_text(encoding="utf-8"))[:97]
    expected = perplexity(with_forms(language, "readable"), ids, 96)
    for form in ("fast", "exact"):
        for chunk in (1, 96):
            got = perplexity(with_forms(language, form), ids, chunk)
            assert abs(got / expected - 1) < 0.01, f"{form}, {chunk} at a time: {got:.4f}, expected {expected:.4f}"


def test_weights_are_rounded_and_a_cache_is_kept_as_told(tmp_path):
    cutaway.save(small(), tmp_path / "folder")
    language = cutaway.load(tmp_path / "folder", weights="int4:group=32", cache="int8")
    assert isinstance(language, Language) and language.kept == torch.int8
    parts = {name: part.packed.format.name for name, part in language.module.named_modules() if hasattr(part, "packed")}
    assert parts["embedding"] == "int8" and parts["blocks.0.feed.up"] == "int4" and len(parts) == 15
    held = language.continuation()
    language.generate([1, 2, 3], held=held, max_tokens=5)
    # 7 tokens, 2 layers, a key and a value of 16 numbers, of a byte each and 2 of their scale.
    assert held.cache.bytes == 7 * 2 * 2 * 18
    for told, field in (({"weights": "q6_k"}, "weights"), ({"cache": "int4"}, "cache")):
        with pytest.raises(BadInput, match=field):
            cutaway.load(tmp_path / "folder", **told)
