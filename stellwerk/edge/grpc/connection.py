"""One HTTP/2 connection of a gRPC server as a machine: bytes and time in, events and bytes out (RFC 9113).

It knows no socket, no clock and no service. `receive` and `tick` append to `events`; `output` is what to write next.
A peer that breaks the rules of the connection is told so by GOAWAY, all its calls end, and `is_closing` becomes true.
"""

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Final

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc import answer
from stellwerk.edge.grpc import frames as h2
from stellwerk.edge.grpc.budget import Budget, Flood
from stellwerk.edge.grpc.counters import Counters
from stellwerk.edge.grpc.events import Closed, Event, HalfClosed, Opened
from stellwerk.edge.grpc.frame_reader import FrameReader
from stellwerk.edge.grpc.frames import ConnectionFault, ErrorCode
from stellwerk.edge.grpc.head import HeadReader, Refusal
from stellwerk.edge.grpc.intake import Intake
from stellwerk.edge.grpc.lifetime import Due, Lifetime
from stellwerk.edge.grpc.outflow import Outflow
from stellwerk.edge.grpc.past import Ended, Past
from stellwerk.edge.grpc.status import Status
from stellwerk.edge.grpc.stream import Stream

_KEEPALIVE: Final = b"stellwrk"
_LAST_CALL: Final = b"lastcall"
_YOUNG_SECONDS: Final = 1.0
"""A call reset while younger than this and unanswered counts as a rapid reset."""
_STREAMS_PER_TOKEN: Final = 64
_SETTINGS_PER_TOKEN: Final = 16
_TINY_BYTES: Final = 16
"""A DATA frame below this that completes nothing has to be paid for."""
_TRUNCATED: Final = Refusal(200, Status.INTERNAL, "the call ended within a message")
_EXPIRED: Final = "the deadline (grpc-timeout) has passed"

_message_prefix = Struct(">BI").pack
_pack_head = h2.HEAD.pack


