"""Models through GGUF files: written, read back, and read by transformers with equal logits."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.nn.positions import Learned, Rope
from cutaway.nn.rope_scaling import LinearScaling, Llama3Scaling, Yarn
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.forms import READABLE
from cutaway.weights.architectures.table import home_of
from cutaway.weights.gguf.export import write_model
from cutaway.weights.gguf.model import read_model
from cutaway.weights.gguf.reader import read_gguf
from cutaway.weights.gguf.writer import write_gguf
from cutaway.weights.parameters import held, plain

NORM = RMSNorm(eps=1e-5)
LLAMA = Decoder(
    vocab=96,
    dim=64,
    length=128,
    norm=NORM,
    tied=False,
    blocks=(
        Block(
            mixer=GroupedQuery(heads=4, kv_heads=2, head_dim=16, rope=Rope(width=16, theta=5000.0)),
            feed=Gated(hidden=96),
            before=NORM,
        ),
    )
    * 2,
)


def with_mixer(spec: Decoder, **changes: object) -> Decoder:
    return replace(spec, blocks=tuple(replace(b, mixer=replace(b.mixer, **changes)) for b in spec.blocks))


def gemma(third: bool) -> Decoder:
    norm = RMSNorm(eps=1e-6, offset=1.0)
    mixer = GroupedQuery(
        heads=4,
        kv_heads=2,
        head_dim=32,
        rope=Rope(width=32, theta=1e6 if third else 1e4),
        softcap=None if third else 50.0,
        head_norm=norm if third else None,
    )
    near = replace(mixer, window=8, rope=Rope(width=32))
    feed = Gated(hidden=96, activation="gelu_tanh")
    kinds = [near] * 5 + [mixer] if third else [near, mixer]
    return Decoder(
        vocab=96,
        dim=64,
        length=128,
        norm=norm,
        embedding_scale=8.0,
        softcap=None if third else 30.0,
        blocks=tuple(Block(mixer=one, feed=feed, before=norm, after=norm) for one in kinds),
    )


GPT2 = Decoder(
    vocab=96,
    dim=64,
    length=40,
    norm=LayerNorm(),
    positions=Learned(length=40),
    dropout=0.1,
    blocks=(
        Block(
            mixer=GroupedQuery(heads=4, kv_heads=4, head_dim=16, bias=True, out_bias=True, dropout=0.1),
            feed=Plain(hidden=128),
            before=LayerNorm(),
            dropout=0.1,
        ),
    )
    * 2,
)
SPECS = {
    "llama": LLAMA,
    "llama tied": replace(LLAMA, tied=True),
    "linear": with_mixer(LLAMA, rope=Rope(width=16, scaling=LinearScaling(factor=2.0))),
    "qwen2": with_mixer(LLAMA, bias=True),
    "qwen3": with_mixer(LLAMA, head_norm=NORM),
    "gemma2": gemma(third=False),
    "gemma3": gemma(third=True),
    "gpt2": GPT2,
}
READ_WHOLE = ("llama", "llama tied", "qwen2")
# llama.cpp's way to say them is not one that transformers reads; our own reading gives them back.
OURS = {
    "llama3": with_mixer(
        LLAMA,
        rope=Rope(
            width=16,
            theta=5e5,
            scaling=Llama3Scaling(
                factor=8.0, original_length=8192, low_frequency_factor=1.0, high_frequency_factor=4.0
            ),
        ),
    ),
    "yarn": with_mixer(LLAMA, rope=Rope(width=16, scaling=Yarn(factor=4.0, original_length=32))),
}


def build(spec: Decoder) -> torch.nn.Module:
    torch.manual_seed(0)
    module = spec.build().eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module


def logits(module: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return module(ids, Context.of((len(ids),), forms=READABLE))[0]


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("quant", ["f16", "q8_0", "q4_0"])
def test_transformers_reads_what_we_write_with_equal_logits(name, quant, tmp_path):
    write_model(build(SPECS[name]), None, tmp_path / "x.gguf", quant)
    module, tokenizer = read_model(tmp_path / "x.gguf")
    assert tokenizer is None
    ids = torch.randint(96, (21,), generator=torch.Generator().manual_seed(1))
    # Of some architectures transformers reads too few of the metadata; it is told, and reads the tensors.
    told = {"config": AutoConfig.for_model(**home_of(SPECS[name])[1])} if name not in READ_WHOLE else {}
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="x.gguf", dtype=torch.float32, attn_implementation="eager", **told
    ).eval()
    with torch.no_grad():
        expected = theirs(ids[None]).logits[0]
    # The same float32 numbers on both sides; 1e-4 is what sums in another order move logits of this size.
    assert torch.allclose(logits(module, ids), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [*SPECS, *OURS])
def test_what_is_written_comes_back(name, tmp_path):
    spec = (SPECS | OURS)[name]
    module = build(spec)
    write_model(module, None, tmp_path / "x.gguf", "f16")
    back, _ = read_model(tmp_path / "x.gguf")
    quiet = replace(
        spec,
        dropout=back.spec.dropout,
        blocks=tuple(
            replace(b, dropout=c.dropout, mixer=replace(b.mixer, dropout=c.mixer.dropout))
            for b, c in zip(spec.blocks, back.spec.blocks, strict=True)
        ),
    )  # dropout is of training; GGUF does not tell it
    assert _float32(back.spec) == _float32(quiet)
    for ours, parameter in module.named_parameters():
        # fp16 keeps 11 bits; a norm's 1 is added and taken away again in float32.
        assert torch.allclose(plain(held(back, ours)), parameter, rtol=2**-11, atol=1e-6), ours


def _float32(value: object) -> str:
    """Numbers as GGUF keeps them, in float32: seven digits."""
    import re

    return re.sub(r"\d+\.\d+(e-?\d+)?", lambda number: f"{float(number[0]):.5g}", repr(value))


def test_blocks_that_are_already_in_the_form_asked_for_are_copied_bit_for_bit(tmp_path):
    write_model(build(LLAMA), None, tmp_path / "a.gguf", "q4_0")
    module, _ = read_model(tmp_path / "a.gguf")
    write_model(module, None, tmp_path / "b.gguf", "q4_0")
    first, second = (read_gguf(tmp_path / name).tensors for name in ("a.gguf", "b.gguf"))
    assert first.keys() == second.keys()
    assert all(bytes(first[name].data) == bytes(second[name].data) for name in first)


@pytest.mark.parametrize("quant", ["q4_1", "q5_0", "q5_1"])
def test_every_other_form_that_is_written_is_the_one_that_is_read(quant, tmp_path):
    module = build(LLAMA)
    write_model(module, None, tmp_path / "x.gguf", quant)
    tensors = read_gguf(tmp_path / "x.gguf").tensors
    assert {one.format for one in tensors.values() if one.name.startswith("blk.") and len(one.shape) == 2} == {quant}
    assert tensors["token_embd.weight"].format == "q8_0"
    back, _ = read_model(tmp_path / "x.gguf")
    weight = module.blocks[1].feed.down.weight.detach()
    expected = dequantise(quantise(weight, FORMATS[quant]), FORMATS[quant])
    assert torch.equal(plain(held(back, "blocks.1.feed.down.weight")), expected)


def test_a_file_that_says_it_has_no_vocabulary_has_no_tokenizer(tmp_path):
    write_model(build(LLAMA), None, tmp_path / "x.gguf", "q8_0")

    def told(metadata, tensors):
        metadata["tokenizer.ggml.model"] = "no_vocab"  # as llama.cpp wants to be told

    assert read_model(rewrite(tmp_path / "x.gguf", told))[1] is None


def rewrite(path: Path, change) -> Path:
    """The file again with its metadata and tensors changed by `change(metadata, tensors)`."""
    file = read_gguf(path)
    metadata = dict(file.metadata)
    tensors = {name: (name, t.shape, t.format, t.data) for name, t in file.tensors.items()}
    change(metadata, tensors)
    write_gguf(path.with_name("changed.gguf"), metadata, tensors.values())
    return path.with_name("changed.gguf")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m, t: t.pop("blk.1.ffn_up.weight"), r"blk\.1\.ffn_up\.weight.*missing"),
        (lambda m, t: t.update(x=("blk.0.extra.weight", (4,), "f32", bytes(16))), r"blk\.0\.extra\.weight.*no place"),
        (
            lambda m, t: t.update({"blk.0.attn_q.weight": ("blk.0.attn_q.weight", (32, 64), "f16", bytes(4096))}),
            r"blk\.0\.attn_q\.weight.*shape \(32, 64\)",
        ),
        (lambda m, t: m.update({"general.architecture": "mamba"}), "general.architecture.*mamba.*llama"),
        (lambda m, t: m.pop("general.architecture"), "general.architecture"),
        (lambda m, t: m.update({"llama.block_count": 3}), r"blk\.2\..*missing"),
        (lambda m, t: m.update({"llama.embedding_length": 0}), "hidden_size"),
        (lambda m, t: m.update({"llama.attention.head_count": 5}), "GroupedQuery|num_attention_heads|attn_q"),
        (lambda m, t: m.update({"llama.rope.dimension_count": 8}), "rope.dimension_count"),
        (lambda m, t: m.update({"llama.rope.scaling.type": "longrope", "llama.rope.scaling.factor": 2.0}), "longrope"),
        (lambda m, t: m.update({"llama.feed_forward_length": [96, 64]}), "layer to layer"),
        (lambda m, t: m.update({"llama.embedding_length": "64"}), "hidden_size"),
        (lambda m, t: t.update(x=("rope_freqs.weight", (8,), "f32", bytes(32))), "rope_freqs"),
    ],
)
def test_a_file_that_lies_is_refused_by_name(change, said, tmp_path):
    write_model(build(LLAMA), None, tmp_path / "x.gguf", "f16")
    with pytest.raises(BadInput, match=said):
        read_model(rewrite(tmp_path / "x.gguf", change))


def test_a_window_that_llama_cpp_would_not_see_is_not_written(tmp_path):
    with pytest.raises(BadInput, match="window"):
        write_model(build(with_mixer(LLAMA, window=8)), None, tmp_path / "x.gguf", "f16")
    assert not list(tmp_path.iterdir())


@pytest.mark.proof
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how many pages are anonymous")
@pytest.mark.parametrize("quant", ["q4_0", "q8_0"])
def test_opening_a_large_file_takes_no_more_than_its_packed_size_and_500_mb(quant, root):
    """The shapes of Qwen2-7B scaled down; on the small file and extrapolated to the real one."""
    command = [sys.executable, "bench/memory.py", "--json", "--quant", quant]
    found = json.loads(subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=True).stdout)
    assert found["copies"] > found["packed"] / 2, "nothing was repacked: the measure means nothing"
    assert found["peak"] < found["packed"] + 100e6  # 500 MB would be a third of this small file: be stricter
    assert found["real_peak"] < found["real_packed"] + 500e6


def test_the_meta_device_reads_no_data(tmp_path):
    write_model(build(LLAMA), None, tmp_path / "x.gguf", "q8_0")
    module, _ = read_model(tmp_path / "x.gguf", device="meta")
    assert all(parameter.is_meta for parameter in module.parameters())
