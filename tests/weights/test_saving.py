from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import transformers

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.context import Context
from cutaway.nn.embedding import Embedding
from cutaway.nn.linear import Linear
from cutaway.nn.quantised import QuantisedEmbedding, QuantisedLinear
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.packed import Packed
from cutaway.weights.huggingface import read_folder
from cutaway.weights.saving import write_folder

transformers.utils.logging.disable_progress_bar()


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == again and torch.equal(tensor, copy) for (name, tensor), (again, copy) in pairs)


def test_one_file_is_bit_equal(tiny, tmp_path):
    module = tiny.build()
    write_folder(module, tiny, tmp_path, extra={"eos_token_id": [2, 7], "bos_token_id": 1})
    again, spec = read_folder(tmp_path, device="cpu")
    assert spec == tiny and equal(module, again)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["architectures"]) == ("llama", ["LlamaForCausalLM"])
    assert (config["eos_token_id"], config["bos_token_id"], config["torch_dtype"]) == ([2, 7], 1, "float32")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_precision_is_kept(dtype, tiny, tmp_path):
    module = tiny.build().to(dtype)
    write_folder(module, tiny, tmp_path)
    assert equal(module, read_folder(tmp_path, dtype, "cpu")[0])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert theirs.dtype == dtype


def test_shards_are_read_by_us_and_by_transformers(tiny, tmp_path):
    module = tiny.build()
    write_folder(module, tiny, tmp_path, shard=20_000)
    files = sorted(file.name for file in tmp_path.glob("*.safetensors"))
    count = len(files)
    assert count > 2 and files[0] == f"model-00001-of-{count:05}.safetensors"
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert index["metadata"]["total_size"] == sum(parameter.nbytes for parameter in module.parameters())
    again, spec = read_folder(tmp_path, device="cpu")
    assert spec == tiny and equal(module, again)
    theirs, told = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    assert torch.equal(theirs.model.layers[1].mlp.up_proj.weight, module.get_parameter("blocks.1.feed.up.weight"))


def test_an_earlier_model_is_replaced_and_other_files_are_left(tiny, tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    first, second = tiny.build(), tiny.build()
    write_folder(first, tiny, tmp_path)
    write_folder(second, tiny, tmp_path, shard=20_000)
    assert not (tmp_path / "model.safetensors").exists(), "readers would take it for the model"
    assert equal(second, read_folder(tmp_path, device="cpu")[0])
    write_folder(first, tiny, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors", "notes.txt"]
    assert equal(first, read_folder(tmp_path, device="cpu")[0])


def test_a_decoder_that_no_architecture_can_hold(tiny: Decoder, tmp_path):
    odd = replace(tiny, softcap=3.0, embedding_scale=2.0)
    with pytest.raises(BadInput, match=r"Decoder: no architecture that other programs know has this shape"):
        write_folder(odd.build(), odd, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_packed_weights_are_expanded(tiny, tmp_path):
    """A model that arrived quantised is written as the numbers it computes with."""
    module, numbers = tiny.build().eval(), {}
    for name, part in list(module.named_modules()):
        if isinstance(part, (Linear, Embedding)) and part.weight.shape[1] % 32 == 0:
            packed = Packed(blocks=quantise(part.weight.detach(), FORMATS["q8_0"]), format=FORMATS["q8_0"])
            module.set_submodule(name, (QuantisedLinear if isinstance(part, Linear) else QuantisedEmbedding)(packed))
            numbers[f"{name}.weight"] = dequantise(packed.blocks, packed.format)
    assert len(numbers) > 10
    write_folder(module, tiny, tmp_path)
    again, _ = read_folder(tmp_path, device="cpu")
    assert all(torch.equal(again.get_parameter(name), tensor) for name, tensor in numbers.items())
    with torch.no_grad():
        packed_logits, plain_logits = (one(torch.arange(9), Context.of((9,)))[0] for one in (module, again))
    # Products over 8-bit blocks may round their input to bfloat16: 8 bits of logits of about 0.1.
    torch.testing.assert_close(packed_logits, plain_logits, atol=1e-2, rtol=1e-2)
