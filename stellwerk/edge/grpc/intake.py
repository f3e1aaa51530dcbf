"""What comes in: receive windows, and gRPC messages put together from DATA.

Memory is bounded by the connection's window, and yet no large message can stall: half of the window is set aside, whole
message by whole message and first come first served, for those larger than a stream's window; an unfinished message
without such a reservation can hold a stream's window at most, all of them together a quarter of the connection's. What
is left over always suffices for every reservation, so the connection's window is never the one that blocks it.
Windows count compressed messages as they come. They are decompressed when they are whole, and what those of one read
grow to is bounded by the connection's window again.
"""

from collections import OrderedDict
from typing import Final

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc import compression
from stellwerk.edge.grpc.counters import Counters
from stellwerk.edge.grpc.events import Event, Message
from stellwerk.edge.grpc.frames import DEFAULT_WINDOW, MAX_WINDOW, ConnectionFault, ErrorCode, window_update
from stellwerk.edge.grpc.head import Refusal
from stellwerk.edge.grpc.status import Status
from stellwerk.edge.grpc.stream import Stream

PREFIX_BYTES: Final = 5
"""Of a gRPC message: a flag and four bytes of length."""

_BAD_FLAG = Refusal(200, Status.INTERNAL, "a message's first byte is neither 0 nor 1")
_CROWDED = Refusal(200, Status.RESOURCE_EXHAUSTED, "too many unfinished messages on this connection")


