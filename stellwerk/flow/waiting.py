"""Requests that wait for an endpoint to appear (cold start): in order, bounded in number and bytes, with a deadline.

The queues of flow control, with priorities and fairness, will stand here; the engine already treats every decision as
one that may come later.
"""

from math import inf

from msgspec import Struct

from stellwerk.model.event import Ask


class Waiting(Struct, frozen=True, gc=False):
    """One request in the room."""

    ask: Ask
    deadline: float


class WaitingRoom:
    """First come, first served. One owner: the engine."""

    def __init__(self, max_requests: int = 5000, max_bytes: int = 256 * 1024 * 1024) -> None:
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self._waiting: dict[int, Waiting] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, ask: Ask, deadline: float) -> bool:
        """Let a request wait. False: the room is full."""
        size = ask.request.size_bytes
        if len(self._waiting) >= self.max_requests or self._bytes + size > self.max_bytes:
            return False
        self._waiting[ask.ticket] = Waiting(ask, deadline)
        self._bytes += size
        return True

    def leave(self, ticket: int) -> bool:
        """Take a request out. False: it is not here."""
        waiting = self._waiting.pop(ticket, None)
        if waiting is None:
            return False
        self._bytes -= waiting.ask.request.size_bytes
        return True

    def all(self) -> tuple[Waiting, ...]:
        """Who waits, first come first."""
        return tuple(self._waiting.values())

    def next_deadline(self) -> float:
        """When somebody has waited long enough; inf if nobody waits."""
        return min((waiting.deadline for waiting in self._waiting.values()), default=inf)
