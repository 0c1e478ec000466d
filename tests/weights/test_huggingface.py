from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from cutaway.base.errors import BadInput, NotFound
from cutaway.nn.context import Context
from cutaway.weights.huggingface import read_folder, read_spec

transformers.utils.logging.disable_progress_bar()
FILE = "model.safetensors"
DOWN = "model.layers.1.mlp.down_proj.weight"


def change(folder: Path, **fields: Any) -> None:
    """Sets fields of config.json; a field set to `...` is removed."""
    path = folder / "config.json"
    data = json.loads(path.read_text(encoding="utf-8")) | fields
    kept = {name: value for name, value in data.items() if value is not ...}
    path.write_text(json.dumps(kept), encoding="utf-8")


def put(folder: Path, **tensors: Tensor | None) -> None:
    """Sets tensors of the checkpoint, `/` standing for the dots of a name; None removes one."""
    held = load_file(folder / FILE) | {name.replace("/", "."): tensor for name, tensor in tensors.items()}
    save_file({name: tensor for name, tensor in held.items() if tensor is not None}, folder / FILE)


def logits(module: Any) -> Tensor:
    with torch.no_grad():
        return module(torch.arange(11), Context.of((11,)))[0].float()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("config", ["LlamaConfig", "GPT2Config", "Gemma3TextConfig"])
def test_half_precision_checkpoints(config, dtype, tmp_path):
    """Read as float32 they answer as transformers does in float32; read as they are, as closely as it does."""
    small = {
        "GPT2Config": {"vocab_size": 61, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32},
        "LlamaConfig": {"num_attention_heads": 4, "num_key_value_heads": 2},
        "Gemma3TextConfig": {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8},
    }[config]
    if config != "GPT2Config":
        small |= {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    torch.manual_seed(1)
    told = getattr(transformers, config)(**small)
    theirs = transformers.AutoModelForCausalLM.from_config(told, attn_implementation="eager").eval()
    for parameter in theirs.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    theirs.to(dtype).save_pretrained(tmp_path)

    wide, _ = read_folder(tmp_path, device="cpu")
    assert {parameter.dtype for parameter in wide.parameters()} == {torch.float32}
    narrow, _ = read_folder(tmp_path, dtype=dtype, device="cpu")
    assert {parameter.dtype for parameter in narrow.parameters()} == {dtype}
    with torch.no_grad():
        # Read anew: `to(dtype)` has rounded transformers' rotary tables too.
        rounded, exact = (
            transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=one, attn_implementation="eager")(
                torch.arange(11)[None]
            ).logits[0]
            for one in (dtype, torch.float32)
        )
    torch.testing.assert_close(logits(wide), exact, atol=2e-5, rtol=2e-5)
    # Both round to 8 or 11 bits at every step, not always in the same place: neither is nearer to the truth.
    theirs_off, ours_off = (rounded.float() - exact).abs().max(), (logits(narrow) - exact).abs().max()
    assert ours_off <= 2 * theirs_off


def test_dtype_by_default_and_by_name(tiny_folder):
    assert read_folder(tiny_folder, device="meta")[0].embedding.weight.dtype == torch.float32
    assert read_folder(tiny_folder, "bfloat16", "cpu")[0].embedding.weight.dtype == torch.bfloat16
    assert read_folder(tiny_folder, torch.float64, "cpu")[0].embedding.weight.dtype == torch.float64
    with pytest.raises(BadInput, match="dtype: int8 is no precision"):
        read_folder(tiny_folder, "int8", "cpu")


def test_what_is_read_is_a_copy(tiny_folder):
    """Training in place must neither fail nor reach the file."""
    module, _ = read_folder(tiny_folder, device="cpu")
    before = (tiny_folder / FILE).read_bytes()
    with torch.no_grad():
        module.embedding.weight.zero_()
    assert (tiny_folder / FILE).read_bytes() == before


