"""A prepared corpus: a folder with the training part, the validation part, and the tokenizer that both were made with.

    FOLDER/prepared.json   how it was made        FOLDER/tokenizer/   FOLDER/train/   FOLDER/validation/
Read next: data/preparation.py, data/shards.py
"""

from __future__ import annotations

from pathlib import Path

from cutaway.base.errors import NotFound
from cutaway.base.paths import expand
from cutaway.data.shards import Shards, read_json
from cutaway.text.tokenizer import Tokenizer

RECORD = "prepared.json"
TRAIN: str = "train"
VALIDATION: str = "validation"
TOKENIZER: str = "tokenizer"


def is_corpus(folder: str | Path) -> bool:
    """Whether this is the folder of a prepared corpus, finished or not."""
    return (expand(folder) / RECORD).is_file()


class Corpus:
    """Opens a prepared corpus. `validation` is None where nothing was kept apart. `record`: what prepared.json says.

    Raises NotFound for a folder that is none or is not finished, BadInput, naming the file, for a damaged one.
    """

    def __init__(self, folder: str | Path):
        self.folder = expand(folder)
        if not is_corpus(self.folder):
            raise NotFound(f"{self.folder}: no prepared corpus; `cutaway data prepare` makes one")
        self.record = read_json(self.folder / RECORD)
        if not self.record.get("finished"):
            raise NotFound(f"{self.folder}: preparing this corpus was not finished; prepare it again to go on")
        self.tokenizer = Tokenizer.from_folder(self.folder / TOKENIZER)
        self.train = Shards(self.folder / TRAIN)
        held = (self.folder / VALIDATION).is_dir()
        self.validation = Shards(self.folder / VALIDATION) if held else None
        for part in (self.train, self.validation):
            if part is not None:
                part.check(self.tokenizer)
