"""However many processes count, and whatever becomes of them, the counts are those of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from itertools import repeat

import pytest

from cutaway.base.errors import BadInput
from cutaway.text import word_counts
from cutaway.text.patterns import CUTS
from cutaway.text.word_counts import Crew, counted

TEXT = "It's 12345 o'clock,\n\n  said 你好，世界！\nthe White Rabbit;\r\n" * 400


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(word_counts, "CHUNK", 3000)


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_two_processes_count_what_one_counts(cut, small_chunks):
    texts = [TEXT, "a", "", TEXT[:9999], "b" * 9000, "Zoë " * 3000]
    expected = Counter(piece.encode("utf-8") for text in texts for piece in cut.pieces(text))
    assert counted(texts, cut, 1) == expected
    assert counted(iter(texts), cut, 2) == expected


def test_a_little_text_starts_no_process(monkeypatch):
    monkeypatch.setattr(word_counts, "_worker", lambda cut: pytest.fail("a process was started"))
    assert counted(["a a"], CUTS["gpt-2"], 2) == {b"a": 1, b" a": 1}
    assert counted([], CUTS["gpt-2"], 2) == {}


def no_process(cut):
    return None


def dying(cut):
    return subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def babbling(cut):
    command = [sys.executable, "-c", "print('x' * 100)"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.parametrize("start", [no_process, dying, babbling])
def test_a_worker_that_is_lost_changes_nothing(start, small_chunks, monkeypatch):
    monkeypatch.setattr(word_counts, "_worker", start)
    assert counted([TEXT], CUTS["gpt-2"], 2) == counted([TEXT], CUTS["gpt-2"], 1)


def test_an_error_in_the_corpus_ends_the_workers(small_chunks, monkeypatch):
    started = []
    original = word_counts._worker
    monkeypatch.setattr(word_counts, "_worker", lambda cut: started.append(original(cut)) or started[-1])

    def texts():
        yield from repeat(TEXT, 8)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        counted(texts(), CUTS["gpt-2"], 2)
    assert len(started) == 2
    assert all(worker.returncode is not None for worker in started)


def test_a_thread_that_fails_is_heard_of(small_chunks, monkeypatch):
    """And does not leave the one who feeds it waiting."""
    monkeypatch.setattr(word_counts, "_worker", no_process)
    monkeypatch.setattr(word_counts, "_count", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
    for texts in (repeat(TEXT, 4), repeat(TEXT)):
        with pytest.raises(MemoryError, match="no room"):
            counted(texts, CUTS["gpt-2"], 2)


def test_leaving_a_crew_early_ends_everything():
    crew = Crew(CUTS["gpt-2"], 2, Counter())
    with pytest.raises(KeyboardInterrupt), crew:
        for _ in range(3):
            crew.give([TEXT])
        raise KeyboardInterrupt
    assert all(worker.returncode is not None for worker in crew._workers)
    assert not any(thread.is_alive() for thread in crew._threads)


def test_a_worker_ends_when_its_input_does():
    """So none is left when the process that started it is killed."""
    worker = word_counts._worker(CUTS["gpt-4"])
    assert worker is not None and worker.stdin is not None and worker.stdout is not None
    assert word_counts._asked(worker, ["a b", "a"]) == {"a": 2, " b": 1}
    worker.stdin.close()
    assert worker.wait(timeout=60) == 0
    worker.stdout.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent with a POSIX signal")
def test_a_worker_leaves_interrupts_to_the_one_who_started_it():
    """A program that takes Ctrl-C as a wish to finish keeps its workers."""
    with Crew(CUTS["gpt-2"], 1, Counter()) as crew:
        crew.give(["a"])
        crew.finish()
        worker = crew._workers[0]
        worker.send_signal(signal.SIGINT)
        assert word_counts._asked(worker, ["a b"]) == {"a": 1, " b": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent with a POSIX signal")
def test_interrupting_the_program_leaves_no_process_and_no_noise(tmp_path):
    """The program is a bare script, without `if __name__ == "__main__"`, which no worker may run again."""
    script = tmp_path / "script.py"
    text = """
        from itertools import repeat
        from cutaway.text import word_counts
        original = word_counts._worker
        def shown(cut):
            worker = original(cut)
            print(worker.pid, flush=True)
            return worker
        word_counts._worker = shown
        word_counts.counted(repeat("a b c " * 100_000), word_counts.CUTS["gpt-2"], 2)
    """
    script.write_text(textwrap.dedent(text), encoding="utf-8")
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as program:
        assert program.stdout is not None and program.stderr is not None
        workers = [int(program.stdout.readline()) for _ in range(2)]
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does: the whole group gets it
        assert program.wait(timeout=60) != 0
        errors = program.stderr.read()
        # One process tells of it, once; where it was just handling an error of its own, Python prints that one first.
        assert errors.count(b"Traceback") - errors.count(b"another exception occurred") == 1, errors
    for worker in workers:
        assert _gone(worker)


def _gone(process: int) -> bool:
    """Whether a process ends: whoever adopted it may take a while to notice."""
    for _ in range(200):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_fewer_than_one_process_is_refused():
    with pytest.raises(BadInput, match="processes: 0 processes"):
        counted(["a"], CUTS["gpt-2"], 0)
