"""Twins: tiny Marians of transformers with random weights, saved by it and read by us, and the other way round."""

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

import cutaway
from cutaway.base.errors import BadInput
from cutaway.infer.seq2seq import Seq2Seq
from cutaway.ops.forms import READABLE
from cutaway.weights.architectures.marian import MARIAN
from cutaway.weights.architectures.table import home_of
from cutaway.weights.fields import Fields
from cutaway.weights.huggingface import read_folder
from cutaway.weights.saving import write_folder

from .seq2seq_twin import Seq2SeqTwin

transformers.utils.logging.disable_progress_bar()

VOCAB, END, PAD = 61, 0, 60
ENDS = range(0, 50, 5)
SOURCES, TARGETS = (9, 1, 14, 5), (6, 11, 1, 8)
SMALL = {
    "vocab_size": VOCAB,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 32,
    "activation_function": "swish",
    "scale_embedding": True,
    "decoder_start_token_id": PAD,
    "pad_token_id": PAD,
    "eos_token_id": END,
    "forced_eos_token_id": None,
}
OPTIONS = {
    "as published": {},
    "relu": {"activation_function": "relu"},
    "not scaled": {"scale_embedding": False},
    "sides of different sizes": {"encoder_attention_heads": 2, "decoder_ffn_dim": 28, "decoder_layers": 1},
}
# Both work in float32 on logits of about 1 to 10, in four layers of width 24, and add up in different orders. Waves
# in the other layout, or sums without their norms, move logits by 1e-1 and more.
CLOSE = {"atol": 3e-5, "rtol": 3e-5}


def randomise(model: torch.nn.Module) -> None:
    """Numbers large enough that every part shows in the logits, the bias of the logits included."""
    for name, parameter in model.named_parameters():
        if "embed_positions" in name:
            continue
        noise = torch.randn_like(parameter)
        if "shared" in name:
            parameter.data = 0.3 * noise
        elif parameter.ndim == 2:
            parameter.data = noise * 1.2 / max(parameter.shape) ** 0.5
        else:
            # Norms of both signs: else a tied head says each token again and again.
            parameter.data = 0.3 * noise if name.endswith("bias") else noise.sign() + 0.3 * noise
    model.final_logits_bias.normal_(std=0.5)


@pytest.fixture
def make_twin(tmp_path: Path) -> Callable[..., Seq2SeqTwin]:
    def make(seed: int = 5, **options: Any) -> Seq2SeqTwin:
        torch.manual_seed(seed)
        theirs = transformers.MarianMTModel(transformers.MarianConfig(**(SMALL | options))).eval()
        randomise(theirs)
        theirs.save_pretrained(tmp_path / "theirs")
        ours, spec = read_folder(tmp_path / "theirs", device="cpu")
        sources = [torch.cat([torch.randint(1, PAD, (n - 1,)), torch.tensor([END])]) for n in SOURCES]
        targets = [torch.cat([torch.tensor([PAD]), torch.randint(1, PAD, (n - 1,))]) for n in TARGETS]
        return Seq2SeqTwin(
            theirs=theirs, ours=ours, spec=spec, folder=tmp_path, sources=sources, targets=targets, padding=PAD
        )

    return make


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin):
    twin = make_twin(**options)
    expected = twin.expected()
    assert expected.std() > 0.3, "logits this flat would hide mistakes"
    torch.testing.assert_close(twin.full(), expected, **CLOSE)
    torch.testing.assert_close(twin.full(READABLE), expected, **CLOSE)
    torch.testing.assert_close(twin.cached(), expected, **CLOSE)
    assert twin.spec.head_bias and bool(twin.ours.bias.any())


def theirs_again(folder: Path) -> Any:
    theirs, told = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    return theirs.eval()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_what_we_write_is_read_as_the_same_model(options, make_twin):
    twin = make_twin(**options)
    write_folder(twin.ours, twin.spec, twin.folder / "ours")
    again, spec = read_folder(twin.folder / "ours", device="cpu")
    assert spec == twin.spec
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), twin.ours.parameters(), strict=True))
    theirs = theirs_again(twin.folder / "ours")
    back = replace(twin, theirs=theirs)
    torch.testing.assert_close(back.expected(), twin.expected(), **CLOSE)
    assert (theirs.config.decoder_start_token_id, theirs.config.eos_token_id) == (PAD, END)
    assert theirs.config.forced_eos_token_id is None


