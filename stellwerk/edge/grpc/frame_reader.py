"""The peer's bytes, cut into frames; what is wrong with a frame by itself is found here, what it means elsewhere."""

from struct import Struct
from typing import Final, Protocol

from stellwerk.edge.grpc import frames as h2
from stellwerk.edge.grpc import peer_settings
from stellwerk.edge.grpc.budget import Flood
from stellwerk.edge.grpc.frames import ConnectionFault, ErrorCode

_unpack_head: Final = Struct(">IBI").unpack_from


class FrameHandler(Protocol):
    """Who is told of the frames; may raise `ConnectionFault`, too."""

    is_closing: bool

    def on_data(self, stream_id: int, size: int, buf: bytes, start: int, stop: int, is_last: bool) -> None:
        """DATA with the content `buf[start:stop]`; `size` counts for flow control, padding included."""

    def on_block(self, stream_id: int, block: bytes, is_last: bool) -> None:
        """A whole header block, CONTINUATION included."""

    def on_window_update(self, stream_id: int, increment: int) -> None: ...

    def on_reset(self, stream_id: int) -> None: ...

    def on_settings(self, values: dict[int, int], count: int) -> None:
        """The last value of each setting, of `count` in the frame."""

    def on_ping(self, payload: bytes) -> None: ...

    def on_pong(self, payload: bytes) -> None: ...

    def on_goaway(self) -> None: ...

    def on_noise(self, what: str) -> None:
        """A frame that means nothing to us; `what` names its kind, in the plural."""


class FrameReader:
    """Input of one connection. Owner: its `Connection`, which is also the handler.

    Keeps less than one frame of input and one unfinished header block.
    """

    __slots__ = (
        "_block",
        "_block_id",
        "_block_is_last",
        "_handler",
        "_has_preface",
        "_max_block_bytes",
        "_rest",
        "is_met",
    )

    def __init__(self, handler: FrameHandler, max_block_bytes: int) -> None:
        self._handler = handler
        self._max_block_bytes = max_block_bytes
        self._rest = b""
        self._has_preface = False
        self.is_met = False
        """The peer's first SETTINGS have come."""
        self._block: bytearray | None = None
        self._block_id = 0
        self._block_is_last = False

    @property
    def kept_bytes(self) -> int:
        """Input that waits for more."""
        return len(self._rest) + len(self._block or b"")

    def feed(self, data: bytes) -> None:
        """Handle the frames that are whole now. Raises `ConnectionFault`; then feed no more."""
        buf = self._rest + data if self._rest else data
        start = 0
        if not self._has_preface:
            known = len(h2.PREFACE)
            if buf[:known] != h2.PREFACE[: len(buf)]:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not an HTTP/2 client")
            if len(buf) < known:
                self._rest = buf
                return
            self._has_preface = True
            start = known
        self._rest = buf[self._cut(buf, start) :]

    def _cut(self, buf: bytes, pos: int) -> int:
        """Handle the whole frames from `pos` on; where the rest begins."""
        size = len(buf)
        handler = self._handler
        while size - pos >= h2.HEAD_BYTES and not handler.is_closing:
            word, flags, stream_id = _unpack_head(buf, pos)
            length = word >> 8
            start = pos + h2.HEAD_BYTES
            stop = start + length
            if length > h2.DEFAULT_FRAME_BYTES:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame above SETTINGS_MAX_FRAME_SIZE")
            if stop > size:
                break
            pos = stop
            kind = word & 0xFF
            stream_id &= h2.STREAM_ID
            if kind == h2.DATA and self.is_met and self._block is None:
                if flags & h2.PADDED:
                    start, stop = _unpadded(buf, start, stop)
                handler.on_data(stream_id, length, buf, start, stop, bool(flags & h2.END_STREAM))
            else:
                self._other(kind, flags, stream_id, buf[start:stop])
        return pos

    def _other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if not self.is_met and (kind != h2.SETTINGS or flags & h2.ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the preface is not followed by SETTINGS")
        if self._block is not None and (kind != h2.CONTINUATION or stream_id != self._block_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
        match kind:
            case h2.HEADERS:
                self._headers(flags, stream_id, payload)
            case h2.CONTINUATION:
                self._continuation(flags, payload)
            case h2.WINDOW_UPDATE:
                _check_size(len(payload) == 4, "WINDOW_UPDATE")
                self._handler.on_window_update(stream_id, int.from_bytes(payload, "big") & h2.MAX_WINDOW)
            case h2.RST_STREAM:
                _check_size(len(payload) == 4, "RST_STREAM")
                self._handler.on_reset(stream_id)
            case h2.PRIORITY:
                _check_size(len(payload) == 5, "PRIORITY")
                _check(stream_id != 0, "PRIORITY without a stream")
                self._handler.on_noise("PRIORITY frames")
            case h2.SETTINGS | h2.PING | h2.GOAWAY:
                _check(stream_id == 0, "a frame of the connection on a stream")
                self._of_connection(kind, bool(flags & h2.ACK), payload)
            case h2.PUSH_PROMISE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push")
            case _:
                self._handler.on_noise("frames of unknown types")

    def _of_connection(self, kind: int, is_ack: bool, payload: bytes) -> None:
        if kind == h2.PING:
            _check_size(len(payload) == 8, "PING")
            if is_ack:
                self._handler.on_pong(payload)
            else:
                self._handler.on_ping(payload)
        elif kind == h2.GOAWAY:
            _check_size(len(payload) >= 8, "GOAWAY")
            self._handler.on_goaway()
        elif is_ack:
            _check_size(not payload, "SETTINGS acknowledgement")
            self._handler.on_noise("SETTINGS frames")
        else:
            values = peer_settings.read(payload)
            self.is_met = True
            self._handler.on_settings(values, len(payload) // h2.SETTING.size)

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        _check(stream_id & 1 == 1, "HEADERS for a stream that no client can open")
        start, stop = _unpadded(payload, 0, len(payload)) if flags & h2.PADDED else (0, len(payload))
        if flags & h2.PRIORITIZED:
            start += 5
            _check_size(start <= stop, "HEADERS with priority")
        is_last = bool(flags & h2.END_STREAM)
        if flags & h2.END_HEADERS:
            self._handler.on_block(stream_id, payload[start:stop], is_last)
        else:
            self._block = bytearray(payload[start:stop])
            self._block_id = stream_id
            self._block_is_last = is_last

    def _continuation(self, flags: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._handler.on_noise("CONTINUATION frames")
        block += payload
        if len(block) > self._max_block_bytes:
            raise Flood("header bytes")
        if flags & h2.END_HEADERS:
            self._block = None
            self._handler.on_block(self._block_id, bytes(block), self._block_is_last)


def _unpadded(buf: bytes, start: int, stop: int) -> tuple[int, int]:
    """Where the content of a padded frame begins and ends."""
    if start == stop or buf[start] >= stop - start:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return start + 1, stop - buf[start]


def _check(is_right: bool, what: str) -> None:
    if not is_right:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, what)


def _check_size(is_right: bool, what: str) -> None:
    if not is_right:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{what} of a wrong length")
