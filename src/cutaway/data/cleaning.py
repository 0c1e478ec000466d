"""Texts made regular, and those left out that are too short, too long, or in another script.

Unicode Standard Annex 15: NFC writes each character in its composed form; NFKC also turns look-alikes (full-width
letters, ligatures) into plain ones, which cannot be undone.   Read next: data/duplicates.py
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.data.entry import Entry
from cutaway.data.tally import Tally

# Scripts by the words with which Unicode begins the names of their letters.
SCRIPTS = {
    "Latin": ("LATIN", "FULLWIDTH LATIN"),
    "Han": ("CJK", "IDEOGRAPHIC"),
    "Kana": ("HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA"),
    "Hangul": ("HANGUL", "HALFWIDTH HANGUL"),
    "Cyrillic": ("CYRILLIC",),
    "Greek": ("GREEK",),
    "Arabic": ("ARABIC",),
    "Hebrew": ("HEBREW",),
    "Devanagari": ("DEVANAGARI",),
    "Thai": ("THAI",),
}

# Control characters but tab and line end; a byte order mark inside a text; halves of surrogate pairs; no characters.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ud800-\udfff\ufffe\uffff]")
_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")
_BLANKS = re.compile(r"[^\S\n]+")  # includes the wide space of Chinese
_EDGES = re.compile(" ?\n ?")
_GAPS = re.compile("\n{3,}")


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What is done to each text. `form`: None leaves Unicode as it is. `control`: whether control characters go, and
    all line ends become \\n. `whitespace`: whether runs of blanks become one and blank lines at most one.
    `shortest` and `longest`: characters. `script`: at least `share` of all letters must be of it (SCRIPTS).
    """

    form: Literal["NFC", "NFKC"] | None = "NFC"
    control: bool = True
    whitespace: bool = False
    shortest: int = 1
    longest: int | None = None
    script: str | None = None
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.form not in (None, "NFC", "NFKC"):
            raise BadInput(f'must be "NFC", "NFKC" or None, is {self.form!r}', field="Cleaning.form")
        if self.script is not None and self.script not in SCRIPTS:
            message = f'unknown script "{self.script}"{did_you_mean(self.script, SCRIPTS)}'
            raise BadInput(message, field="Cleaning.script")
        if not 0 < self.share <= 1:
            raise BadInput(f"must be above 0 and at most 1, is {self.share}", field="Cleaning.share")
        if self.shortest < 0 or (self.longest is not None and self.longest < max(1, self.shortest)):
            message = f"texts of {self.shortest} to {self.longest} characters: there are none"
            raise BadInput(message, field="Cleaning.longest")

    def clean(self, text: str) -> str:
        """The text made regular. Cleaning it again changes nothing."""
        if self.control:
            text = _CONTROL.sub("", _ENDS.sub("\n", text))
        if self.form is not None:
            text = unicodedata.normalize(self.form, text)
        if self.whitespace:
            text = _GAPS.sub("\n\n", _EDGES.sub("\n", _BLANKS.sub(" ", text))).strip()
        return text

    def fault(self, text: str) -> tuple[str, str] | None:
        """(reason, note) if this text, cleaned, is to be left out."""
        if len(text) < self.shortest or not text.strip():
            return (f"shorter than {self.shortest} characters" if text.strip() else "empty"), f"{len(text)} characters"
        if self.longest is not None and len(text) > self.longest:
            return f"longer than {self.longest} characters", f"{len(text)} characters"
        if self.script is not None:
            found = shares(text).get(self.script, 0.0)
            if found < self.share:
                return f"less than {self.share:.0%} {self.script}", f"{found:.0%}"
        return None


def cleaned(entries: Iterable[Entry], cleaning: Cleaning, tally: Tally) -> Iterator[Entry]:
    """The entries that stay, cleaned; `tally` learns of the others."""
    for entry in entries:
        text = cleaning.clean(entry.text)
        fault = cleaning.fault(text)
        if fault is not None:
            tally.drop(entry, *fault)
            continue
        tally.changed += text != entry.text
        yield entry._replace(text=text)


def shares(text: str) -> dict[str, float]:
    """Which share of all letters is of which script; empty where there is no letter. Digits and signs do not count."""
    counts: Counter[str] = Counter()
    for character, count in Counter(text).items():
        script = script_of(character)
        if script is not None:
            counts[script] += count
    total = sum(counts.values())
    return {script: count / total for script, count in counts.most_common()}


@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str | None:
    """The script of a letter ("other" for one that SCRIPTS does not have), None for what is no letter."""
    if not unicodedata.category(character).startswith("L"):
        return None
    name = unicodedata.name(character, "")
    return next((script for script, starts in SCRIPTS.items() if name.startswith(starts)), "other")
