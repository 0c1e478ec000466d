"""A model of random numbers is a file like any other, to us and to llama.cpp."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import cutaway
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS

FOLDER = Path(__file__).resolve().parents[3] / "bench"
SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module")
def sides():
    """The modules of bench/sides, as the scripts beside them import them."""
    sys.path.insert(0, str(FOLDER))
    from sides import answering, synthetic

    yield answering, synthetic
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def file(sides, tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic") / "small.gguf"
    sides[1].write_synthetic(path, SIZES)
    return path


def test_it_is_a_model_whose_weights_are_as_large_as_they_are_begun_with(file):
    language = cutaway.load(file)
    assert language.tokenizer is None and language.spec.vocab == 320 and len(language.spec.blocks) == 2
    logits_BTV = language(torch.tensor([[1, 2, 3]]))
    assert logits_BTV.shape == (1, 3, 320) and bool(logits_BTV.isfinite().all())
    table = language.module.embedding.packed
    assert table.format.name == "q8_0"
    for packed in (table, language.module.blocks[1].feed.down.packed):
        weights = dequantise(packed.blocks, FORMATS[packed.format.name])
        assert float(weights.std()) == pytest.approx(0.02, rel=0.05)  # 6,144 draws at least: 1% is one deviation
    norms = language.module.norm.weight.detach()
    assert float((norms - 1).abs().mean()) == pytest.approx(0.08, rel=0.5)


def test_the_same_seed_is_the_same_file(sides, file, tmp_path):
    again, other = tmp_path / "small.gguf", tmp_path / "other" / "small.gguf"
    other.parent.mkdir()
    sides[1].write_synthetic(again, SIZES)
    sides[1].write_synthetic(other, SIZES, seed=1)
    first, second, third = (hashlib.sha256(path.read_bytes()).digest() for path in (file, again, other))
    assert first == second != third


def test_llama_cpp_reads_the_same_numbers(file):
    c = pytest.importorskip("llama_cpp")
    ids = [1, 7, 42, 300, 5]
    c.llama_backend_init()
    model = c.llama_model_load_from_file(str(file).encode(), c.llama_model_default_params())
    told = c.llama_context_default_params()
    told.n_ctx, told.n_threads, told.n_threads_batch = 256, 1, 1
    context = c.llama_init_from_model(model, told)
    held = (c.llama_token * len(ids))(*ids)  # a batch points to its tokens, and keeps nothing alive
    assert c.llama_decode(context, c.llama_batch_get_one(held, len(ids))) == 0
    theirs_V = np.ctypeslib.as_array(c.llama_get_logits_ith(context, -1), (320,)).copy()
    c.llama_free(context)
    c.llama_model_free(model)
    ours_V = cutaway.load(file)(torch.tensor([ids]))[0, -1].detach().numpy()
    # It rounds activations to 8 bits: parts in a hundred of logits of this size.
    assert np.abs(theirs_V - ours_V).max() < 0.05 * np.abs(ours_V).max()


def test_a_side_answers_from_it_in_its_own_process(sides, file, tmp_path):
    with sides[0].Side("torch", file, 1, tmp_path / "log", cpu=True) as side:
        first, more = side.answer([1, 2, 3], 4), side.answer([1, 2, 3], 1)
        drawn = side.answer([1, 2, 3], 4, True)
    assert all(seconds > 0 for seconds in (*first, more[0], *drawn)) and more[1] == 0
    assert side.process.returncode == 0


def test_a_side_that_cannot_start_names_its_log(sides, tmp_path):
    log = tmp_path / "log"
    with pytest.raises(SystemExit, match=r"torch did not start; see .*log"):
        sides[0].Side("torch", tmp_path / "none.gguf", 1, log)
    assert "none.gguf" in log.read_text(encoding="utf-8")
