"""Which pages each sequence holds: its block tables, one for each pool.

PagedAttention (arXiv 2309.06180), section 4.3: a sequence's tokens lie in logical pages, a table says where each is.
Streams that are kept for equally long share a pool and a table: those kept whole, those of each window, and the states
of sequences, which have one page each, whatever their length. So a window's pages go as it moves on, in its pool alone.
  share     begins with the published pages of the longest beginning that every pool still has what it must of
  reserve   makes room for tokens to be written; pages that others may read are copied first (copy-on-write)
  settle    says how many tokens are held for good; publishes whole pages, lets go of those behind a window
  fork      a second sequence that holds the same pages
No tensors: what is to be copied is told as `Copy`.   Read next: infer/scheduler.py, infer/paged.py (the tensors)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cutaway.base.errors import BadInput, CutawayError
from cutaway.infer.pages import NoPages, Pool

GONE = -1  # in a table: a page that a window has left behind, or that was not needed of a shared beginning


@dataclass(frozen=True, kw_only=True)
class Keep:
    """How long a pool's pages are held: `last` tokens back from the next one, itself included (None: all of them), and
    the `first` tokens always. `whole`: one page for each sequence, replaced as a whole (a state)."""

    last: int | None = None
    first: int = 0
    whole: bool = False

    def __post_init__(self) -> None:
        if (self.last is not None and self.last < 1) or self.first < 0:
            raise BadInput(f"counts of tokens, not {self}", field="Keep")

    def needed(self, length: int, page: int) -> range:
        """The logical pages behind the first ones that a token at `length` may read."""
        start = 0 if self.last is None else max(0, length - self.last + 1)
        return range(start // page, -(-length // page))

    def room(self, tokens: int, step: int, page: int) -> int:
        """Pages that a sequence of so many tokens needs at most, where up to `step` are read in a pass."""
        if self.whole:
            return 2  # the state, and the one it is a copy of
        if self.last is not None:
            tokens = min(tokens, self.first + page + self.last + page + step)
        return -(-tokens // page)

    def pinned(self, length: int, page: int) -> range:
        """The logical pages that hold the first tokens."""
        return range(-(-min(self.first, length) // page))


@dataclass(frozen=True, kw_only=True)
class Copy:
    """Before a pass, page `target` of a pool becomes a copy of `source`; zeros where that is None."""

    pool: int
    source: int | None
    target: int


class Table:
    """The pages of one sequence. `rows[pool][number]` is the page of its logical page, or GONE."""

    __slots__ = ("edges", "length", "published", "ready", "rows", "stale")

    def __init__(self, pools: int):
        self.length = 0  # tokens that are held
        self.rows: list[list[int]] = [[] for _ in range(pools)]
        self.edges = [0] * pools  # logical pages before this are gone, or pinned
        self.published = 0  # so many whole pages were published
        self.stale = False  # held from before everything was forgotten
        self.ready = 0  # tokens for which there is room that nobody else holds or knows: they may be written


class BlockTables:
    """The tables of all sequences, known by numbers (`owner`). `pages`: how many each pool has; `page`: tokens of one.

    `slack`: tokens that `truncate` can take back from behind a window.
    """

    def __init__(self, keeps: Sequence[Keep], pages: Sequence[int], *, page: int = 16, slack: int = 0):
        if page < 1 or slack < 0 or len(keeps) != len(pages):
            raise BadInput("pages hold at least one token, and every pool has a size", field="page")
        self.keeps, self.page, self.slack = tuple(keeps), page, slack
        self.pools = tuple(Pool(count) for count in pages)
        self.stateful = any(keep.whole for keep in keeps)
        """Whether some pool holds states, which are shared where a snapshot was taken, at a page's border."""
        self._rolling = [index for index, keep in enumerate(keeps) if keep.last is not None]
        self._tables: dict[int, Table] = {}

    @property
    def owners(self) -> set[int]:
        """All sequences that have a table."""
        return set(self._tables)

    @property
    def spare(self) -> int:
        """Pages that can be taken of the pool that has the fewest, of those where nothing is ever left behind."""
        endless = [
            pool.available
            for keep, pool in zip(self.keeps, self.pools, strict=True)
            if keep.last is None and not keep.whole
        ]
        return min(endless, default=min(pool.pages for pool in self.pools))

    def fits(self, tokens: int, step: int) -> bool:
        """Whether there are pages for a sequence of so many tokens that has all to itself, `step` of them in a pass."""
        for keep, pool in zip(self.keeps, self.pools, strict=True):
            if keep.room(tokens, step + self.slack, self.page) > pool.pages:
                return False
        return True

    def length(self, owner: int) -> int:
        """Tokens that are held of a sequence."""
        return self._tables[owner].length

    def rows(self, owner: int, pool: int) -> list[int]:
        """Its pages in one pool, in order; GONE for those that are not held."""
        return self._tables[owner].rows[pool]

    def all_rows(self, owner: int) -> list[list[int]]:
        """Its pages in every pool: one list for as long as the sequence holds any."""
        return self._tables[owner].rows

    def open(self, owner: int) -> None:
        """A sequence without tokens."""
        assert owner not in self._tables, f"sequence {owner} is there already"
        self._tables[owner] = Table(len(self.pools))

    def close(self, owner: int) -> None:
        """Lets go of all that a sequence holds, its end first: beginnings are of use to more others."""
        for pool, row in zip(self.pools, self._tables.pop(owner).rows, strict=True):
            for page in reversed(row):
                if page != GONE:
                    pool.drop(page)

    def shareable(self, keys: Sequence[bytes], most: int) -> int:
        """How many tokens of a text with these keys are held already, in whole pages, up to `most`."""
        return len(self._beginning(keys, most)) * self.page

    def share(self, owner: int, keys: Sequence[bytes], most: int) -> int:
        """Gives a new sequence the pages of the longest beginning that is held; returns its tokens."""
        table, chosen = self._tables[owner], self._beginning(keys, most)
        assert table.length == 0 and not any(table.rows), "only a new sequence shares"
        table.length = len(chosen) * self.page
        if not chosen:
            return 0
        for index, (keep, pool) in enumerate(zip(self.keeps, self.pools, strict=True)):
            row = [GONE] * (1 if keep.whole else len(chosen))
            for number in self._must(keep, len(chosen)):
                page = pool.find(chosen[number])
                assert page is not None
                pool.hold(page)
                row[0 if keep.whole else number] = page
            table.rows[index] = row
            table.edges[index] = 0 if keep.whole else keep.needed(table.length, self.page).start
        table.published = len(chosen)
        return table.length

    def _must(self, keep: Keep, count: int) -> list[int]:
        """Of the first `count` logical pages those that whoever goes on behind them has to have."""
        if keep.whole:
            return [count - 1]
        length = count * self.page
        return sorted({*keep.pinned(length, self.page), *keep.needed(length, self.page)})

    def _beginning(self, keys: Sequence[bytes], most: int) -> Sequence[bytes]:
        count = min(len(keys), most // self.page)
        for keep, pool in zip(self.keeps, self.pools, strict=True):
            if keep.last is None and not keep.whole:  # whole chains only: no later page helps
                count = next((at for at in range(count) if pool.find(keys[at]) is None), count)
        while count and not all(
            pool.find(keys[number]) is not None
            for keep, pool in zip(self.keeps, self.pools, strict=True)
            if keep.last is not None or keep.whole
            for number in self._must(keep, count)
        ):
            count -= 1
        return keys[:count]

    def reserve(self, owner: int, tokens: int, ahead: int = 0) -> list[Copy]:
        """Room for a sequence to become `tokens` long: all pages from its present end on may then be written.

        `ahead`: where nothing is ever dropped, room for so many. Returns what has to be copied first. Raises NoPages,
        and then nothing has changed.
        """
        table = self._tables[owner]
        assert tokens >= table.length, "room for fewer tokens than are held"
        if tokens <= table.ready and ahead <= table.ready:
            return []
        wanted = [self._wanted(table, index, tokens, ahead) for index in range(len(self.pools))]
        for pool, (fresh, fixed) in zip(self.pools, wanted, strict=True):
            if fresh + len(fixed) > pool.available:
                raise NoPages(f"{fresh + len(fixed)} pages were asked for, {pool.available} of {pool.pages} are free")
        copies = []
        for index, (pool, (fresh, fixed)) in enumerate(zip(self.pools, wanted, strict=True)):
            row = table.rows[index]
            for number in fixed:
                target = pool.take()
                copies.append(Copy(pool=index, source=row[number], target=target))
                pool.drop(row[number])
                row[number] = target
            for _ in range(fresh):
                row.append(pool.take(row[-1] if row else None))
            if self.keeps[index].whole and fresh:
                copies.append(Copy(pool=index, source=None, target=row[-1]))
        # With a state, its one page: at a page's border it may become known by its content.
        table.ready = min(map(len, table.rows)) * self.page
        return copies

    def _wanted(self, table: Table, index: int, tokens: int, ahead: int) -> tuple[int, list[int]]:
        """New pages, and the logical pages that have to be copied before they are written."""
        keep, pool, row = self.keeps[index], self.pools[index], table.rows[index]
        if keep.whole:
            count, written = 1, range(len(row))
        else:
            end = max(tokens, ahead) if keep.last is None else tokens
            count, written = -(-end // self.page), range(table.length // self.page, len(row))
        return max(0, count - len(row)), [number for number in written if pool.fixed(row[number])]

    def advance(self, owner: int, count: int) -> None:
        """So many tokens more are held; room for them was reserved."""
        self._tables[owner].length += count

    def settle(self, owner: int, length: int, keys: Sequence[bytes] = ()) -> None:
        """A sequence holds `length` tokens for good, of which whole pages have these keys."""
        table = self._tables[owner]
        if length < table.length:
            self.truncate(owner, length)
        elif length > table.length:
            self.advance(owner, length - table.length)
        ended = min(length // self.page, len(keys))
        if ended > table.published:
            if not table.stale:
                self._publish(table, keys[:ended])
            table.published = ended
        for index in self._rolling:
            self._leave_behind(table, index)

    def _publish(self, table: Table, keys: Sequence[bytes]) -> None:
        for keep, pool, row in zip(self.keeps, self.pools, table.rows, strict=True):
            if not keep.whole:
                for number in range(table.published, len(keys)):
                    if row[number] != GONE:
                        pool.publish(row[number], keys[number])
            elif table.length == len(keys) * self.page:
                pool.publish(row[0], keys[-1])  # a snapshot: who writes next copies it

    def _leave_behind(self, table: Table, index: int) -> None:
        keep, pool, row = self.keeps[index], self.pools[index], table.rows[index]
        assert keep.last is not None
        edge = keep.needed(max(0, table.length - self.slack), self.page).start
        pinned = keep.pinned(table.length, self.page).stop
        for number in range(table.edges[index], edge):
            if number >= pinned and row[number] != GONE:
                pool.drop(row[number])
                row[number] = GONE
        table.edges[index] = max(table.edges[index], edge)

    def truncate(self, owner: int, length: int) -> None:
        """Forgets the tokens from `length` on. Raises CutawayError where a window's older pages are gone, and for
        states; then nothing has changed."""
        table = self._tables[owner]
        if not 0 <= length <= table.length:
            raise CutawayError(f"cannot cut a sequence of {table.length} tokens to {length}")
        if length == table.length:
            return
        for keep, row in zip(self.keeps, table.rows, strict=True):
            if keep.whole:
                raise CutawayError("a recurrent state cannot be cut back: restore a snapshot")
            if any(row[number] == GONE for number in self._must_hold(keep, length)):
                raise CutawayError(f"a window cannot go back to token {length}: its older pages are gone")
        table.length, table.published, table.ready = length, min(table.published, length // self.page), 0
        for index, (keep, pool, row) in enumerate(zip(self.keeps, self.pools, table.rows, strict=True)):
            count = -(-length // self.page)
            for page in reversed(row[count:]):
                if page != GONE:
                    pool.drop(page)
            del row[count:]
            table.edges[index] = min(table.edges[index], keep.needed(length, self.page).start)

    def _must_hold(self, keep: Keep, length: int) -> list[int]:
        return [*keep.pinned(length, self.page), *keep.needed(length, self.page)]

    def fork(self, owner: int, child: int) -> None:
        """A second sequence with the same tokens, in the same pages until one of them writes."""
        table = self._tables[owner]
        self.open(child)
        twin = self._tables[child]
        twin.length, twin.edges = table.length, list(table.edges)
        twin.published, twin.stale = table.published, table.stale
        table.ready = 0
        for pool, row, copied in zip(self.pools, table.rows, twin.rows, strict=True):
            for page in row:
                if page != GONE:
                    pool.hold(page)
            copied += row

    def forget(self) -> None:
        """Nothing is found by its content any more, also what sequences hold now and write on to."""
        for pool in self.pools:
            pool.forget()
        for table in self._tables.values():
            table.stale = True

    def check(self) -> None:
        """Asserts the invariants of all tables and pools."""
        for index, (keep, pool) in enumerate(zip(self.keeps, self.pools, strict=True)):
            holders: Counter[int] = Counter()
            for owner, table in self._tables.items():
                row = [page for page in table.rows[index] if page != GONE]
                assert len(set(row)) == len(row), f"sequence {owner} holds a page twice"
                holders.update(row)
                if keep.whole:
                    assert len(row) == (1 if table.length else len(row)) <= 1, f"sequence {owner} has {len(row)} states"
                    continue
                assert len(table.rows[index]) * self.page >= table.length, f"sequence {owner}: tokens without a page"
                for number in self._must_hold(keep, table.length):
                    assert table.rows[index][number] != GONE, f"sequence {owner}: page {number} is needed and gone"
                for page in table.rows[index][table.length // self.page : table.ready // self.page]:
                    assert not pool.fixed(page), f"sequence {owner} may write page {page}, which others hold or know"
            pool.check(holders)
