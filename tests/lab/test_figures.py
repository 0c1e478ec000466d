from __future__ import annotations

from xml.etree import ElementTree

import pytest
from rich.cells import cell_len

from cutaway.lab.anatomy import anatomy
from cutaway.lab.figures import LETTER, fit, guess_grid, inner_picture, lens_sections, measure_bars, tree_section
from cutaway.lab.lens import Guess, Layer, Lens, look


def scripted(piece: str) -> Lens:
    guesses = ((Guess(token=1, piece=piece, probability=0.5),),)
    layers = tuple(Layer(block=block, norms=(2.0,), entropies=(), guesses=guesses) for block in range(2))
    return Lens(text="x", tokens=(1,), pieces=(piece,), places=(0,), layers=layers)


@pytest.mark.parametrize("piece", ["Paris", "<script>&", '"', "首都", " ", ""])
def test_pictures_are_well_formed_whatever_the_pieces(piece):
    for picture in (guess_grid(scripted(piece)), inner_picture(scripted(piece))):
        ElementTree.fromstring(picture)


def test_the_grid_has_a_cell_for_every_block_and_place(language):
    lens = look(language, [3, 14, 15, 92], places=3)
    grid = ElementTree.fromstring(guess_grid(lens))
    assert len(grid.findall("g")) == 4 * 3
    opacities = [float(cell.find("rect").get("fill-opacity")) for cell in grid.findall("g")]
    assert opacities[0] == pytest.approx(0.05 + 0.85 * lens.layers[0].guesses[0][0].probability, abs=0.005)
    heads = ElementTree.fromstring(inner_picture(lens)).findall("g")
    assert len(heads) == 4 * 4
    assert [section.title for section in lens_sections(lens)] == [
        "What it would say after each block",
        "Inside, at the last token",
    ]


def test_the_tree_has_every_kind_of_part(spec):
    body = tree_section(anatomy(spec.build()), "decoder", 64).body
    ElementTree.fromstring(body)
    for text in ("blocks.0-1,3", "3 alike", "mixer_norms.before", "nn/attention/grouped.py:", "96×32"):
        assert text in body
    assert (
        body.count("<details") == body.count("</details>") == 1 + 2 + 2 * 2
    )  # root, two kinds of blocks, two parts each


def test_bars_are_as_long_as_their_numbers():
    bars = ElementTree.fromstring(measure_bars([("a", 10.0, "10"), ("b", 5.0, "5"), ("c", 0.0, "none")])).findall(
        "rect"
    )
    widths = [float(one.get("width")) for one in bars]
    assert widths[0] == 2 * widths[1] and widths[2] == 0


@pytest.mark.parametrize("piece", ["a long piece of text", "一二三四五六七八九十"])
def test_a_piece_fits_its_cell(piece):
    assert cell_len(fit(piece, 60)) * LETTER <= 60
    assert fit(" ", 60) == "␣" and fit(" Paris", 60) == " Paris"
