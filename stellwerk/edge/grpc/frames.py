"""HTTP/2 frames (RFC 9113): the numbers, how a frame is packed, and the faults that end a connection or a stream."""

from collections.abc import Iterable
from enum import IntEnum
from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first."""

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

HEAD_BYTES: Final = 9
DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_BYTES: Final = 16_384
DEFAULT_TABLE_BYTES: Final = 4_096
MAX_FRAME_BYTES: Final = 2**24 - 1
MAX_WINDOW: Final = 2**31 - 1
STREAM_ID: Final = 2**31 - 1
"""Mask of the 31 bits of a stream id; the topmost bit is reserved and ignored."""

HEAD: Final = Struct(">IBI")
"""A frame's nine bytes as three numbers: length in the upper 24 bits and type in the lower 8, flags, stream id."""
WORD: Final = Struct(">I")
SETTING: Final = Struct(">HI")

_head = HEAD.pack
_word = WORD.pack


class ErrorCode(IntEnum):
    """RFC 9113, section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFault(Exception):
    """The peer broke a rule that ends the connection; never leaves `Connection`."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """One whole frame."""
    return _head(len(payload) << 8 | kind, flags, stream_id) + payload


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(name, value) for name, value in values))


def window_update(stream_id: int, increment: int) -> bytes:
    return _head(4 << 8 | WINDOW_UPDATE, 0, stream_id) + _word(increment)


def reset(stream_id: int, code: ErrorCode) -> bytes:
    return _head(4 << 8 | RST_STREAM, 0, stream_id) + _word(code)


def goaway(last_stream_id: int, code: ErrorCode, reason: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _word(last_stream_id) + _word(code) + reason.encode())


SETTINGS_ACK: Final = frame(SETTINGS, ACK, 0, b"")
