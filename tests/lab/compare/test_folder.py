from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
from filelock import FileLock

from cutaway.base.errors import BadInput
from cutaway.lab.compare.comparison import Cell, Figures, Measured, Table
from cutaway.lab.compare.folder import CARD, CELLS, LOCK, PAGE, Folder, measured


@dataclass(frozen=True, kw_only=True)
class Squares:
    numbers: tuple[int, ...]
    seed: int = 0
    asked: ClassVar[list[int]] = []

    def cells(self) -> tuple[Cell, ...]:
        return tuple(
            Cell(key=f"square {number}", about="", seconds=1.0, measure=lambda number=number: self.square(number))
            for number in self.numbers
        )

    def square(self, number: int) -> Figures:
        self.asked.append(number)
        return {"square": number**2, "root": number**0.5 if number >= 0 else float("nan"), "说": ("平方",)}

    def tables(self, measured: Measured) -> tuple[Table, ...]:
        return ()

    def page(self, measured: Measured) -> str:
        return f"<p>{list(measured)}</p>"


@pytest.fixture(autouse=True)
def fresh():
    Squares.asked.clear()


def run(path, *numbers):
    value = Squares(numbers=numbers)
    return list(measured(value, Folder.begin(path, value)))


def test_a_folder_holds_the_value_and_a_line_for_each_cell(tmp_path):
    made = run(tmp_path / "a", 3, -1)
    assert [(cell.key, fresh) for cell, _, fresh in made] == [("square 3", True), ("square -1", True)]
    assert made[1][1] == {"square": 1, "root": None, "说": ["平方"]}, "what is fresh is what will be read"
    folder = Folder.open(tmp_path / "a")
    assert folder.comparison({"Squares": Squares}) == Squares(numbers=(3, -1))
    assert folder.figures() == {cell.key: figures for cell, figures, _ in made}
    assert (tmp_path / "a" / PAGE).read_text(encoding="utf-8") == "<p>['square 3', 'square -1']</p>"
    assert "平方" in (tmp_path / "a" / CELLS).read_text(encoding="utf-8")


def test_only_what_is_missing_is_measured(tmp_path):
    value = Squares(numbers=(1, 2, 3))
    folder = Folder.begin(tmp_path, value)
    cells = value.cells()
    folder.append(cells[2], cells[2].measure())
    Squares.asked.clear()
    assert [cell.key for cell in folder.missing(value)] == ["square 1", "square 2"]
    for _ in measured(value, folder):
        break  # whoever leaves in the middle
    assert Squares.asked == [1] and not (tmp_path / PAGE).exists()
    assert [fresh for *_, fresh in run(tmp_path, 1, 2, 3)] == [False, True, False]
    assert Squares.asked == [1, 2]
    run(tmp_path / "whole", 1, 2, 3)
    assert (tmp_path / CELLS).read_bytes() == (tmp_path / "whole" / CELLS).read_bytes(), "two folders are alike"


def test_a_torn_last_line_is_measured_again(tmp_path):
    run(tmp_path, 1, 2)
    place = tmp_path / CELLS
    whole = place.read_bytes()
    for cut in (1, 5):
        place.write_bytes(whole[:-cut])
        Squares.asked.clear()
        assert len(run(tmp_path, 1, 2)) == 2 and Squares.asked == [2]
        assert place.read_bytes() == whole
    place.write_bytes(whole[:-5])
    value = Squares(numbers=(1, 2))
    for cell, *_ in measured(value, folder := Folder.begin(tmp_path, value)):
        if cell.key == "square 2":
            break
    assert list(folder.figures()) == ["square 1", "square 2"], "a line does not go on where a torn one ended"
    place.write_bytes(b"no line\n" + whole)
    with pytest.raises(BadInput, match=r"cells\.jsonl: line 1"):
        run(tmp_path, 1, 2)


def test_another_value_is_refused_by_its_first_field(tmp_path):
    run(tmp_path, 1, 2)
    with pytest.raises(BadInput, match=r"numbers\.1: is 2 in what the folder holds, and 5 here") as refused:
        run(tmp_path, 1, 5)
    assert str(tmp_path) in str(refused.value)
    other = tmp_path / "nothing measured yet"
    Folder.begin(other, Squares(numbers=(1,)))
    assert len(run(other, 4)) == 1
    assert json.loads((other / CARD).read_text(encoding="utf-8"))["comparison"]["numbers"] == [4]


def test_a_field_that_came_later_does_not_part_a_folder_from_its_value(tmp_path):
    run(tmp_path, 1)
    card = json.loads((tmp_path / CARD).read_text(encoding="utf-8"))
    del card["comparison"]["seed"]  # has a default, which is what it was before there was the field
    (tmp_path / CARD).write_text(json.dumps(card), encoding="utf-8")
    assert [fresh for *_, fresh in run(tmp_path, 1)] == [False]
    with pytest.raises(BadInput, match="seed: is 0 in what the folder holds, and 5 here"):
        Folder.begin(tmp_path, Squares(numbers=(1,), seed=5))
    card["comparison"] = {"type": "Cubes"}
    (tmp_path / CARD).write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(BadInput, match='type: is "Cubes" in what the folder holds, and "Squares" here'):
        run(tmp_path, 1)


def test_what_is_no_comparison_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInput, match="is not empty"):
        Folder.begin(tmp_path, Squares(numbers=(1,)))
    with pytest.raises(BadInput, match="holds no comparison"):
        Folder.open(tmp_path / "none")
    for text, said in (("[", "cannot be read"), ("{}", "must hold"), ('{"comparison": {}, "format": 99}', "later")):
        (tmp_path / CARD).write_text(text, encoding="utf-8")
        with pytest.raises(BadInput, match=said):
            Folder.open(tmp_path)
    with pytest.raises(BadInput, match='two cells are called "square 7"'):
        run(tmp_path / "twice", 7, 7)


def test_one_process_at_a_time(tmp_path):
    value = Squares(numbers=(1,))
    folder = Folder.begin(tmp_path, value)
    with FileLock(tmp_path / LOCK), pytest.raises(BadInput, match="another process"):
        list(measured(value, folder))


def test_another_machine_is_noticed(tmp_path):
    folder = Folder.begin(tmp_path, Squares(numbers=(1,)), hardware={"cores": 2})
    assert folder.elsewhere({"cores": 2}) is None
    assert folder.elsewhere({"cores": 4}) == "hardware.cores"
