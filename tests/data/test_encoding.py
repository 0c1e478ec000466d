from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from cutaway.base.errors import BadInput, CutawayError
from cutaway.data import encoding
from cutaway.data.encoding import Crew, Writer
from cutaway.data.shards import META, Coding, Shards


def write(folder, texts, tokenizer, *, workers=1, chunk=500, **around) -> Writer:
    with Crew(tokenizer, Coding.of(tokenizer, **around), workers) as crew:
        writer = Writer(folder, crew, chunk=chunk)
        for text in texts:
            writer.add(text)
        writer.finish()
    return writer


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_written_is_what_the_tokenizer_says(tmp_path, corpus, tokenizer):
    write(tmp_path, [*corpus, ""], tokenizer)
    shards = Shards(tmp_path)
    assert len(shards.meta["shards"]) > 3 and shards.meta["documents"] == len(corpus) + 1
    for number, text in enumerate([*corpus, ""]):
        ids = shards.read(number, 0, int(shards.lengths[number]))
        assert ids.tolist() == tokenizer.encode(text) and ids.dtype == np.uint16
    assert shards.meta["bytes"] == sum(len(text.encode()) for text in corpus)
    assert shards.meta["tokens"] == shards.tokens == shards.lengths.sum()


def test_documents_have_their_ends_and_cannot_forge_them(tmp_path, tokenizer):
    text = "A <|endoftext|> in a text"
    write(tmp_path, [text, "b"], tokenizer, begin=5, end=tokenizer.eos_id)
    ids = Shards(tmp_path).stretch(0, 100).tolist()
    assert ids.count(tokenizer.eos_id) == 2 and ids[0] == 5 and ids[-1] == tokenizer.eos_id
    assert tokenizer.decode(ids[1 : ids.index(tokenizer.eos_id)]) == text


def test_any_number_of_workers_gives_the_same_files(tmp_path, corpus, tokenizer):
    texts = corpus * 3
    for workers in (1, 3):
        write(tmp_path / str(workers), texts, tokenizer, workers=workers, end=0)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    assert len(contents(tmp_path / "1")) > 3 * 4


def test_finished_shards_are_kept_and_the_rest_is_made(tmp_path, corpus, tokenizer, monkeypatch):
    write(tmp_path, corpus, tokenizer)
    before, made = contents(tmp_path), []
    (tmp_path / META).unlink()  # as if it had been stopped
    (tmp_path / "00002.json").unlink()
    (tmp_path / "00003.tokens.npy").write_bytes(before["00003.tokens.npy"][:-2])
    write_one = encoding.Encoder.write

    def note(self, folder, index, texts, record):
        made.append(index)
        return write_one(self, folder, index, texts, record)

    monkeypatch.setattr(encoding.Encoder, "write", note)
    writer = write(tmp_path, corpus, tokenizer)
    assert made == [2, 3] and writer.kept == len(json.loads(before[META])["shards"]) - 2
    assert contents(tmp_path) == before
    made.clear()
    write(tmp_path, [corpus[0] + "!", *corpus[1:]], tokenizer)
    assert 0 in made, "another text is no longer that shard"
    made.clear()
    write(tmp_path, corpus, tokenizer, end=1)
    assert made == list(range(len(made))) and len(made) > 3, "another coding makes all of them again"


def test_a_shorter_corpus_leaves_nothing_of_a_longer_one(tmp_path, corpus, tokenizer):
    write(tmp_path / "a", corpus, tokenizer)
    (tmp_path / "a" / ".00000.tokens-0123abcd.partial.npy").write_bytes(b"half")  # as a killed process leaves it
    write(tmp_path / "a", corpus[:4], tokenizer)
    write(tmp_path / "b", corpus[:4], tokenizer)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_progress_is_told_in_bytes_of_text(tmp_path, corpus, tokenizer):
    told: list[int] = []
    with Crew(tokenizer, Coding.of(tokenizer), 1) as crew:
        writer = Writer(tmp_path, crew, chunk=500, advance=told.append)
        for text in corpus:
            writer.add(text)
        meta = writer.finish()
    assert sum(told) == meta["bytes"] and len(told) == len(meta["shards"])


CHILD = """
import sys
from cutaway.data.encoding import Crew, Writer
from cutaway.data.shards import Coding
from cutaway.text.tokenizer import Tokenizer

def main():
    tokenizer = Tokenizer.from_folder(sys.argv[1])
    with Crew(tokenizer, Coding.of(tokenizer), 2) as crew:
        writer = Writer(sys.argv[2], crew, chunk=500)
        for number in range(10**9):
            writer.add(f"document {number} of very many, so that this never ends by itself")
            if writer._records:
                print(*crew._pool._processes, flush=True)
if __name__ == "__main__":
    main()
"""


def begun(tmp_path, tokenizer) -> tuple[subprocess.Popen[str], list[int]]:
    """A process that writes shards for ever, and its workers' ids, once the first shard stands."""
    tokenizer.save(tmp_path / "tokenizer")
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(CHILD), encoding="utf-8")
    child = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "tokenizer"), str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    assert child.stdout is not None
    return child, [int(word) for word in child.stdout.readline().split()]


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent in another way there")
def test_ctrl_c_ends_the_workers_and_leaves_whole_shards(tmp_path, tokenizer):
    child, _ = begun(tmp_path, tokenizer)
    os.killpg(child.pid, signal.SIGINT)  # a terminal sends it to all of them
    _, errors = child.communicate(timeout=60)
    # One process tells of it, once; where it was just handling an error of its own, Python prints that one first.
    told = errors.count("Traceback") - errors.count("another exception occurred")
    assert told == 1 and "KeyboardInterrupt" in errors, errors
    left = contents(tmp_path / "out")
    assert META not in left and not any("partial" in name for name in left)
    assert all(json.loads(text)["documents"] for name, text in left.items() if name.endswith(".json"))


@pytest.mark.skipif(os.name == "nt", reason="processes are asked for in another way there")
def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path, tokenizer):
    child, workers = begun(tmp_path, tokenizer)
    assert workers and all(map(alive, workers))
    child.kill()
    child.communicate(timeout=60)
    for _ in range(3000):
        if not any(map(alive, workers)):
            return
        time.sleep(0.01)
    pytest.fail("a worker is still there")


def alive(process: int) -> bool:
    """Whether it runs: one that has ended and that nobody has asked about yet does not count."""
    try:
        os.kill(process, 0)
        stat = Path(f"/proc/{process}/stat")
        return not stat.exists() or stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False


def test_a_worker_that_dies_is_one_line(tmp_path, corpus, tokenizer):
    with pytest.raises(CutawayError, match="a worker process ended"), Crew(tokenizer, Coding.of(tokenizer), 2) as crew:
        writer = Writer(tmp_path, crew, chunk=200)
        for text in corpus:
            writer.add(text)
        assert crew._pool is not None
        for process in list(crew._pool._processes.values()):
            process.kill()
        writer.finish()


def test_what_cannot_be_is_refused(tmp_path, tokenizer, monkeypatch):
    with pytest.raises(BadInput, match="workers: must be at least 1"):
        Crew(tokenizer, Coding.of(tokenizer), 0)
    monkeypatch.setattr(encoding, "LONGEST", 100)
    with pytest.raises(BadInput, match="at most 0 MiB are taken as one: split it"):
        write(tmp_path, ["一" * 34], tokenizer)


def test_workers_import_no_torch():
    code = "import sys, cutaway.data.encoding; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "False"