class Connection:
    """Server side. Owner: one edge, which alone calls it; `wake` is called when a call has something to be written."""

    def __init__(self, limits: TransportLimits, counters: Counters, now: float, wake: Callable[[], None]) -> None:
        self.events: list[Event] = []
        """What happened and was not taken yet; the edge handles them in order and removes them."""
        self.is_closing = False
        """Write what `output` still has, then close the socket."""
        self._limits = limits
        self._counters = counters
        self._wake = wake
        self._now = now
        self._out: list[bytes | memoryview] = []
        self._budget = Budget(limits.max_control_frames_per_second, limits.max_concurrent_streams, now)
        self._heads = HeadReader(limits.max_header_list_bytes)
        self._intake = Intake(limits, self.events, self._out, counters)
        self._outflow = Outflow(self._out, self._budget)
        self._lifetime = Lifetime(limits, now)
        self._streams: dict[int, Stream] = {}
        self._past = Past()
        self._reader = FrameReader(self, limits.max_header_list_bytes)
        self._encoder_news = b""
        """What the next header block has to begin with."""
        self._accepts_to = h2.MAX_WINDOW
        """Streams above this id came after our last GOAWAY."""
        self._is_draining = False
        self._is_peer_leaving = False
        self._greet()

    @property
    def next_at(self) -> float:
        """When `tick` is due."""
        return self._lifetime.next_at

    def paths(self) -> Iterable[str]:
        """Of the open calls, one by one."""
        return (stream.path for stream in self._streams.values())

    def _greet(self) -> None:
        limits = self._limits
        self._out.append(
            h2.settings(
                (
                    (h2.MAX_CONCURRENT_STREAMS, limits.max_concurrent_streams),
                    (h2.INITIAL_WINDOW_SIZE, self._intake.stream_window),
                    (h2.MAX_HEADER_LIST_SIZE, limits.max_header_list_bytes),
                )
            )
        )
        self._out.append(h2.window_update(0, self._intake.size - h2.DEFAULT_WINDOW))

    # -- what the edge calls ----------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Bytes from the peer. Never raises for what they are."""
        if self.is_closing:
            return
        self._now = now
        self._lifetime.heard(now)
        try:
            self._reader.feed(data)
            self._intake.settle()
            if self._outflow.is_corked:
                self._check_unsent(sum(map(len, self._out)))
        except ConnectionFault as fault:
            self._fail(fault)

    def output(self) -> bytes:
        """The next bytes to write, about one chunk; empty when there is nothing to write for now."""
        for stream in self._outflow.pump():
            if stream.ending is not None:
                self._end(stream, stream.ending)
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        self._outflow.written()
        return data

    def cork(self, is_corked: bool) -> None:
        """Whether the socket is too full to take more; messages then wait here, where they are bounded."""
        self._outflow.is_corked = is_corked

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self.is_closing:
            return
        self._now = now
        for stream_id in self._lifetime.expired(now):
            stream = self._streams.get(stream_id)
            if stream is None:
                continue
            if stream.ending is not None:
                self._reset(stream, ErrorCode.CANCEL)
            else:
                self._counters.deadlines_exceeded += 1
                self._outflow.forget(stream)
                self._end(stream, (Status.DEADLINE_EXCEEDED, _EXPIRED))
        match self._lifetime.due(now):
            case Due.PING:
                self._out.append(h2.frame(h2.PING, 0, 0, _KEEPALIVE))
            case Due.LEAVE:
                self._counters.connections_reaped += 1
                self.drain(now)
            case Due.LAST_CALL:
                self._last_call()
            case Due.SILENT:
                self._counters.connections_reaped += 1
                self.abandon()

    def drain(self, now: float) -> None:
        """Take no new calls, let the open ones finish, then close. Two GOAWAYs, because calls may be on their way."""
        if self.is_closing or self._is_draining:
            return
        self._is_draining = True
        self._out.append(h2.goaway(h2.MAX_WINDOW, ErrorCode.NO_ERROR))
        self._out.append(h2.frame(h2.PING, 0, 0, _LAST_CALL))
        self._lifetime.leaving(now)

    def shut(self, message: str) -> None:
        """End every call with UNAVAILABLE, and the connection."""
        if self.is_closing:
            return
        for stream in tuple(self._streams.values()):
            self._outflow.forget(stream)
            self._end(stream, (Status.UNAVAILABLE, message))
        self._out.append(h2.goaway(self._past.last_id, ErrorCode.NO_ERROR))
        self.is_closing = True

    def abandon(self) -> None:
        """The peer is gone: end every call without a word."""
        self.is_closing = True
        for stream in tuple(self._streams.values()):
            self._forget(stream, Ended.BY_PEER)

    # -- what calls do ----------------------------------------------------------------------------------------------

    def send(self, stream: Stream, messages: Sequence[bytes]) -> None:
        parts: list[bytes] = []
        size = 0
        for message in messages:
            length = len(message)
            parts.append(_message_prefix(0, length))
            parts.append(message)
            size += 5 + length
        if not stream.has_answered:
            stream.has_answered = True
            self._write_headers(stream.id, h2.END_HEADERS, answer.OPENING)
        if parts:
            self._counters.messages_sent += len(messages)
            self._outflow.send(stream, parts, size)
            try:
                self._check_unsent(0)
            except ConnectionFault as fault:
                self._fail(fault)
        self._wake()

    def finish(self, stream: Stream, status: Status, message: str) -> None:
        stream.ending = (status, message)
        if stream.held:
            self._intake.forget(stream)
        if stream.outbox is None:
            self._end(stream, stream.ending)
        else:
            until = self._now + self._limits.idle_timeout_seconds
            self._lifetime.watch(stream.id, until, self._streams, len(self._streams))
        self._wake()

    def resume(self, stream: Stream) -> None:
        self._intake.replenish(stream)
        self._wake()

    # -- frames of the peer -----------------------------------------------------------------------------------------

    def on_data(self, stream_id: int, size: int, buf: bytes, start: int, stop: int, is_last: bool) -> None:
        intake = self._intake
        intake.arrived(size)
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_peer_done:
            intake.dropped(size)
            self._on_late(stream_id, stream)
            return
        content = stop - start
        stream.receive_window -= size
        if stream.receive_window < 0 or (stream.content_left is not None and content > stream.content_left):
            intake.dropped(size)
            is_overflow = stream.receive_window < 0
            self._break(stream, ErrorCode.FLOW_CONTROL_ERROR if is_overflow else ErrorCode.PROTOCOL_ERROR)
            return
        if stream.content_left is not None:
            stream.content_left -= content
        stream.is_peer_done = is_last
        if stream.ending is not None:
            intake.dropped(size)
            return
        intake.dropped(size - content)
        messages = self._counters.messages_received
        refusal = intake.feed(stream, buf, start, stop)
        if refusal is not None:
            self._refuse(stream, refusal)
        elif is_last:
            self._on_peer_done(stream)
        elif content < _TINY_BYTES and messages == self._counters.messages_received:
            self.on_noise("tiny DATA frames")

    def on_block(self, stream_id: int, block: bytes, is_last: bool) -> None:
        """Each block is decoded, also for streams that are refused: decoding has state."""
        stream = self._streams.get(stream_id)
        if stream_id > self._past.last_id:
            self._open(stream_id, block, is_last)
            return
        complaint = self._heads.trailers(block)
        if stream is None or stream.is_peer_done:
            self._on_late(stream_id, stream)
        elif complaint is not None or not is_last:
            self._break(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            self._on_peer_done(stream)

    def on_window_update(self, stream_id: int, increment: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and stream.updates_left:
            stream.updates_left -= 1
        else:
            self.on_noise("WINDOW_UPDATE frames")
        if stream_id == 0:
            if increment == 0:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            self._outflow.granted_to_all(increment)
        elif stream is None:
            self._require_past(stream_id)
        elif increment == 0:
            self._break(stream, ErrorCode.PROTOCOL_ERROR)
        elif not self._outflow.granted(stream, increment):
            self._break(stream, ErrorCode.FLOW_CONTROL_ERROR)

    def on_reset(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            self._require_past(stream_id)
            self.on_noise("RST_STREAM frames")
            return
        self._counters.resets_received += 1
        if not stream.has_answered and self._now - stream.opened_at < _YOUNG_SECONDS:
            self.on_noise("rapid resets")
        self._forget(stream, Ended.BY_PEER)

    def on_settings(self, values: dict[int, int], count: int) -> None:
        window = values.get(h2.INITIAL_WINDOW_SIZE, self._outflow.initial)
        cost = 1 + count // _SETTINGS_PER_TOKEN
        if window != self._outflow.initial:
            cost += len(self._streams) // _STREAMS_PER_TOKEN
            self._outflow.resize(window, self._streams)
        self._budget.spend(cost, self._now, "SETTINGS frames")
        if h2.MAX_FRAME_SIZE in values:
            self._outflow.limit_frames(values[h2.MAX_FRAME_SIZE])
        if values.get(h2.HEADER_TABLE_SIZE, h2.DEFAULT_TABLE_BYTES) < h2.DEFAULT_TABLE_BYTES:
            self._encoder_news = answer.TABLE_UNUSED
        self._out.append(h2.SETTINGS_ACK)
        self._lifetime.greeted()

    def on_ping(self, payload: bytes) -> None:
        self.on_noise("PING frames")
        self._out.append(h2.frame(h2.PING, h2.ACK, 0, payload))

    def on_pong(self, payload: bytes) -> None:
        self.on_noise("PING frames")
        if payload == _LAST_CALL and self._is_draining:
            self._last_call()

    def on_goaway(self) -> None:
        self.on_noise("GOAWAY frames")
        self._is_peer_leaving = True
        self._close_when_done()

    def on_noise(self, what: str) -> None:
        self._budget.spend(1, self._now, what)

    # -- what they come to ------------------------------------------------------------------------------------------

    def _open(self, stream_id: int, block: bytes, is_last: bool) -> None:
        head = self._heads.request(block)
        self._past.last_id = stream_id
        if len(self._streams) >= self._limits.max_concurrent_streams or stream_id > self._accepts_to:
            self._counters.streams_refused += 1
            self._turn_away(stream_id, ErrorCode.REFUSED_STREAM)
            return
        if head.malformed is not None or (is_last and head.content_bytes):
            self._counters.protocol_errors += 1
            self._turn_away(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        if head.refusal is not None:
            self._refuse_unopened(stream_id, is_last, head.refusal)
            return
        stream = Stream(self, stream_id, head, self._intake.stream_window, self._outflow.initial, self._now)
        self._streams[stream_id] = stream
        self._counters.streams_accepted += 1
        self._counters.streams_open += 1
        self._lifetime.busy()
        if head.timeout_seconds is not None:
            self._lifetime.watch(stream_id, self._now + head.timeout_seconds, self._streams, len(self._streams))
        self.events.append(Opened(stream))
        if is_last:
            self._on_peer_done(stream)

    def _on_peer_done(self, stream: Stream) -> None:
        stream.is_peer_done = True
        if stream.content_left:
            self._break(stream, ErrorCode.PROTOCOL_ERROR)
        elif stream.held:
            self._refuse(stream, _TRUNCATED)
        elif stream.ending is None:
            self.events.append(HalfClosed(stream))

    def _on_late(self, stream_id: int, stream: Stream | None) -> None:
        """DATA or HEADERS where none may come any more, or yet."""
        if stream is not None:
            self._break(stream, ErrorCode.STREAM_CLOSED)
            return
        self._require_past(stream_id)
        how = self._past.how(stream_id)
        if how is Ended.BY_BOTH:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "a frame after END_STREAM")
        if how is Ended.BY_PEER:
            self._out.append(h2.reset(stream_id, ErrorCode.STREAM_CLOSED))
        self.on_noise("frames for streams that are over")

    def _require_past(self, stream_id: int) -> None:
        """The frame may come late, but not early."""
        if self._past.how(stream_id) is Ended.NEVER_OPENED:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame for a stream that was never opened")

    # -- endings ----------------------------------------------------------------------------------------------------

    def _end(self, stream: Stream, ending: tuple[Status, str]) -> None:
        """Write the trailers; the call is over."""
        block = answer.closing(*ending) if stream.has_answered else answer.only(*ending)
        self._finish_stream(stream, block)

    def _refuse(self, stream: Stream, refusal: Refusal) -> None:
        """The transport itself ends a call with a status."""
        self._counters.calls_refused += 1
        self._outflow.forget(stream)
        if stream.has_answered:
            block = answer.closing(refusal.status, refusal.message)
        else:
            block = answer.only(refusal.status, refusal.message, refusal.http_status)
        self._finish_stream(stream, block)
        self._budget.spend(1, self._now, "refused calls")

    def _refuse_unopened(self, stream_id: int, is_peer_done: bool, refusal: Refusal) -> None:
        """The request is no call: answer it without ever telling of it."""
        self._counters.calls_refused += 1
        block = answer.only(refusal.status, refusal.message, refusal.http_status)
        self._write_headers(stream_id, h2.END_HEADERS | h2.END_STREAM, block)
        if is_peer_done:
            self._past.add(stream_id, Ended.BY_BOTH)
            self._budget.spend(1, self._now, "refused calls")
        else:
            self._turn_away(stream_id, ErrorCode.NO_ERROR)

    def _finish_stream(self, stream: Stream, block: bytes) -> None:
        self._write_headers(stream.id, h2.END_HEADERS | h2.END_STREAM, block)
        if stream.is_peer_done:
            self._forget(stream, Ended.BY_BOTH)
        else:
            self._reset(stream, ErrorCode.NO_ERROR)

    def _break(self, stream: Stream, code: ErrorCode) -> None:
        """A stream error: the peer broke a rule of the stream."""
        self._counters.protocol_errors += 1
        self._reset(stream, code)
        self._budget.spend(1, self._now, "stream errors")

    def _turn_away(self, stream_id: int, code: ErrorCode) -> None:
        """Never let the stream begin."""
        self._out.append(h2.reset(stream_id, code))
        self._past.add(stream_id, Ended.BY_US)
        self._budget.spend(1, self._now, "refused streams")

    def _reset(self, stream: Stream, code: ErrorCode) -> None:
        self._out.append(h2.reset(stream.id, code))
        self._forget(stream, Ended.BY_US)

    def _forget(self, stream: Stream, how: Ended) -> None:
        del self._streams[stream.id]
        stream.is_over = True
        if stream.held:
            self._intake.forget(stream)
        if stream.outbox is not None:
            self._outflow.forget(stream)
        self._past.add(stream.id, how)
        self._counters.streams_open -= 1
        self.events.append(Closed(stream))
        if not self._streams:
            self._lifetime.idle(self._now)
            self._close_when_done()

    def _close_when_done(self) -> None:
        if not self._streams and (self._is_peer_leaving or self._accepts_to != h2.MAX_WINDOW):
            self.is_closing = True

    def _last_call(self) -> None:
        """The second GOAWAY of a drain: from here on, what comes was sent after the peer knew."""
        if self._accepts_to != h2.MAX_WINDOW:
            return
        self._accepts_to = self._past.last_id
        self._out.append(h2.goaway(self._accepts_to, ErrorCode.NO_ERROR))
        self._lifetime.left()
        self._close_when_done()

    def _fail(self, fault: ConnectionFault) -> None:
        if isinstance(fault, Flood):
            self._counters.floods_refused += 1
        else:
            self._counters.protocol_errors += 1
        self._out.append(h2.goaway(self._past.last_id, fault.code, fault.reason))
        self.abandon()

    def _check_unsent(self, written: int) -> None:
        if self._outflow.queued_bytes + written > self._limits.max_unsent_bytes:
            raise Flood("bytes the peer does not read")

    def _write_headers(self, stream_id: int, flags: int, block: bytes) -> None:
        if self._encoder_news:
            block = self._encoder_news + block
            self._encoder_news = b""
        self._out.append(_pack_head(len(block) << 8 | h2.HEADERS, flags, stream_id) + block)
