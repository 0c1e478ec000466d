"""What is asked of each side, and what is made of its figures. No side is started."""

from __future__ import annotations

import pytest

from .scripts import script


@pytest.fixture(scope="module")
def decode():
    with script("decode") as module:
        yield module


class Fake:
    """A side that takes a second for a token read and for each written, a tenth longer where it draws."""

    def __init__(self, name: str):
        self.name, self.asked = name, []

    def answer(self, ids, new, drawn=False):
        self.asked.append((len(ids), new, drawn))
        return float(len(ids)), (1.1 if drawn else 1.0) * (new - 1)


def test_a_side_is_asked_for_every_column(decode):
    ids, load = list(range(100)), decode.Load(prompt=50, short=8, new=5, long=100, far=3)
    ours, peer = Fake("kernels"), Fake("llama.cpp")
    assert decode.asked(ours, ids, load) == pytest.approx(
        {decode.DECODE: 1.0, decode.PREFILL: 1.0, decode.LONG: 1.0, decode.DRAWN: 1 / 1.1}
    )
    assert ours.asked == [(8, 5, False), (50, 1, False), (100, 3, False), (8, 5, True)]
    assert set(decode.asked(peer, ids, load)) == {decode.DECODE, decode.PREFILL, decode.LONG}
    plain = Fake("torch")
    decode.asked(plain, ids, decode.Load(prompt=50, short=50, new=5, long=0))
    assert plain.asked == [(50, 5, False), (50, 5, True)]  # the prompt that is timed is the one that is written behind


def test_ratios_are_of_rounds_and_of_the_fastest_peer(decode):
    figures = {
        "kernels": {decode.DECODE: [10.0, 30.0, 30.0], decode.LONG: [6.0, 15.0, 20.0]},
        "a": {decode.DECODE: [5.0, 1.0, 20.0]},
        "b": {decode.DECODE: [1.0, 10.0, 2.0]},
    }
    claim = decode.Claim(side="kernels", column=decode.DECODE, least=2.0, peers=("a", "b", "absent"))
    assert claim.ratio(figures) == 2.0  # of 2, 3, 1.5
    assert decode.own("kernels", decode.LONG, 0.6).ratio(figures) == 0.6  # of 0.6, 0.5, 0.667
    assert decode.own("torch", decode.LONG, 0.6).ratio(figures) is None
    assert decode.Claim(side="kernels", column=decode.DECODE, least=2.0).ratio(figures) is None
    assert decode.shares(figures, [1000.0, 1000.0, 1000.0], 10)["a"] == 0.05


def test_the_table_says_what_holds(decode, monkeypatch):
    monkeypatch.setattr(decode, "weight_bytes", lambda file: 10**9)
    monkeypatch.setattr(decode, "system_info", lambda: "AVX2")
    arguments = decode.read_arguments(["--model", "synthetic-1.5b", "--rounds", "2", "--out", "/a/place", "--work=/b"])
    arguments.file = None
    figures = {
        "kernels": {decode.DECODE: [10.0, 12.0], decode.PREFILL: [100.0, 120.0], decode.DRAWN: [9.0, 11.0]},
        "kernels-int8": {decode.DECODE: [5.0, 4.0], decode.PREFILL: [100.0, 120.0]},
        "llama.cpp": {decode.DECODE: [8.0, 8.0], decode.PREFILL: [10.0, 10.0]},
    }
    text = decode.report(decode.TRIALS["synthetic-1.5b"], figures, [2e10, 2e10], [], arguments)
    assert "| decode: cutaway (kernels) against llama.cpp | 1.38x | 1x |  | holds |" in text
    assert "| decode: cutaway (kernels, int8) against llama.cpp | 0.56x | 1x |  | falls short |" in text
    assert "Of the 20.0 GB/s that memory is read at, decoding reaches: cutaway (kernels) 55%" in text
    assert "`python bench/decode.py --model synthetic-1.5b --rounds 2`" in text  # no place on this machine
    assert "| llama.cpp | 8.0 (8.0 to 8.0) | 10.0 (10.0 to 10.0) |  |" in text


def test_the_first_command_writes_behind_the_prompt_that_it_times(decode):
    assert decode.read_arguments([]).load == decode.Load(prompt=512, short=512, new=128, long=0)
    assert decode.read_arguments(["--prompt", "64"]).load.short == 64
    assert decode.read_arguments(["--model", "smollm2-135m", "--prompt", "64"]).load.short == decode.Load().short
