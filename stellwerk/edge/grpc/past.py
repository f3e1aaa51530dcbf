"""How streams ended that are no longer open, for frames that arrive late (RFC 9113, section 5.1)."""

from collections import OrderedDict
from enum import Enum
from typing import Final

_MAX_REMEMBERED: Final = 4096


class Ended(Enum):
    """What a late frame on the stream means."""

    NEVER_OPENED = 0
    """The id is idle, or was skipped."""
    BY_BOTH = 1
    """Both sides had sent END_STREAM: the peer contradicts itself."""
    BY_PEER = 2
    """The peer had reset it: likewise."""
    BY_US = 3
    """We reset it, and the peer may not have known yet."""
    LONG_AGO = 4
    """Too long ago to say."""


class Past:
    """The latest ended streams of one connection. Owner: its `Connection`."""

    __slots__ = ("_how", "_oldest_known", "last_id")

    def __init__(self) -> None:
        self.last_id = 0
        """The highest id a peer has opened."""
        self._how: OrderedDict[int, Ended] = OrderedDict()
        self._oldest_known = 0

    def add(self, stream_id: int, how: Ended) -> None:
        self._how[stream_id] = how
        if len(self._how) > _MAX_REMEMBERED:
            oldest, _ = self._how.popitem(last=False)
            self._oldest_known = max(self._oldest_known, oldest)

    def how(self, stream_id: int) -> Ended:
        """How a stream ended that is not open."""
        known = self._how.get(stream_id)
        if known is not None:
            return known
        return Ended.LONG_AGO if stream_id & 1 and stream_id <= self._oldest_known else Ended.NEVER_OPENED
