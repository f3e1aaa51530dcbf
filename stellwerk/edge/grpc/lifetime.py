"""How long a connection and its calls may live: handshake, keepalive, idleness, deadlines; pulled by one timer."""

from collections.abc import Container
from enum import Enum
from heapq import heapify, heappop, heappush
from math import inf
from typing import Final

from stellwerk.config import TransportLimits

_MIN_STALE: Final = 64
_GOODBYE_SECONDS: Final = 1.0
"""Between the two GOAWAYs of a drain, for a peer that does not answer PING."""


class Due(Enum):
    """What time has brought."""

    NOTHING = 0
    PING = 1
    """Ask whether the peer is there."""
    LEAVE = 2
    """Nothing to do for too long: say goodbye."""
    LAST_CALL = 3
    """Time for the second GOAWAY of a drain."""
    SILENT = 4
    """No handshake, or no answer: close."""


class Lifetime:
    """The clocks of one connection, in seconds of the caller's monotonic `now`. Owner: its `Connection`."""

    __slots__ = (
        "_deadlines",
        "_handshake_until",
        "_heard_at",
        "_idle_since",
        "_last_call_at",
        "_limits",
        "_pinged_at",
        "next_at",
    )

    def __init__(self, limits: TransportLimits, now: float) -> None:
        self._limits = limits
        self._handshake_until = now + limits.handshake_timeout_seconds
        self._heard_at = now
        self._idle_since: float | None = now
        self._pinged_at: float | None = None
        self._last_call_at = inf
        self._deadlines: list[tuple[float, int]] = []
        self.next_at = self._handshake_until
        """When `due` and `expired` have to be asked again; never late, sometimes early."""

    def heard(self, now: float) -> None:
        """Bytes came; whatever they are, the peer is there."""
        self._heard_at = now
        self._pinged_at = None

    def greeted(self) -> None:
        """The peer's preface and settings came."""
        self._handshake_until = inf
        self._plan()

    def busy(self) -> None:
        """There are streams."""
        self._idle_since = None

    def idle(self, now: float) -> None:
        """There are no more streams."""
        self._idle_since = now
        self.next_at = min(self.next_at, now + self._limits.idle_timeout_seconds)

    def leaving(self, now: float) -> None:
        """The first GOAWAY is written."""
        self._last_call_at = now + _GOODBYE_SECONDS
        self.next_at = min(self.next_at, self._last_call_at)

    def left(self) -> None:
        """The second GOAWAY is written; there will be no more streams to be idle about."""
        self._last_call_at = inf

    def watch(self, stream_id: int, deadline: float, live: Container[int], count: int) -> None:
        """Report `stream_id` as expired at `deadline`. `live` are the `count` open streams: the deadlines of others
        are dropped when they have become the most."""
        heappush(self._deadlines, (deadline, stream_id))
        if len(self._deadlines) > 2 * count + _MIN_STALE:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in live]
            heapify(self._deadlines)
        self.next_at = min(self.next_at, deadline)

    def expired(self, now: float) -> list[int]:
        """Ids of streams, open or not, whose deadline has passed; each once."""
        passed: list[int] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            passed.append(heappop(self._deadlines)[1])
        self._plan()
        return passed

    def due(self, now: float) -> Due:
        """The one thing to do now; a PING counts as done."""
        limits = self._limits
        what = Due.NOTHING
        if now >= self._handshake_until:
            what = Due.SILENT
        elif now >= self._last_call_at:
            what = Due.LAST_CALL
        elif self._pinged_at is not None:
            if now >= self._pinged_at + limits.ping_timeout_seconds:
                what = Due.SILENT
        elif now >= self._heard_at + limits.ping_interval_seconds:
            self._pinged_at = now
            what = Due.PING
        is_idle = self._idle_since is not None and now >= self._idle_since + limits.idle_timeout_seconds
        if what is Due.NOTHING and is_idle:
            self._idle_since = None
            what = Due.LEAVE
        self._plan()
        return what

    def _plan(self) -> None:
        limits = self._limits
        if self._pinged_at is not None:
            keepalive = self._pinged_at + limits.ping_timeout_seconds
        else:
            keepalive = self._heard_at + limits.ping_interval_seconds
        idle = inf if self._idle_since is None else self._idle_since + limits.idle_timeout_seconds
        deadline = self._deadlines[0][0] if self._deadlines else inf
        self.next_at = min(self._handshake_until, keepalive, idle, deadline, self._last_call_at)
