"""What can never be answered is refused where it is asked, by its field, and takes nobody's place."""

from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.infer.ask import Ask
from cutaway.infer.constrain import Constraint
from cutaway.infer.decoding import Decoding

from .spoken import VOCAB, ids
from .test_service import asked, serving


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"prompt": ()}, "prompt"),
        ({"prompt": (VOCAB,)}, "prompt"),
        ({"prompt": (1,) * 300}, "prompt"),
        ({"prompt": (1,), "samples": 0}, "samples"),
        ({"prompt": (1,), "samples": 3, "best_of": 2}, "best_of"),
        ({"prompt": (1,), "logprobs": -1}, "logprobs"),
    ],
)
def test_the_impossible_is_refused_at_once(told, field):
    with serving() as service:
        with pytest.raises(BadInput) as caught:
            service.ask(Ask(**told), lambda event: None)
        assert caught.value.field == field
        assert asked(service, prompt=(1,) * 256).tokens().__len__() == 1 and service.longest == 257


@pytest.mark.parametrize("told", [{"forced": ids("ab")}, {"end_forced": True}])
def test_a_decoding_that_says_itself_what_must_be_written_is_refused_at_once(told):
    [field] = told
    with serving() as service:
        for body in ("[ab]+", "x"):
            held = Constraint(kind="regex", body=body)
            with pytest.raises(BadInput) as caught:
                asked(service, prompt=ids("a"), constraint=held, decoding=Decoding(**told))
            assert caught.value.field == field and "so does the constraint" in caught.value.message
        assert service.stats().waiting == 0 and asked(service, prompt=ids("a")).reason() == "length"
