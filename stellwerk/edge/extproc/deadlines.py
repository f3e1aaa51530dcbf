"""One timer for all conversations: a heap of deadlines, of which most are gone before they come."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Protocol


class Cancellable(Protocol):
    """What the event loop gives for a timer."""

    def cancel(self) -> None:
        """Forget it."""


CallLater = Callable[[float, Callable[[], None]], Cancellable]
"""`loop.call_later`: seconds from now, and what to call."""


class Waiter(Protocol):
    """Somebody with a deadline."""

    @property
    def is_open(self) -> bool:
        """False once nobody waits here any more."""

    def expire(self, now: float) -> None:
        """The deadline that was set has come."""


_FEW = 1024
"""So many entries are never worth sweeping out."""


class Deadlines:
    """Owns the timer. Entries are not removed when they become pointless: `expire` of a closed waiter is skipped."""

    def __init__(self, clock: Callable[[], float], call_later: CallLater) -> None:
        self._clock = clock
        self._call_later = call_later
        self._heap: list[tuple[float, int, Waiter]] = []
        self._sequence = 0
        self._timer: Cancellable | None = None
        self._timer_at = 0.0
        self._sweep_out_at = _FEW

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, at: float, waiter: Waiter) -> None:
        """Call `waiter.expire` once `at` has come."""
        if len(self._heap) >= self._sweep_out_at:
            self._heap = [entry for entry in self._heap if entry[2].is_open]
            heapify(self._heap)
            self._sweep_out_at = max(_FEW, 2 * len(self._heap))
        self._sequence += 1
        heappush(self._heap, (at, self._sequence, waiter))
        if self._timer is None or at < self._timer_at:
            self._arm(at)

    def close(self) -> None:
        """Forget all."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._call_later(max(0.0, at - self._clock()), self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            waiter = heappop(self._heap)[2]
            if waiter.is_open:
                waiter.expire(now)
        if self._heap and self._timer is None:
            self._arm(self._heap[0][0])