def test_a_model_without_a_bias_of_its_logits_is_written_without(make_twin):
    twin = make_twin()
    spec = replace(twin.spec, head_bias=False)
    bare = spec.build().eval()
    bare.load_state_dict({name: held for name, held in twin.ours.state_dict().items() if name != "bias"})
    write_folder(bare, spec, twin.folder / "ours")
    assert "final_logits_bias" not in load_file(twin.folder / "ours" / "model.safetensors")
    assert read_folder(twin.folder / "ours", device="cpu")[1] == spec
    back = replace(twin, theirs=theirs_again(twin.folder / "ours"), ours=bare)
    torch.testing.assert_close(back.expected(), back.full(), **CLOSE)
    torch.testing.assert_close(back.full(), twin.full() - twin.ours.bias, **CLOSE)


def test_an_old_checkpoint_with_its_surplus_is_read(make_twin):
    """As the first programs wrote them: the table four times, and the waves as tables."""
    twin = make_twin()
    path = twin.folder / "theirs" / "model.safetensors"
    held = load_file(path)
    names = [f"model.{stack}.embed_tokens.weight" for stack in ("encoder", "decoder")] + ["lm_head.weight"]
    held |= {name: held["model.shared.weight"].clone() for name in names}
    held |= {f"model.{stack}.embed_positions.weight": torch.randn(32, 24) for stack in ("encoder", "decoder")}
    save_file(held, path, metadata={"format": "pt"})
    again, _ = read_folder(twin.folder / "theirs", device="cpu")
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), twin.ours.parameters(), strict=True))
    for name in names:
        wrong = held | {name: held[name] + 1}
        save_file(wrong, path, metadata={"format": "pt"})
        with pytest.raises(BadInput, match=name.replace(".", r"\.") + ".*differs"):
            read_folder(twin.folder / "theirs", device="cpu")


def test_a_folder_with_marians_own_tokenizer_is_loaded_to_be_asked_by_ids(make_twin):
    twin = make_twin()
    (twin.folder / "theirs" / "vocab.json").write_text('{"</s>": 0, "a": 1}', encoding="utf-8")
    (twin.folder / "theirs" / "source.spm").write_bytes(b"pieces")
    writer = cutaway.load(twin.folder / "theirs", device="cpu")
    assert writer.generate([5, 6, END], max_tokens=4).tokens and writer.tokenizer is None
    with pytest.raises(BadInput, match="without a tokenizer: give ids"):
        writer.generate("a")


def test_the_trunk_alone_is_read_without_a_bias(make_twin):
    twin = make_twin()
    twin.theirs.model.save_pretrained(twin.folder / "trunk")
    ours, spec = read_folder(twin.folder / "trunk", device="cpu")
    assert spec == replace(twin.spec, head_bias=False)
    torch.testing.assert_close(replace(twin, ours=ours).full() + twin.ours.bias, twin.full(), **CLOSE)


def test_what_is_written_is_theirs(make_twin):
    lengths = set()
    for seed in range(3):
        twin = make_twin(seed, eos_token_id=list(ENDS))  # many ends, so that targets differ in length
        writer, sources = Seq2Seq(twin.ours), [source.tolist() for source in twin.sources]
        for beams, penalty in ((1, 1.0), (3, 1.0), (4, 0.6)):
            told = {"num_beams": beams} if beams == 1 else {"num_beams": beams, "length_penalty": penalty}
            answers = writer.generate(sources, max_tokens=12, beams=beams, length_penalty=penalty)
            assert [list(answer.tokens) for answer in answers] == twin.their_targets(12, **told), (seed, beams)
            lengths |= {len(answer.tokens) for answer in answers}
    assert len(lengths) > 3, "targets that all end alike would hide mistakes"


