"""When to try again what failed: each object by itself, so that one that cannot be written holds up no other and is not
asked for twenty times a second.
"""

import time

from msgspec import Struct


class _Failure(Struct):
    count: int
    due: float


class Patience:
    """Pauses by name, in seconds: `first`, doubling up to `limit`. What nobody asked for between two calls of `wait` is
    forgotten: it need not be tried any more."""

    def __init__(self, first: float, limit: float) -> None:
        self._first, self._limit = first, limit
        self._failures: dict[str, _Failure] = {}
        self._asked: set[str] = set()

    def is_due(self, name: str) -> bool:
        """Whether it may be tried now."""
        self._asked.add(name)
        failure = self._failures.get(name)
        return failure is None or time.monotonic() >= failure.due

    def failed(self, name: str) -> None:
        """It was tried in vain."""
        self._asked.add(name)
        failure = self._failures.setdefault(name, _Failure(0, 0.0))
        failure.due = time.monotonic() + min(self._limit, self._first * 2.0 ** min(failure.count, 30))
        failure.count += 1

    def succeeded(self, name: str) -> None:
        """It is as wanted."""
        self._failures.pop(name, None)

    def wait(self) -> float | None:
        """Seconds until something may be tried again; None: nothing waits."""
        self._failures = {name: failure for name, failure in self._failures.items() if name in self._asked}
        self._asked.clear()
        due = [failure.due for failure in self._failures.values()]
        return max(0.0, min(due) - time.monotonic()) if due else None
