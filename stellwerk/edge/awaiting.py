"""How long what was named lately may hold up everything else: a Secret of which nothing is heard is for one listener, a
pool for one route.
"""

import asyncio
from collections.abc import Callable, Collection

HELD_SECONDS = 3.0


class Awaiting:
    """Remembers who was waited for in vain. Time counts from the first that is waited for: those that are named
    meanwhile must not put it off."""

    def __init__(self, wake: Callable[[], None], held_seconds: float = HELD_SECONDS) -> None:
        """`wake` is called when it is time to ask again."""
        self.held_seconds = held_seconds
        self._wake = wake
        self._given_up: frozenset[str] = frozenset()
        self._due: asyncio.TimerHandle | None = None
        self._is_over = False

    def is_worth_it(self, missing: Collection[str]) -> bool:
        """Whether to wait for those that are `missing`, by their names."""
        waiting = frozenset(missing)
        is_new = bool(waiting - self._given_up)
        if is_new and self._due is None:
            self._due = asyncio.get_running_loop().call_later(self.held_seconds, self._end)
        if is_new and not self._is_over:
            return True
        self._given_up = waiting
        self.close()
        return False

    def close(self) -> None:
        """Nobody asks any more, for now."""
        if self._due is not None:
            self._due.cancel()
        self._due, self._is_over = None, False

    def _end(self) -> None:
        self._is_over = True
        self._wake()