def test_sharded_by_transformers(tmp_path):
    torch.manual_seed(2)
    told = transformers.LlamaConfig(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    theirs = transformers.AutoModelForCausalLM.from_config(told, attn_implementation="eager").eval()
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    module, _ = read_folder(tmp_path, device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(logits(module), theirs(torch.arange(11)[None]).logits[0], atol=1e-5, rtol=1e-5)


def test_saved_without_a_head(tiny_folder):
    """GPT-2 on the hub is such a file: the trunk's name is left out of all tensors'."""
    expected = logits(read_folder(tiny_folder, device="cpu")[0])
    held = load_file(tiny_folder / FILE)
    save_file({name.removeprefix("model."): tensor for name, tensor in held.items()}, tiny_folder / FILE)
    torch.testing.assert_close(logits(read_folder(tiny_folder, device="cpu")[0]), expected, atol=0, rtol=0)


def test_a_tied_head_may_be_there_once_more(tiny_folder):
    expected = logits(read_folder(tiny_folder, device="cpu")[0])
    table = load_file(tiny_folder / FILE)["model.embed_tokens.weight"]
    put(tiny_folder, **{"lm_head/weight": table.clone()})
    torch.testing.assert_close(logits(read_folder(tiny_folder, device="cpu")[0]), expected, atol=0, rtol=0)

    put(tiny_folder, **{"lm_head/weight": table + 1})
    with pytest.raises(BadInput, match=r"model.safetensors: lm_head.weight: differs from the token table"):
        read_folder(tiny_folder, device="cpu")
    put(tiny_folder, **{"lm_head/weight": table[1:].clone()})
    with pytest.raises(BadInput, match=r"lm_head.weight: has shape \(60, 32\), config.json asks for \(61, 32\)"):
        read_folder(tiny_folder, device="cpu")


def test_an_untied_head_must_be_there(tiny_folder):
    change(tiny_folder, tie_word_embeddings=False)
    with pytest.raises(BadInput, match=r"lm_head.weight is missing \(expected shape \(61, 32\)\)"):
        read_folder(tiny_folder, device="cpu")


def test_tables_and_masks_of_older_programs_are_ignored(tiny_folder):
    expected = logits(read_folder(tiny_folder, device="cpu")[0])
    put(
        tiny_folder,
        **{
            "model/layers/0/self_attn/rotary_emb/inv_freq": torch.ones(4),
            "model/layers/1/attn/masked_bias": torch.tensor(-1e4),
            "model/layers/1/attn/bias": torch.ones(1, 1, 4, 4, dtype=torch.bool),
        },
    )
    torch.testing.assert_close(logits(read_folder(tiny_folder, device="cpu")[0]), expected, atol=0, rtol=0)


def test_a_missing_tensor_is_named_with_its_shape(tiny_folder):
    put(tiny_folder, **{DOWN.replace(".", "/"): None})
    with pytest.raises(BadInput, match=rf"the tensor {DOWN} is missing \(expected shape \(32, 48\)\)"):
        read_folder(tiny_folder, device="cpu")


def test_a_misshapen_tensor_is_named_with_both_shapes(tiny_folder):
    put(tiny_folder, **{DOWN.replace(".", "/"): torch.zeros(48, 32)})
    with pytest.raises(BadInput, match=rf"{FILE}: {DOWN}: has shape \(48, 32\), config.json asks for \(32, 48\)"):
        read_folder(tiny_folder, device="cpu")


def test_an_unexpected_tensor_is_named(tiny_folder):
    put(tiny_folder, **{"model/layers/0/self_attn/q_proj/bias": torch.zeros(32), "model/vision/weight": torch.zeros(2)})
    with pytest.raises(BadInput, match=r"model.layers.0.self_attn.q_proj.bias: this tensor and 1 more has no place"):
        read_folder(tiny_folder, device="cpu")


def test_numbers_of_an_unknown_kind(tiny_folder):
    put(tiny_folder, **{DOWN.replace(".", "/"): torch.zeros(32, 48, dtype=torch.int8)})
    with pytest.raises(BadInput, match=rf"{DOWN}: numbers of kind I8 are not read here"):
        read_folder(tiny_folder, device="cpu")


def test_absurd_sizes_fail_against_the_headers(tiny_folder):
    """Nothing of these sizes is ever made room for: they would need terabytes."""
    for field in ("vocab_size", "hidden_size", "intermediate_size"):
        before = (tiny_folder / "config.json").read_text(encoding="utf-8")
        change(tiny_folder, **{field: 2**24})
        with pytest.raises(BadInput, match=r"has shape .*, config.json asks for"):
            read_folder(tiny_folder, device="cpu")
        (tiny_folder / "config.json").write_text(before, encoding="utf-8")
    change(tiny_folder, num_hidden_layers=1024)
    with pytest.raises(BadInput, match=r"model.layers.2.input_layernorm.weight is missing"):
        read_folder(tiny_folder, device="cpu")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model_type", "mamba", "model_type: 'mamba' is not known here .known: llama, mistral, qwen2"),
        ("model_type", 3, "model_type: 3 is not known here"),
        ("model_type", ..., "model_type: this field is missing"),
        ("hidden_size", "32", "hidden_size: expected a whole number"),
        ("hidden_size", -32, "hidden_size: must be from 1 to"),
        ("hidden_size", True, "hidden_size: expected a whole number"),
        ("hidden_size", 10**40, "hidden_size: must be from 1 to"),
        ("num_hidden_layers", 10**9, "num_hidden_layers: must be from 1 to 1024"),
        ("num_attention_heads", 0, "num_attention_heads: must be from 1"),
        ("num_key_value_heads", 3, "GroupedQuery.kv_heads: 4 heads cannot share 3 kv heads"),
        ("head_dim", 7, "head_dim: a head of 7 dims cannot rotate"),
        ("rms_norm_eps", float("nan"), "rms_norm_eps: must be a finite number"),
        ("rms_norm_eps", 0.0, "RMSNorm.eps: must be above 0"),
        ("hidden_act", "swoosh", 'hidden_act: "swoosh" is not known here'),
        ("tie_word_embeddings", "yes", "tie_word_embeddings: expected true or false"),
        ("rope_scaling", [1], "rope_scaling: expected an object"),
        ("rope_scaling", {"rope_type": "longrope"}, 'rope_scaling.rope_type: "longrope" is not known here'),
        ("rope_scaling", {"rope_type": "linear"}, "rope_scaling.factor: this field is missing"),
        ("rope_scaling", {"rope_type": "linear", "factor": 0.5}, "LinearScaling.factor: must be at least 1"),
        ("partial_rotary_factor", 0.5, "partial_rotary_factor: only 1.0 is known"),
    ],
)
def test_a_config_that_cannot_be(field, value, message, tiny_folder):
    change(tiny_folder, **{field: value})
    with pytest.raises(BadInput, match=rf"config\.json: {message}"):
        read_folder(tiny_folder, device="cpu")


def test_unknown_fields_are_tolerated(tiny_folder):
    change(tiny_folder, somebody_elses=[1, {"two": None}], transformers_version="99")
    read_folder(tiny_folder, device="cpu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "expected a JSON object"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 200_000, "not JSON"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"hidden_size": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b" " * 2**24 + b"{}", "larger than"),
    ],
    ids=range(8),
)
def test_a_config_that_is_none(text, message, tiny_folder):
    (tiny_folder / "config.json").write_bytes(text)
    with pytest.raises(BadInput, match=rf"config\.json: .*{message}"):
        read_spec(tiny_folder)


def test_pickled_weights_are_refused(tiny_folder):
    (tiny_folder / FILE).rename(tiny_folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"pytorch_model\.bin: pickled weights can run code"):
        read_folder(tiny_folder, device="cpu")


def test_missing_files(tiny_folder, tmp_path):
    (tiny_folder / FILE).unlink()
    with pytest.raises(NotFound, match=r"no model\.safetensors"):
        read_folder(tiny_folder, device="cpu")
    with pytest.raises(NotFound, match=r"no config\.json"):
        read_folder(tmp_path / "nowhere", device="cpu")
