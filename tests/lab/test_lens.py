from __future__ import annotations

import math

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.infer.language import Language
from cutaway.lab.lens import Guess, Layer, Lens, look
from cutaway.nn.context import Context

IDS = [3, 14, 15, 92, 65, 35]


def test_the_last_guess_is_the_models_own(language):
    lens = look(language, IDS, places=len(IDS), top=5)
    with torch.inference_mode():
        logits_NV, _ = language.module(torch.tensor(IDS), Context.of((len(IDS),)))
    for place in range(len(IDS)):
        best = logits_NV[place].softmax(-1).topk(5)
        assert [guess.token for guess in lens.layers[-1].guesses[place]] == best.indices.tolist()
        # The same sums in the same order, but logits of one block's rows at a time: float32 may round otherwise.
        assert torch.allclose(
            torch.tensor([g.probability for g in lens.layers[-1].guesses[place]]), best.values, atol=1e-6
        )


def test_early_guesses_are_of_the_model_cut_short(language, spec):
    from dataclasses import replace

    short = replace(spec, blocks=spec.blocks[:2]).build().eval()
    short.load_state_dict(language.module.state_dict(), strict=False)
    with torch.inference_mode():
        logits_NV, _ = short(torch.tensor(IDS), Context.of((len(IDS),)))
    lens = look(language, IDS)
    assert lens.layers[1].guesses[0][0].token == int(logits_NV[-1].argmax())


def test_norms_and_entropies_are_of_the_last_places(language):
    whole, last = look(language, IDS, places=6), look(language, IDS, places=2)
    assert last.places == (4, 5) and len(last.pieces) == 6
    for one, other in zip(whole.layers, last.layers, strict=True):
        assert one.norms[-2:] == pytest.approx(other.norms) and min(other.norms) > 0
        assert len(other.entropies) == 2 and len(other.entropies[0]) == 4
        assert one.entropies[0] == (0.0,) * 4  # the first token sees itself alone
        assert all(0 <= share <= 1 for share in whole.share(one, 5))
    assert whole.share(whole.layers[2], 5)[0] == pytest.approx(whole.layers[2].entropies[5][0] / math.log(6))


def test_more_places_than_tokens_are_all_of_them(language):
    assert look(language, IDS[:2], places=9).places == (0, 1)


def test_nothing_and_nan_are_refused(language):
    with pytest.raises(BadInput, match="nothing to look at"):
        look(language, [])
    with torch.no_grad():
        language.module.blocks[1].feed.down.weight.fill_(math.nan)
    with pytest.raises(BadInput, match=r"blocks\.1\.feed\.down|block 1 gives numbers that are not finite"):
        look(language, IDS)


def test_where_it_makes_up_its_mind():
    def layer(block: int, token: int) -> Layer:
        return Layer(
            block=block, norms=(1.0,), entropies=(), guesses=((Guess(token=token, piece="", probability=0.5),),)
        )

    def lens(*tokens: int) -> Lens:
        return Lens(
            text="x", tokens=(1,), pieces=("x",), places=(0,), layers=tuple(layer(b, t) for b, t in enumerate(tokens))
        )

    assert lens(7, 9, 5, 9, 9).first_right(0) == 3
    assert lens(9, 9).first_right(0) == 0
    assert lens(1, 2, 3).first_right(0) == 2


def test_pieces_without_a_tokenizer_are_ids(language):
    lens = look(language, IDS)
    assert lens.pieces[0] == "#3"
    assert lens.layers[0].guesses[0][0].piece.startswith("#")


def test_an_encoder_guesses_nothing(encoder):
    with pytest.raises(BadInput, match="an encoder makes none"):
        look(Language(encoder.build()), [1, 2, 3])
