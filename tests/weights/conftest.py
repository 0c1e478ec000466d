from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.weights.saving import write_folder

NORM = RMSNorm(eps=1e-5)


@pytest.fixture(scope="session")
def tiny() -> Decoder:
    """A Llama of two layers; its checkpoint has 20 tensors of 21,000 numbers in all."""
    mixer = GroupedQuery(heads=4, kv_heads=2, head_dim=8, rope=Rope(width=8))
    block = Block(mixer=mixer, feed=Gated(hidden=48), before=NORM)
    return Decoder(vocab=61, dim=32, blocks=(block, block), length=64, norm=NORM)


@pytest.fixture
def tiny_folder(tiny: Decoder, tmp_path: Path) -> Path:
    """A folder with the tiny model's config.json and model.safetensors, nothing else."""
    torch.manual_seed(3)
    folder = tmp_path / "tiny"
    write_folder(tiny.build().eval(), tiny, folder)
    return folder
