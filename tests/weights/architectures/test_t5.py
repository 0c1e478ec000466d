"""Twins: tiny T5s of transformers with random weights, versions 1.0 and 1.1, saved by it and read by us."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from cutaway.base.errors import BadInput
from cutaway.infer.seq2seq import Seq2Seq
from cutaway.ops.forms import READABLE
from cutaway.weights.architectures.place import place_of
from cutaway.weights.architectures.t5 import T5
from cutaway.weights.fields import Fields
from cutaway.weights.huggingface import read_folder
from cutaway.weights.saving import write_folder

from .seq2seq_twin import Seq2SeqTwin

transformers.utils.logging.disable_progress_bar()

VOCAB = 61
SOURCES, TARGETS = (9, 1, 14, 5), (6, 11, 1, 8)
SMALL = {
    "vocab_size": VOCAB,
    "d_model": 24,
    "d_kv": 6,
    "d_ff": 40,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
}
V10 = {"feed_forward_proj": "relu"}
V11 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
OPTIONS = {
    "1.0": V10,
    "1.1": V11,
    "1.1, one head, wide": V11 | {"num_heads": 1, "d_kv": 32, "num_decoder_layers": 1},
    "gated silu, tied": {"feed_forward_proj": "gated-silu"},
    "gelu, coarse eps": {"feed_forward_proj": "gelu", "layer_norm_epsilon": 1e-2},
    "real buckets": V10 | {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128},
}
# Both work in float32 on logits of about 1 to 10, in five layers of width 24, and add up in different orders. A wrong
# bucket or scale moves logits by 1e-1.
CLOSE = {"atol": 3e-5, "rtol": 3e-5}


def randomise(model: torch.nn.Module) -> None:
    """Numbers large enough that every part shows in the logits."""
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter)
        if "relative_attention_bias" in name:
            parameter.data = 2.0 * noise
        elif "shared" in name:
            parameter.data = noise
        elif parameter.ndim == 2:
            parameter.data = noise * 1.2 / max(parameter.shape) ** 0.5
        else:
            parameter.data = 1.0 + 0.3 * noise


@pytest.fixture
def make_twin(tmp_path: Path) -> Callable[..., Seq2SeqTwin]:
    def make(seed: int = 5, **options: Any) -> Seq2SeqTwin:
        torch.manual_seed(seed)
        config = transformers.T5Config(**(SMALL | options))
        theirs = transformers.T5ForConditionalGeneration(config).eval()
        if options.get("tie_word_embeddings") is False:  # transformers 5 makes it tied whatever is said
            theirs.lm_head.weight = torch.nn.Parameter(torch.empty_like(theirs.shared.weight))
        randomise(theirs)
        theirs.save_pretrained(tmp_path / "theirs")
        ours, spec = read_folder(tmp_path / "theirs", device="cpu")
        sources = [torch.randint(2, VOCAB, (length,)) for length in SOURCES]
        targets = [torch.cat([torch.zeros(1, dtype=torch.long), torch.randint(2, VOCAB, (n - 1,))]) for n in TARGETS]
        return Seq2SeqTwin(theirs=theirs, ours=ours, spec=spec, folder=tmp_path, sources=sources, targets=targets)

    return make


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin):
    twin = make_twin(**options)
    with torch.no_grad():
        expected = twin.expected()
        assert expected.std() > 0.3, "logits this flat would hide mistakes"
        torch.testing.assert_close(twin.full(), expected, **CLOSE)
        torch.testing.assert_close(twin.full(READABLE), expected, **CLOSE)
    torch.testing.assert_close(twin.cached(), expected, **CLOSE)
    assert twin.spec.tied == ("tie_word_embeddings" not in options)
    assert (twin.spec.head_scale is None) == ("tie_word_embeddings" in options)


@pytest.mark.parametrize("options", [V10, V11], ids=["1.0", "1.1"])
def test_gradients_are_theirs(options, make_twin):
    twin = make_twin(**options)
    weight = torch.randn(sum(TARGETS), VOCAB)
    (twin.expected() * weight).sum().backward()
    (twin.full() * weight).sum().backward()
    theirs, names = dict(twin.theirs.named_parameters()), T5.of(twin.spec).names
    for name, parameter in twin.ours.named_parameters():
        expected = theirs[place_of(names, name).name].grad
        assert bool(expected.any()), name
        # Gradients of a sum over 1,600 logits: some reach 100.
        torch.testing.assert_close(
            parameter.grad, expected, atol=1e-3, rtol=1e-4, msg=lambda said, n=name: f"{n}: {said}"
        )


@pytest.mark.parametrize("options", [V10, V11, OPTIONS["gated silu, tied"]], ids=["1.0", "1.1", "tied, gated"])
def test_what_we_write_is_read_as_the_same_model(options, make_twin):
    twin = make_twin(**options)
    write_folder(twin.ours, twin.spec, twin.folder / "ours")
    again, spec = read_folder(twin.folder / "ours", device="cpu")
    assert spec == twin.spec
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), twin.ours.parameters(), strict=True))
    theirs, told = transformers.T5ForConditionalGeneration.from_pretrained(
        twin.folder / "ours", output_loading_info=True
    )
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    back = replace(twin, theirs=theirs.eval(), ours=again)
    with torch.no_grad():
        torch.testing.assert_close(back.expected(), twin.expected(), **CLOSE)
    assert theirs.config.decoder_start_token_id == 0 and theirs.config.eos_token_id == 1


def test_a_first_checkpoint_with_its_surplus_is_read(make_twin):
    """t5-small as Google gave it: the table three times, and a bias that cross-attention never used."""
    twin = make_twin(**V10)
    held = load_file(twin.folder / "theirs" / "model.safetensors")
    table = held["shared.weight"]
    held |= {f"{stack}.embed_tokens.weight": table.clone() for stack in ("encoder", "decoder")}
    held["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.randn(8, 4)
    save_file(held, twin.folder / "theirs" / "model.safetensors", metadata={"format": "pt"})
    again, _ = read_folder(twin.folder / "theirs", device="cpu")
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), twin.ours.parameters(), strict=True))
    held["encoder.embed_tokens.weight"][3, 2] += 1
    save_file(held, twin.folder / "theirs" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"encoder\.embed_tokens\.weight.*differs"):
        read_folder(twin.folder / "theirs", device="cpu")


def test_an_early_config_says_by_the_tie_whether_the_head_is_scaled():
    spec = T5.spec(Fields(SMALL | V11, "config.json"))
    assert (spec.tied, spec.head_scale) == (False, None)
    assert T5.spec(Fields(SMALL | V10, "config.json")).head_scale == 24**-0.5
    assert spec.decoder.blocks[0].feed.activation == "gelu_tanh"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("feed_forward_proj", "gated"),
        ("feed_forward_proj", "gated-gated-relu"),
        ("decoder_start_token_id", VOCAB),
        ("decoder_start_token_id", -1),
        ("eos_token_id", "end"),
        ("eos_token_id", []),
        ("is_encoder_decoder", False),
        ("relative_attention_num_buckets", 7),
        ("relative_attention_max_distance", 2),
        ("num_decoder_layers", 0),
    ],
)
def test_a_config_that_cannot_be_is_one_clear_line(field, value):
    fields = Fields(SMALL | {field: value}, "config.json")
    with pytest.raises(BadInput):
        fields.told(lambda: T5.spec(fields))


def test_it_runs_where_there_is_no_memory(make_twin):
    make_twin(**V11).check_meta()


def searching(make_twin: Callable[..., Seq2SeqTwin], seed: int) -> Seq2SeqTwin:
    """A twin whose end is now likely and now not, so that targets end at different lengths."""
    # (transformers cannot generate with more layers in the decoder than in the encoder: its cache is one too short.)
    twin = make_twin(seed, **V11, num_layers=3)
    with torch.no_grad():
        for head in (twin.theirs.lm_head.weight, twin.ours.head.weight):
            head *= 0.8
            head[1] *= 2.2
    return twin


SEARCHES = [
    {"beams": 2, "length_penalty": 1.0, "early": False},
    {"beams": 3, "length_penalty": 2.0, "early": False},
    {"beams": 4, "length_penalty": 0.0, "early": True},
    {"beams": 4, "length_penalty": 0.6, "early": "never"},
    {"beams": 4, "length_penalty": -1.0, "early": False},
    {"beams": 3, "length_penalty": 1.0, "early": True},
]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_written_is_theirs(seed, make_twin):
    twin = searching(make_twin, seed)
    writer, sources = Seq2Seq(twin.ours), [source.tolist() for source in twin.sources]
    answers = writer.generate(sources, max_tokens=12)
    assert [list(answer.tokens) for answer in answers] == twin.their_targets(12, num_beams=1)
    for search in SEARCHES[seed % 2 :: 2]:
        told = {"num_beams": search["beams"], "length_penalty": search["length_penalty"]}
        expected = twin.their_targets(12, **told, early_stopping=search["early"])
        answers = writer.generate(sources, max_tokens=12, **search)
        assert [list(answer.tokens) for answer in answers] == expected, search


def test_the_searches_above_end_in_both_ways(make_twin):
    lengths, reasons = set(), set()
    for seed in range(4):
        twin = searching(make_twin, seed)
        for answer in Seq2Seq(twin.ours).generate([one.tolist() for one in twin.sources], max_tokens=12, beams=3):
            lengths.add(len(answer.tokens))
            reasons.add(answer.finish_reason)
    assert len(lengths) > 3 and reasons == {"stop", "length"}


def test_the_config_of_a_folder_is_kept(make_twin):
    twin = make_twin(**V11)
    write_folder(twin.ours, twin.spec, twin.folder / "ours")
    told = json.loads((twin.folder / "ours" / "config.json").read_text(encoding="utf-8"))
    assert told["architectures"] == ["T5ForConditionalGeneration"] and told["model_type"] == "t5"
    assert (told["tie_word_embeddings"], told["scale_decoder_outputs"]) == (False, False)