def test_what_is_forbidden_is_never_written(make_twin):
    twin = make_twin()
    config = twin.folder / "theirs" / "config.json"
    with torch.no_grad():  # the likeliest of all, and forbidden
        twin.ours.bias[PAD] += 30
        twin.theirs.final_logits_bias[0, PAD] += 30
    assert set(Seq2Seq(twin.ours).generate(twin.sources[0].tolist(), max_tokens=5).tokens) == {PAD}
    told = json.loads(config.read_text(encoding="utf-8")) | {"bad_words_ids": [[PAD], [7]]}
    config.write_text(json.dumps(told), encoding="utf-8")
    ours = read_folder(twin.folder / "theirs", device="cpu")[0]
    assert ours.spec.never == (PAD, 7)
    ours.load_state_dict(twin.ours.state_dict())
    for beams in (1, 3):
        answers = Seq2Seq(ours).generate([source.tolist() for source in twin.sources], max_tokens=8, beams=beams)
        expected = twin.their_targets(8, num_beams=beams, bad_words_ids=told["bad_words_ids"])
        assert [list(answer.tokens) for answer in answers] == expected
        assert not {PAD, 7} & {token for one in expected for token in one}


PUBLISHED = {  # the fields of opus-mt-en-de's config.json that say something
    "activation_dropout": 0.0,
    "activation_function": "swish",
    "add_bias_logits": False,
    "add_final_layer_norm": False,
    "architectures": ["MarianMTModel"],
    "attention_dropout": 0.0,
    "bad_words_ids": [[58100]],
    "bos_token_id": 0,
    "d_model": 512,
    "decoder_attention_heads": 8,
    "decoder_ffn_dim": 2048,
    "decoder_layers": 6,
    "decoder_start_token_id": 58100,
    "dropout": 0.1,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "encoder_layers": 6,
    "eos_token_id": 0,
    "extra_pos_embeddings": 58101,
    "is_encoder_decoder": True,
    "max_length": 512,
    "max_position_embeddings": 512,
    "model_type": "marian",
    "normalize_before": False,
    "normalize_embedding": False,
    "num_beams": 6,
    "num_hidden_layers": 6,
    "pad_token_id": 58100,
    "scale_embedding": True,
    "static_position_embeddings": True,
    "vocab_size": 58101,
}


def test_a_published_config_is_read():
    spec = MARIAN.spec(Fields(PUBLISHED, "config.json"))
    assert (spec.vocab, spec.dim, spec.start, spec.ends, spec.never) == (58101, 512, 58100, (0,), (58100,))
    assert len(spec.encoder.blocks) == len(spec.decoder.blocks) == 6 and spec.encoder.length == 512
    architecture, config = home_of(spec)
    assert architecture is MARIAN and json.loads(json.dumps(config)) == config
    # 58,101 x 512, six times 3,152,384 and six times 4,204,032, and the bias: what opus-mt-en-de has without its waves.
    assert spec.cost(1, 1).parameters == 58101 * 513 + 6 * (3152384 + 4204032)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("normalize_before", True),
        ("normalize_embedding", True),
        ("add_final_layer_norm", True),
        ("static_position_embeddings", False),
        ("share_encoder_decoder_embeddings", False),
        ("tie_word_embeddings", False),
        ("is_encoder_decoder", False),
        ("decoder_vocab_size", VOCAB + 1),
        ("activation_function", "softsign"),
        ("encoder_attention_heads", 5),
        ("d_model", 25),
        ("decoder_start_token_id", VOCAB),
        ("eos_token_id", []),
        ("bad_words_ids", [[3, 4]]),
        ("bad_words_ids", [[VOCAB]]),
        ("bad_words_ids", 7),
        ("scale_embedding", "yes"),
        ("decoder_layers", 0),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(field, value):
    fields = Fields(SMALL | {field: value}, "config.json")
    with pytest.raises(BadInput) as refusal:
        fields.told(lambda: MARIAN.spec(fields))
    assert refusal.value.field == field and refusal.value.source == "config.json"


def test_waves_side_by_side_have_no_home():
    spec = MARIAN.spec(Fields(SMALL, "config.json"))
    beside = replace(spec.encoder.positions, interleaved=True)
    with pytest.raises(BadInput, match="no architecture"):
        home_of(replace(spec, encoder=replace(spec.encoder, positions=beside)))


def test_it_runs_where_there_is_no_memory(make_twin):
    make_twin().check_meta()
