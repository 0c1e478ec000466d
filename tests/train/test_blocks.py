from __future__ import annotations

import torch

from cutaway.recipes.t5_tiny import t5
from cutaway.train.blocks import blocks_of, lists_of_blocks


def test_blocks_are_found_in_order(decoder):
    module = decoder(blocks=3)
    assert blocks_of(module) == list(module.blocks) and lists_of_blocks(module) == [module.blocks]


def test_an_encoder_decoder_has_two_lists():
    with torch.device("meta"):
        module = t5(vocab=8, layers=2, heads=2, dim=8, hidden=8).build()
    assert lists_of_blocks(module) == [module.encoder.blocks, module.decoder.blocks]
    assert len(blocks_of(module)) == 4


def test_what_only_has_the_name_is_none():
    assert blocks_of(torch.nn.ModuleDict({"blocks": torch.nn.Linear(1, 1)})) == []
