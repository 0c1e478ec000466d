"""A stub is a whole file: it names what it needs, has no body, and is told so."""

from __future__ import annotations

import ast

import pytest

from cutaway.lab.swap.judge import judge
from cutaway.lab.swap.stub import stub
from cutaway.lab.swap.table import PARTS


@pytest.mark.parametrize("name", PARTS)
def test_a_stub_runs_and_is_not_written_yet(name):
    part, text, room = PARTS[name], stub(PARTS[name]), {}
    exec(compile(text, "mine.py", "exec"), room)
    assert judge(part, room[name.rpartition(".")[2]]).outcome == "not written"
    bodies = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert all(isinstance(node.body[-1], ast.Raise) and len(node.body) <= 2 for node in bodies)


def test_it_keeps_signature_shapes_and_equation():
    text = stub(PARTS["ops.attend"])
    assert "y = softmax(scale * q k^T) v" in text and "q (N, H, K), k (S, G, K)" in text
    assert "scale: float" in text and "cutaway swap ops.attend=./mine.py:attend --check" in text
