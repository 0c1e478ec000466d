from __future__ import annotations

import pytest
import torch

from cutaway.nn.positions import Rope
from cutaway.ops import rope
from cutaway.weights.architectures.place import Place, halves, pairs, place_of

HEAD = 6


@pytest.mark.parametrize(
    "place",
    [
        Place(name="a"),
        Place(name="a", transposed=True),
        Place(name="a", part=(0, 3)),
        Place(name="a", part=(1, 3), transposed=True),
        Place(name="a", paired=True),
        Place(name="a", added=1.0),
        Place(name="a", lone=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(12, 5), (12,)])
def test_taking_undoes_putting(place, shape):
    ours = [torch.randn(shape, dtype=torch.float64) for _ in range(place.part[1])]
    held = place.put(ours, HEAD)
    assert tuple(held.shape) == place.shape(shape)
    # Adding and taking away 1.0 may round the last bit of a float64.
    torch.testing.assert_close(place.take(held, HEAD), ours[place.part[0]], atol=1e-15, rtol=0)


def test_a_transposed_file_holds_inputs_by_outputs():
    held = torch.arange(6.0).view(2, 3)  # 2 inputs, 3 outputs
    assert torch.equal(Place(name="a", transposed=True).take(held, 1), held.T)
    assert torch.equal(Place(name="a", transposed=True).take(torch.arange(3.0), 1), torch.arange(3.0))


def test_pairs_and_halves():
    assert pairs(12, 6).tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    assert torch.equal(pairs(24, 6)[halves(24, 6)], torch.arange(24))


def test_paired_rows_rotate_as_halves_do():
    """What the order is for: rows in pairs under interleaved rotation are rows in halves under the other."""
    q_NHK = torch.randn(4, 2, HEAD, dtype=torch.float64)
    frequencies, positions = Rope(width=HEAD).frequencies(), torch.arange(4)
    held = q_NHK.flatten(1)[:, pairs(2 * HEAD, HEAD)].unflatten(1, (2, HEAD))
    cos, sin = rope.tables(frequencies, positions, dtype=torch.float64)
    turned = rope.rotate_readable(q_NHK, cos, sin).flatten(1)[:, pairs(2 * HEAD, HEAD)].unflatten(1, (2, HEAD))
    cos, sin = rope.tables(frequencies, positions, dtype=torch.float64, interleaved=True)
    torch.testing.assert_close(rope.rotate_readable(held, cos, sin, interleaved=True), turned, atol=1e-12, rtol=0)


def test_places_by_name():
    names = {"norm": "n", "blocks.*.mixer.query": Place(name="h.*.q", paired=True)}
    assert place_of(names, "norm.weight") == Place(name="n.weight")
    assert place_of(names, "blocks.12.mixer.query.bias") == Place(name="h.12.q.bias", paired=True)
    with pytest.raises(KeyError):
        place_of(names, "blocks.0.mixer.key.weight")


def test_places_behind_two_numbers_and_of_whole_parameters():
    names = {
        "blocks.*.feed.experts.*.gate": "h.*.experts.*.w1",
        "blocks.*.feed.router.bias": "h.*.correction",
        "blocks.*.feed.experts.*.up.weight": Place(name="h.*.stack", part=(1, 2), stacked=True),
    }
    assert place_of(names, "blocks.3.feed.experts.11.gate.weight") == Place(name="h.3.experts.11.w1.weight")
    assert place_of(names, "blocks.3.feed.router.bias") == Place(name="h.3.correction")
    stacked = Place(name="h.3.stack", part=(1, 2), stacked=True, row=11)
    assert place_of(names, "blocks.3.feed.experts.11.up.weight") == stacked


def test_a_stacked_place_takes_its_row_and_part():
    held = torch.arange(3 * 8 * 2.0).view(3, 8, 2)  # 3 experts, gate and up of 4 rows each
    place = Place(name="a", part=(1, 2), stacked=True, row=2)
    assert torch.equal(place.take(held, 1), held[2, 4:])
    assert place.shape((4, 2)) == (8, 2)
