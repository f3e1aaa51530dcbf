"""How much noise a peer may make: a bucket of tokens against floods of frames that cost us work and bring none.

Rapid resets (CVE-2023-44487), PING, SETTINGS, PRIORITY, CONTINUATION, empty DATA and window drips are all paid from
it. Answers earn tokens, so that the window updates and pings of a peer that is busy with us never add up to a flood;
what was only asked earns nothing, because it may be reset in the next frame.
"""

from typing import Final

from stellwerk.edge.grpc.frames import ConnectionFault, ErrorCode

TOKENS_PER_ANSWER: Final = 4
"""What a message sent earns: its window updates, a PING, the reset that ends its call."""
BYTES_PER_TOKEN: Final = 4096
"""What we send earns by size too: some peers answer every DATA frame with two window updates."""


class Flood(ConnectionFault):
    """The bucket is dry."""

    def __init__(self, what: str) -> None:
        super().__init__(ErrorCode.ENHANCE_YOUR_CALM, f"too many {what}")


class Budget:
    """One connection's bucket. Owner: its `Connection`.

    Holds one second's worth and a token for each stream that may be open, because they may all be cancelled at once.
    Refilled, by time and by what was earned, only when it has run dry, so that spending is one subtraction.
    """

    __slots__ = ("_capacity", "_filled_at", "_per_second", "_tokens", "earned")

    def __init__(self, per_second: int, streams: int, now: float) -> None:
        self._per_second = per_second
        self._capacity = float(per_second + streams)
        self._tokens = self._capacity
        self._filled_at = now
        self.earned = 0.0
        """Tokens; the connection adds to it as honest work is done."""

    def spend(self, cost: int, now: float, what: str) -> None:
        """Raises `Flood` when the bucket is dry; `what` names the frames."""
        self._tokens -= cost
        if self._tokens >= 0:
            return
        refill = (now - self._filled_at) * self._per_second + self.earned
        self._tokens = min(self._capacity, self._tokens + refill)
        self._filled_at = now
        self.earned = 0.0
        if self._tokens < 0:
            raise Flood(what)
