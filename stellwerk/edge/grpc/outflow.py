"""What goes out: send windows, and the messages that wait for them.

A message that fits is written at once; the rest waits in its stream's outbox and leaves in rounds, so that one large
answer does not hold up the others. Nothing is produced beyond one chunk ahead of the socket.
"""

from collections import OrderedDict, deque
from typing import Final

from stellwerk.edge.grpc.budget import BYTES_PER_TOKEN, TOKENS_PER_ANSWER, Budget
from stellwerk.edge.grpc.frames import (
    DATA,
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    HEAD,
    MAX_WINDOW,
    ConnectionFault,
    ErrorCode,
)
from stellwerk.edge.grpc.stream import Stream

CHUNK_BYTES: Final = 256 * 1024
"""DATA produced for one write."""
_ROUND_BYTES: Final = 64 * 1024
"""What one stream may send before it is another's turn."""
_MAX_FRAME_BYTES: Final = 64 * 1024
"""Larger frames would gain nothing, whatever the peer allows."""

_head = HEAD.pack


class Outflow:
    """Sending side of one connection. Owner: its `Connection`, which shares `out`, the parts of the next write."""

    __slots__ = (
        "_budget",
        "_out",
        "_produced",
        "_ready",
        "initial",
        "is_corked",
        "max_frame",
        "queued_bytes",
        "window",
    )

    def __init__(self, out: list[bytes | memoryview], budget: Budget) -> None:
        self._out = out
        self._budget = budget
        self.window = DEFAULT_WINDOW
        self.initial = DEFAULT_WINDOW
        """The peer's SETTINGS_INITIAL_WINDOW_SIZE."""
        self.max_frame = DEFAULT_FRAME_BYTES
        self.is_corked = False
        """The socket does not take more for now."""
        self.queued_bytes = 0
        """Sum of `unsent_bytes` of all streams."""
        self._produced = 0
        self._ready: OrderedDict[int, Stream] = OrderedDict()
        """Streams with something in their outbox and some window of their own, in the order of their turns."""

    def send(self, stream: Stream, parts: list[bytes], size: int) -> None:
        """Write or queue `parts`, `size` bytes together: whole messages with their prefixes."""
        if (
            stream.outbox is None
            and size <= stream.send_window
            and size <= self.window
            and size <= self.max_frame
            and self._produced < CHUNK_BYTES
            and not self.is_corked
        ):
            self._out.append(_head(size << 8 | DATA, 0, stream.id))
            self._out += parts
            stream.send_window -= size
            self.window -= size
            self._produced += size
            self._budget.earned += TOKENS_PER_ANSWER
            return
        if stream.outbox is None:
            stream.outbox = deque()
        stream.outbox.extend(map(memoryview, parts))
        stream.unsent_bytes += size
        self.queued_bytes += size
        if stream.send_window > 0:
            self._ready[stream.id] = stream

    def pump(self) -> list[Stream]:
        """Move as much as windows and the chunk allow to the next write; returns streams that have nothing left."""
        emptied: list[Stream] = []
        while self._ready and self.window > 0 and self._produced < CHUNK_BYTES and not self.is_corked:
            _, stream = self._ready.popitem(last=False)
            size = min(_ROUND_BYTES, stream.send_window, self.window, stream.unsent_bytes)
            self._emit(stream, size)
            if not stream.unsent_bytes:
                stream.outbox = None
                self._budget.earned += TOKENS_PER_ANSWER
                emptied.append(stream)
            elif stream.send_window > 0:
                self._ready[stream.id] = stream
        return emptied

    def _emit(self, stream: Stream, size: int) -> None:
        stream.send_window -= size
        stream.unsent_bytes -= size
        self.window -= size
        self.queued_bytes -= size
        self._produced += size
        self._budget.earned += size / BYTES_PER_TOKEN
        outbox = stream.outbox
        assert outbox is not None
        out = self._out
        while size > 0:
            left = min(size, self.max_frame)
            size -= left
            out.append(_head(left << 8 | DATA, 0, stream.id))
            while left:
                part = outbox[0]
                if len(part) <= left:
                    out.append(outbox.popleft())
                    left -= len(part)
                else:
                    out.append(part[:left])
                    outbox[0] = part[left:]
                    left = 0

    def written(self) -> None:
        """The socket has taken what was produced."""
        self._produced = 0

    def granted(self, stream: Stream, increment: int) -> bool:
        """WINDOW_UPDATE for a stream; false when its window overflows."""
        stream.send_window += increment
        if stream.outbox is not None and stream.send_window > 0:
            self._ready[stream.id] = stream
        return stream.send_window <= MAX_WINDOW

    def granted_to_all(self, increment: int) -> None:
        """WINDOW_UPDATE for the connection."""
        self.window += increment
        if self.window > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window overflows")

    def resize(self, initial: int, streams: dict[int, Stream]) -> None:
        """The peer's SETTINGS_INITIAL_WINDOW_SIZE changed: open streams follow, also below zero (section 6.9.2)."""
        change = initial - self.initial
        self.initial = initial
        for stream in streams.values():
            if not self.granted(stream, change):
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window overflows")
            if stream.send_window <= 0:
                self._ready.pop(stream.id, None)

    def limit_frames(self, size: int) -> None:
        """The peer's SETTINGS_MAX_FRAME_SIZE."""
        self.max_frame = min(size, _MAX_FRAME_BYTES)

    def forget(self, stream: Stream) -> None:
        """The stream is over: drop what it still had to send."""
        self._ready.pop(stream.id, None)
        self.queued_bytes -= stream.unsent_bytes
        stream.unsent_bytes = 0
        stream.outbox = None
