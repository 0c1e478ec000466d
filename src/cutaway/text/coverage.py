"""Which characters a vocabulary is to have: the most frequent ones, until they make up enough of the text.

SentencePiece's character coverage (Kudo and Richardson 2018): a few rare characters would cost as many tokens as they
are, and are hardly ever read.   Read next: text/wordpiece_training.py, text/unigram_training.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


def covering(words: Mapping[str, int], share: float) -> list[str]:
    """The fewest characters that make up `share` of the text, most frequent first, of equals by code point.

    `words` says how often each word, or stretch, of the text occurs.
    """
    counted: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counted[character] += count
    taken, so_far, enough = [], 0, share * counted.total()
    for character, count in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
        if so_far >= enough:
            break
        taken.append(character)
        so_far += count
    return taken
