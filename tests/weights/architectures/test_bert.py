"""Twins of BERT, in each form that a checkpoint may have: hidden states, pooled vectors, scores, gradients, folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.models.classifier import SequenceClassifier, TokenClassifier
from cutaway.models.encoder import EncoderModel
from cutaway.models.masked_head import MaskedHead
from cutaway.nn.context import Context
from cutaway.ops.forms import FAST, READABLE
from cutaway.weights.huggingface import read_folder
from cutaway.weights.saving import write_folder

from .conftest import CLOSE, randomise

VOCAB, LENGTHS = 67, (7, 1, 13, 4, 4, 13)
TOKENS = sum(LENGTHS)
SMALL = {"vocab_size": VOCAB, "hidden_size": 24, "num_attention_heads": 3, "max_position_embeddings": 16}
CONFIGS = {
    "gelu": SMALL | {"num_hidden_layers": 3, "intermediate_size": 40},
    "relu": SMALL | {"num_hidden_layers": 1, "intermediate_size": 96, "hidden_act": "relu", "layer_norm_eps": 0.1},
    "tanh": SMALL | {"num_hidden_layers": 2, "intermediate_size": 8, "hidden_act": "gelu_new", "type_vocab_size": 3},
}
KINDS = ("BertModel", "BertForMaskedLM", "BertForSequenceClassification", "BertForTokenClassification")
HEADS = (type(None), MaskedHead, SequenceClassifier, TokenClassifier)


def make(kind: str, config: dict[str, Any], folder: Path) -> tuple[Any, EncoderModel]:
    """Theirs with random numbers, and ours read from the folder that they wrote."""
    torch.manual_seed(5)
    theirs = getattr(transformers, kind)(transformers.BertConfig(**config, num_labels=5)).eval()
    randomise(theirs)
    theirs.save_pretrained(folder)
    ours, _ = read_folder(folder, device="cpu")
    assert isinstance(ours, EncoderModel)
    return theirs, ours


def ragged(kinds: int) -> tuple[Tensor, Tensor]:
    """Ids and token types of all sequences, end to end."""
    draw = torch.Generator().manual_seed(1)
    return torch.randint(VOCAB, (TOKENS,), generator=draw), torch.randint(kinds, (TOKENS,), generator=draw)


def asked(theirs: Any, ids_N: Tensor, kinds_N: Tensor | None) -> dict[str, Tensor]:
    """Theirs on the padded and masked rectangle, cut back to flat rows where it has rows for tokens."""
    longest = max(LENGTHS)
    mask_BT = torch.arange(longest) < torch.tensor(LENGTHS)[:, None]
    ids_BT, kinds_BT = torch.zeros_like(mask_BT, dtype=torch.long), torch.zeros_like(mask_BT, dtype=torch.long)
    ids_BT[mask_BT] = ids_N
    told = {"input_ids": ids_BT, "attention_mask": mask_BT.long()}
    if kinds_N is not None:
        kinds_BT[mask_BT] = kinds_N
        told["token_type_ids"] = kinds_BT
    found = theirs(**told)
    return {
        name: value[mask_BT] if value.ndim == 3 else value for name, value in found.items() if isinstance(value, Tensor)
    }


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("forms", [FAST, READABLE], ids=["fast", "readable"])
@torch.no_grad()
def test_hidden_states_and_pooled_vectors(config, forms, tmp_path):
    theirs, ours = make("BertModel", config, tmp_path)
    ids_N, kinds_N = ragged(config.get("type_vocab_size", 2))
    for kinds in (None, kinds_N):
        context = Context.of(LENGTHS, causal=False, forms=forms)
        x_ND, report = ours(ids_N, context, kinds_N=kinds)
        expected = asked(theirs, ids_N, kinds)
        assert report == {} and expected["last_hidden_state"].std() > 0.3
        torch.testing.assert_close(x_ND, expected["last_hidden_state"], **CLOSE)
        torch.testing.assert_close(ours.pooled(x_ND, context), expected["pooler_output"], **CLOSE)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize(("kind", "head"), list(zip(KINDS, HEADS, strict=True))[1:])
def test_scores_and_gradients(config, kind, head, tmp_path):
    theirs, ours = make(kind, config, tmp_path)
    assert isinstance(ours.spec.head, head)
    ids_N, kinds_N = ragged(config.get("type_vocab_size", 2))
    scores, _ = ours(ids_N, Context.of(LENGTHS, causal=False), kinds_N=kinds_N)
    expected = asked(theirs, ids_N, kinds_N)["logits"]
    assert scores.shape == expected.shape == ((len(LENGTHS), 5) if head is SequenceClassifier else scores.shape)
    assert expected.std() > 0.3, "scores this flat would hide mistakes"
    torch.testing.assert_close(scores, expected, **CLOSE)

    weights = torch.randn(scores.shape, generator=torch.Generator().manual_seed(2))
    (scores * weights).sum().backward()
    (expected * weights).sum().backward()
    named = dict(theirs.named_parameters())
    pairs = {
        "embedding.weight": "bert.embeddings.word_embeddings.weight",
        "kinds.weight": "bert.embeddings.token_type_embeddings.weight",
        "positions.weight": "bert.embeddings.position_embeddings.weight",
        "embedding_norm.weight": "bert.embeddings.LayerNorm.weight",
        "blocks.0.mixer.query.weight": "bert.encoder.layer.0.attention.self.query.weight",
        "blocks.0.mixer_norms.outside.bias": "bert.encoder.layer.0.attention.output.LayerNorm.bias",
        "blocks.0.feed.down.weight": "bert.encoder.layer.0.output.dense.weight",
    }
    pairs |= {"head.bias": "cls.predictions.bias"} if head is MaskedHead else {"head.out.weight": "classifier.weight"}
    for name, their_name in pairs.items():
        gradient = ours.get_parameter(name).grad
        assert gradient is not None and bool(gradient.any()), name
        # Sums over all tokens, of sizes up to 100: float32 keeps 7 digits of the largest, not of each.
        close = {"atol": 2e-6 * float(gradient.abs().max()) + 2e-5, "rtol": 1e-4}
        torch.testing.assert_close(gradient, named[their_name].grad, **close)


@torch.no_grad()
def test_scores_of_the_rows_asked_for(tmp_path):
    _, ours = make("BertForMaskedLM", CONFIGS["gelu"], tmp_path)
    ids_N, _ = ragged(2)
    rows_X = torch.tensor([0, 9, TOKENS - 1])
    context = Context.of(LENGTHS, causal=False)
    torch.testing.assert_close(ours(ids_N, context, rows_X)[0], ours(ids_N, context)[0][rows_X], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_what_we_write_transformers_loads(kind, tmp_path):
    theirs, ours = make(kind, CONFIGS["gelu"], tmp_path / "theirs")
    write_folder(ours, ours.spec, tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["architectures"]) == ("bert", [kind])
    written = load_file(tmp_path / "ours" / "model.safetensors")
    assert written.keys() == load_file(tmp_path / "theirs" / "model.safetensors").keys()
    back, told = getattr(transformers, kind).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    was = theirs.state_dict()
    assert all(torch.equal(tensor, was[name]) for name, tensor in back.state_dict().items())
    again, spec = read_folder(tmp_path / "ours", device="cpu")
    assert spec == ours.spec
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), ours.parameters(), strict=True))
    ids_N, kinds_N = ragged(2)
    with torch.no_grad():
        expected = next(iter(asked(back.eval(), ids_N, kinds_N).values()))
        got, _ = ours(ids_N, Context.of(LENGTHS, causal=False), kinds_N=kinds_N)
    torch.testing.assert_close(got, expected, **CLOSE)


def change(folder: Path, **fields: Any) -> None:
    data = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(data | fields), encoding="utf-8")


def test_a_trunk_is_read_from_what_was_saved_with_a_head_and_one_without_its_pooler(tmp_path):
    _, whole = make("BertForMaskedLM", CONFIGS["gelu"], tmp_path)
    change(tmp_path, architectures=["BertModel"])
    trunk, spec = read_folder(tmp_path, device="cpu")
    assert spec.head is None and spec.pooler is None
    ids_N, _ = ragged(2)
    context = Context.of(LENGTHS, causal=False)
    with torch.no_grad():
        assert torch.equal(trunk(ids_N, context)[0], whole.hidden(ids_N, context)[0])
    write_folder(trunk, spec, tmp_path / "bare")
    assert read_folder(tmp_path / "bare", device="cpu")[1] == spec
    with pytest.raises(BadInput, match=r"Encoder\.pooler"):
        trunk.pooled(trunk.hidden(ids_N, context)[0], context)


def test_checkpoints_of_the_first_years(tmp_path):
    """gamma and beta, a pooler and a head for next sentences beside the masked one, and both tied tensors once more."""
    _, ours = make("BertForPreTraining", CONFIGS["gelu"], tmp_path)
    assert isinstance(ours.spec.head, MaskedHead) and ours.spec.pooler is None
    ids_N, _ = ragged(2)
    context = Context.of(LENGTHS, causal=False)
    with torch.no_grad():
        expected, _ = ours(ids_N, context)
    held = load_file(tmp_path / "model.safetensors")
    held["cls.predictions.decoder.weight"] = held["bert.embeddings.word_embeddings.weight"].clone()
    held["cls.predictions.decoder.bias"] = held["cls.predictions.bias"].clone()
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, tensor in held.items():
        end = next((end for end in old if name.endswith(end)), None)
        renamed[name if end is None else name.removesuffix(end) + old[end]] = tensor
    assert "bert.embeddings.LayerNorm.gamma" in renamed
    save_file(renamed, tmp_path / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(read_folder(tmp_path, device="cpu")[0](ids_N, context)[0], expected)
    save_file(renamed | {"cls.predictions.decoder.bias": torch.ones(VOCAB)}, tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match=r"cls.predictions.decoder.bias: differs from cls.predictions.bias"):
        read_folder(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architectures": ["BertForQuestionAnswering"]}, r"architectures: .* \(known: BertModel, BertForMaskedLM"),
        ({"is_decoder": True}, "is_decoder: a BERT that generates"),
        ({"position_embedding_type": "relative_key"}, 'position_embedding_type: only "absolute"'),
        ({"tie_word_embeddings": False}, "tie_word_embeddings: a masked-language head with a table of its own"),
        ({"num_attention_heads": 5}, "num_attention_heads: 5 heads do not divide hidden_size 24"),
        ({"hidden_act": "mish"}, 'hidden_act: "mish" is not known here'),
        ({"type_vocab_size": 0}, "type_vocab_size: must be from 1"),
        ({"vocab_size": 66}, r"asks for \(66, 24\)"),
    ],
)
def test_a_config_that_cannot_be(fields, message, tmp_path):
    make("BertModel", CONFIGS["gelu"], tmp_path)
    change(tmp_path, **fields)
    with pytest.raises(BadInput, match=message):
        read_folder(tmp_path, device="cpu")
