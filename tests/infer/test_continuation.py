"""Guesses that are taken back leave no trace."""

from __future__ import annotations

import pytest
import torch

from cutaway.infer.language import Language

from .test_engine import MIXERS, model

TEXT = [3, 1, 4, 1, 5, 9, 2, 6]


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("mixer", MIXERS)
def test_what_is_taken_back_was_never_there(mixer, count):
    language = Language(model(*MIXERS[mixer]).double())
    one, other = language.continuation(), language.continuation()
    with torch.no_grad():
        one.feed(one.rewind(TEXT, room=40))
        logits_XV = one.attempt([5], [7, 8, 2])
        again = one.back(3 - count)
        kept = [*TEXT, 5, *[7, 8, 2][:count]]
        assert [*one.ids, *again] == kept and (not again or one.stateful)
        one.cache.check()
        other.feed(other.rewind(kept, room=40))
        # float64; several tokens in a pass are summed in another order.
        assert torch.allclose(one.feed([*again, 6]), other.feed([6]), rtol=0, atol=1e-10)
        other = language.continuation()
        other.feed(other.rewind(TEXT, room=40))
        expected = torch.stack([other.feed([id]) for id in (5, 7, 8, 2)])
    assert torch.allclose(logits_XV, expected, rtol=0, atol=1e-10)
