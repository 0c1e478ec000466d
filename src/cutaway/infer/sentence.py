"""What a folder of sentence-transformers says about pooling, in modules.json and the files that go with it.

modules.json lists what texts go through: the encoder, a pooling, and maybe a normalisation. Anything else (a dense
layer) would change the vectors, and is refused.   Read next: infer/embedding.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.base.paths import atomic
from cutaway.infer.embedding import Pooling
from cutaway.weights.fields import Fields

MODULES, LENGTHS, PROMPTS = "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"
# The flags of a pooling's config.json; newer files name one of these words instead (`pooling_mode`).
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": None,
    "pooling_mode_weightedmean_tokens": None,
    "pooling_mode_lasttoken": None,
}


def read_pooling(folder: Path) -> Pooling:
    """The folder's own pooling; the mean, as a unit vector, where it says nothing. Raises BadInput for what is unknown
    here."""
    if not (folder / MODULES).is_file():
        return Pooling()
    stages = _stages(folder / MODULES)
    kinds = [kind for kind, _ in stages]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        said = f"Transformer, Pooling and maybe Normalize are known here, not {', '.join(kinds)}"
        raise BadInput(said, source=folder / MODULES, field="type")
    told = Fields.of_file(_inside(folder, stages[1][1]) / "config.json")
    lengths = folder / LENGTHS
    limits = Fields.of_file(lengths) if lengths.is_file() else Fields({}, lengths)
    _refuse_prompt(folder / PROMPTS)
    return Pooling(
        by=_by(told),
        unit="Normalize" in kinds,
        length=limits.count("max_seq_length", None),
        lower=limits.flag("do_lower_case", False),
    )


def write_pooling(pooling: Pooling, folder: Path, *, dim: int, longest: int) -> None:
    """Writes the files that `read_pooling` and sentence-transformers read. Raises BadInput for a pooling that the
    latter does not have. `longest`: the encoder's own length, which None stands for."""
    flags = {flag: by == pooling.by for flag, by in FLAGS.items() if by is not None}
    if not any(flags.values()):
        raise BadInput(f'no pooling of sentence-transformers is "{pooling.by}"', field="pooling")
    places = {"Transformer": "", "Pooling": "1_Pooling"} | ({"Normalize": "2_Normalize"} if pooling.unit else {})
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": dim, **flags})
    _write(folder / LENGTHS, {"max_seq_length": pooling.length or longest, "do_lower_case": pooling.lower})
    stages = [
        {"idx": index, "name": str(index), "path": place, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, place) in enumerate(places.items())
    ]
    _write(folder / MODULES, stages)


def _write(path: Path, data: Any) -> None:
    with atomic(path) as partial:
        partial.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _stages(path: Path) -> list[tuple[str, str]]:
    """Class name and folder of each stage."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is not JSON: {error}", source=path) from error
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise BadInput("expected a list of objects", source=path)
    found = []
    for one in data:
        kind, place = one.get("type"), one.get("path", "")
        if not isinstance(kind, str) or not isinstance(place, str):
            raise BadInput("a stage needs a type and a path, both texts", source=path)
        found.append((kind.rpartition(".")[2], place))
    return found


def _inside(folder: Path, place: str) -> Path:
    if "\0" in place or not (folder / place).resolve().is_relative_to(folder.resolve()):
        raise BadInput(f"{place!r:.100} leads out of the folder", source=folder / MODULES, field="path")
    return folder / place


def _by(told: Fields) -> str:
    if told.says("pooling_mode"):
        known = {"mean": "mean", "cls": "cls", "max": "max"}
        return told.choice("pooling_mode", known, "mean")
    given = [name for name in FLAGS if told.flag(name, False)]
    if len(given) != 1 or FLAGS[given[0]] is None:
        known = ", ".join(name for name, by in FLAGS.items() if by)
        told.refuse(given[0] if given else "pooling_mode_mean_tokens", f"exactly one must be true, of {known}")
    if not told.flag("include_prompt", True):
        told.refuse("include_prompt", "leaving a prompt out of the mean is not known here")
    return FLAGS[given[0]] or ""


def _refuse_prompt(path: Path) -> None:
    told = Fields.of_file(path) if path.is_file() else Fields({}, path)
    if told.get("default_prompt_name", None) is not None:
        told.refuse("default_prompt_name", "a prompt before every text is not known here")
