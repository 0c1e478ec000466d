"""A pool of pages of fixed size: who holds which, which are known by their content, and which may be used again.

PagedAttention (Kwon et al. 2023, arXiv 2309.06180), sections 4.2 and 4.3; sharing by content as in RadixAttention
(Zheng et al. 2023, arXiv 2312.07104), section 3, with a chain of digests in the place of a tree:
  key_i = digest(key_(i-1), tokens of page i)
A page is free, held by some owners, or idle: held by nobody, but published, so that whoever asks for its content may
hold it again. Where no page is free, the idle one that was let go of first is forgotten and used.
No tensors: a page is a number.   Read next: infer/block_tables.py
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

from cutaway.base.errors import BadInput, CutawayError


class NoPages(CutawayError):
    """A pool has fewer pages to give than were asked for."""


def keys(tokens: Sequence[int], page: int, known: Sequence[bytes] = (), salt: bytes = b"") -> list[bytes]:
    """The key of each whole page of `tokens`; `known`: those of the first ones, which are not made again. Texts under
    different salts share nothing."""
    made = list(known)
    for number in range(len(made), len(tokens) // page):
        within = array("q", tokens[number * page : (number + 1) * page])
        made.append(blake2b((made[-1] if made else salt) + within.tobytes(), digest_size=16).digest())
    return made


class Pool:
    """Pages 0 .. `pages` - 1."""

    def __init__(self, pages: int):
        if pages < 1:
            raise BadInput(f"must be at least 1, is {pages}", field="pages")
        self.pages = pages
        self._holders = [0] * pages
        self._free = dict.fromkeys(range(pages))  # in the order in which they are taken
        self._idle: dict[int, None] = {}  # in the order in which they were let go of
        self._keys: dict[int, bytes] = {}  # of the pages that are published
        self._found: dict[bytes, int] = {}

    @property
    def available(self) -> int:
        """Pages that can be taken."""
        return len(self._free) + len(self._idle)

    @property
    def held(self) -> int:
        """Pages that somebody holds."""
        return self.pages - self.available

    @property
    def shared(self) -> int:
        """Pages that several hold."""
        return sum(holders > 1 for holders in self._holders)

    def take(self, after: int | None = None) -> int:
        """A page that nobody else holds and that has no content: the one behind page `after` if that is free, as what
        lies side by side need not be copied to be read. Raises NoPages."""
        if self._free:
            page = next(iter(self._free)) if after is None or after + 1 not in self._free else after + 1
            del self._free[page]
        elif self._idle:
            page = next(iter(self._idle))
            self._unpublish(page)
            del self._idle[page]
        else:
            raise NoPages(f"all {self.pages} pages are held")
        self._holders[page] = 1
        return page

    def hold(self, page: int) -> None:
        """One holder more, of a page that is held or idle."""
        if page in self._idle:
            del self._idle[page]
        self._holders[page] += 1

    def drop(self, page: int) -> None:
        """One holder fewer."""
        self._holders[page] -= 1
        if self._holders[page] == 0:
            if page in self._keys:
                self._idle[page] = None
            else:
                self._free[page] = None

    def publish(self, page: int, key: bytes) -> None:
        """Makes a held page known by its content, if no other is. From now on it must not be written."""
        if key not in self._found and page not in self._keys:
            self._keys[page], self._found[key] = key, page

    def find(self, key: bytes) -> int | None:
        """The page of that content, held or idle."""
        return self._found.get(key)

    def idle(self, page: int) -> bool:
        """Whether nobody holds it, though it is published."""
        return page in self._idle

    def fixed(self, page: int) -> bool:
        """Whether a holder must copy it before writing: others hold it, or it is known by its content."""
        return self._holders[page] > 1 or page in self._keys

    def forget(self) -> None:
        """Publishes nothing any more: what the pages hold is out of date."""
        for page in list(self._keys):
            self._unpublish(page)
        self._free |= self._idle
        self._idle.clear()

    def _unpublish(self, page: int) -> None:
        del self._found[self._keys.pop(page)]

    def check(self, holders: Counter[int]) -> None:
        """Asserts the invariants. `holders`: how many hold each page, as those who hold them count."""
        assert Counter({page: count for page, count in enumerate(self._holders) if count}) == holders, "a wrong count"
        free, idle, held = set(self._free), set(self._idle), set(holders)
        assert not (free & idle or free & held or idle & held), "a page is in two states"
        assert free | idle | held == set(range(self.pages)), "a page is lost"
        assert {key: page for page, key in self._keys.items()} == self._found, "a key and its page differ"
        assert not free & set(self._keys), "a free page is published"
        assert idle <= set(self._keys), "an idle page that nobody can find"