class Intake:
    """Receiving side of one connection. Owner: its `Connection`, which hands it the lists to write to.

    `stream.held` bytes of unfinished messages are the only ones not credited back to the connection's window.
    """

    __slots__ = (
        "_consumed",
        "_counters",
        "_events",
        "_held",
        "_inflated",
        "_max_held",
        "_max_message",
        "_out",
        "_replenish_at",
        "_unreserved",
        "_waiting",
        "_window",
        "size",
        "stream_window",
    )

    def __init__(
        self,
        limits: TransportLimits,
        events: list[Event],
        out: list[bytes | memoryview],
        counters: Counters,
    ) -> None:
        self._events = events
        self._out = out
        self._counters = counters
        self._max_message = limits.max_message_bytes
        largest = self._max_message + PREFIX_BYTES
        self.stream_window = min(max(limits.stream_window_bytes, DEFAULT_WINDOW), MAX_WINDOW // 4)
        """Bytes; never below what a peer may send before it has seen our settings."""
        self.size = min(max(limits.connection_window_bytes, 4 * self.stream_window, 2 * largest), MAX_WINDOW)
        """Bytes of the connection's window."""
        self._window = self.size
        self._consumed = 0
        self._inflated = 0
        """Bytes that the compressed messages of this read have grown to, or would have."""
        self._replenish_at = self.stream_window // 2
        self._unreserved = max(self.size // 2, largest)
        self._held = 0
        self._max_held = self.size // 4
        self._waiting: OrderedDict[int, Stream] = OrderedDict()

    def arrived(self, size: int) -> None:
        """A DATA frame's payload, padding included, counts against the connection's window."""
        self._window -= size
        if self._window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window")

    def dropped(self, size: int) -> None:
        """Bytes that need no further room: padding, and DATA for streams that are over."""
        self._consumed += size

    def settle(self) -> None:
        """A read is done. Give the connection's window back, once per turn at most and not in small change."""
        self._inflated = 0
        if self._consumed >= self.size // 4:
            self._out.append(window_update(0, self._consumed))
            self._window += self._consumed
            self._consumed = 0

    def feed(self, stream: Stream, buf: bytes, start: int, stop: int) -> Refusal | None:
        """The payload `buf[start:stop]` of a DATA frame, already counted; tells why the call must end, or None."""
        arrived = stop - start
        held = stream.held
        counted = 0 if stream.reserved else held
        if held:
            body = stream.body
            if body is not None:
                start = self._continue(stream, body, buf, start, stop)
            else:
                buf = self._rejoin(stream, buf, start, stop)
                start, stop = 0, len(buf)
        refusal = self._split(stream, buf, start, stop) if start < stop else None
        self._consumed += arrived + held - stream.held
        if not stream.reserved:
            self._held += stream.held - counted
            if self._held > self._max_held and stream.held:
                return _CROWDED
        if stream.held or stream.receive_window < self._replenish_at:
            self.replenish(stream)
        return refusal

    def _continue(self, stream: Stream, body: bytearray, buf: bytes, start: int, stop: int) -> int:
        """Fill the unfinished message; where the rest begins."""
        end = min(stop, start + stream.need - len(body))
        body += memoryview(buf)[start:end]
        stream.held += end - start
        if len(body) == stream.need:
            self._deliver(stream, bytes(body))
            stream.body = None
            stream.need = stream.held = 0
            self._release(stream)
        return end

    def _rejoin(self, stream: Stream, buf: bytes, start: int, stop: int) -> bytes:
        """What was kept unread and these bytes as one; nothing while it can still not be read."""
        held = stream.held + stop - start
        if held < stream.need + PREFIX_BYTES:
            stream.unread += memoryview(buf)[start:stop]
            stream.held = held
            return b""
        whole = b"".join((stream.unread, memoryview(buf)[start:stop]))
        stream.unread = b""
        stream.need = stream.held = 0
        self._release(stream)
        return whole

    def _split(self, stream: Stream, buf: bytes, start: int, stop: int) -> Refusal | None:
        """Deliver whole messages; keep what is left of an unfinished one."""
        while stop - start >= PREFIX_BYTES:
            size = int.from_bytes(buf[start + 1 : start + PREFIX_BYTES], "big")
            if buf[start]:
                refusal, start = self._flagged(stream, buf, start, stop, size)
                if refusal is not None:
                    return refusal
                continue
            if size > self._max_message:
                return self._too_large(size)
            body = start + PREFIX_BYTES
            start = body + size
            if start > stop:
                stream.body = bytearray(memoryview(buf)[body:stop])
                stream.need = size
                stream.held = stop - body + PREFIX_BYTES
                return None
            self._deliver(stream, buf[body:start])
        if start < stop:
            stream.unread = buf[start:stop]
            stream.held = stop - start
        return None

    def _flagged(self, stream: Stream, buf: bytes, start: int, stop: int, size: int) -> tuple[Refusal | None, int]:
        """The same for one message whose flag is not 0; also where the rest begins."""
        objection = compression.objection(stream.encoding) if buf[start] == 1 else _BAD_FLAG
        if objection is None and size > self._max_message:
            objection = self._too_large(size)
        if objection is not None:
            return objection, stop
        end = start + PREFIX_BYTES + size
        if end > stop:
            stream.unread = bytearray(memoryview(buf)[start:stop])
            stream.need = size
            stream.held = stop - start
            return None, stop
        limit = min(self._max_message, self.size - self._inflated)
        payload = compression.inflated(memoryview(buf)[start + PREFIX_BYTES : end], limit)
        if isinstance(payload, Refusal):
            self._inflated += min(limit, size * compression.MAX_RATIO)
            return payload, stop
        self._inflated += len(payload)
        self._deliver(stream, payload)
        return None, end

    def _too_large(self, size: int) -> Refusal:
        limit = f"the limit is {self._max_message} (max_message_bytes)"
        return Refusal(200, Status.RESOURCE_EXHAUSTED, f"a message takes {size} bytes; {limit}")

    def _deliver(self, stream: Stream, payload: bytes) -> None:
        self._events.append(Message(stream, payload))
        self._counters.messages_received += 1

    def replenish(self, stream: Stream) -> None:
        """Open the stream's window again, unless its handler has paused it."""
        if stream.is_paused or stream.is_peer_done or stream.is_over:
            return
        whole = stream.need + PREFIX_BYTES
        missing = whole - stream.held if stream.held else 0
        if whole > self.stream_window and not stream.reserved and stream.held:
            self._reserve(stream, whole)
        target = missing if stream.reserved else self.stream_window - stream.held
        grant = target - stream.receive_window
        if grant >= self._replenish_at or (grant > 0 and stream.receive_window < missing):
            stream.receive_window = target
            self._out.append(window_update(stream.id, grant))

    def _reserve(self, stream: Stream, size: int) -> None:
        if size > self._unreserved or (self._waiting and next(iter(self._waiting)) != stream.id):
            self._waiting[stream.id] = stream
            return
        self._waiting.pop(stream.id, None)
        self._unreserved -= size
        self._held -= stream.held
        stream.reserved = size

    def _release(self, stream: Stream) -> None:
        if not stream.reserved:
            return
        self._unreserved += stream.reserved
        stream.reserved = 0
        self._admit()

    def _admit(self) -> None:
        """Give freed room to those that wait for it, in order; a paused one asks again when it is resumed."""
        while self._waiting:
            stream = next(iter(self._waiting.values()))
            if stream.is_paused:
                del self._waiting[stream.id]
                continue
            self.replenish(stream)
            if not stream.reserved:
                return

    def forget(self, stream: Stream) -> None:
        """The stream is over: what it held is free."""
        if self._waiting.pop(stream.id, None) is not None and not stream.reserved:
            self._admit()
        if stream.held:
            self._consumed += stream.held
            if not stream.reserved:
                self._held -= stream.held
            stream.body = None
            stream.unread = b""
            stream.held = 0
        self._release(stream)
