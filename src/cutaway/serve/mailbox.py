"""Events from the engine's thread to the server's loop: many at one awakening.

Read next: serve/asking.py
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

Letter = TypeVar("Letter")


class Mailbox(Generic[Letter]):
    """`put` from any thread, `take` in the loop it was made in. Nothing is lost, and the order stays."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._letters: deque[Letter] = deque()
        self._called = False  # whether the loop has been called and did not come yet
        self._there = asyncio.Event()

    def put(self, letter: Letter) -> None:
        self._letters.append(letter)
        if not self._called:
            self._called = True
            try:
                self._loop.call_soon_threadsafe(self._come)
            except RuntimeError:  # the loop is closed: nobody reads any more
                self._letters.clear()

    def _come(self) -> None:
        self._called = False  # first: what is put from here on calls again
        self._there.set()

    async def take(self) -> list[Letter]:
        """All that is there; waits until something is."""
        while not self._letters:
            self._there.clear()
            if not self._letters:
                await self._there.wait()
        letters = []
        while self._letters:
            letters.append(self._letters.popleft())
        return letters
