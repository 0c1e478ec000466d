"""A corpus that trains in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

LINES = (
    "The king is come to see the queen, and the queen is come to see the king.",
    "What news from the north, my lord? The north is cold, and the wind is high.",
    "He that is wise will stay at home; he that is bold will ride to the sea.",
    "雪落在山上，山在雪中。",
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Plain text of about 30 kB with Chinese in it."""
    path = tmp_path / "corpus.txt"
    text = "\n".join(f"{LINES[at % 4]} {LINES[(at * 7) % 3]} ({at})" for at in range(200))
    path.write_text(text + "\n", encoding="utf-8")
    return path
