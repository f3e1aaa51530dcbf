"""The head of a request: HPACK in, a checked gRPC call out.

Checks are those of RFC 9113 section 8 (malformed requests) and of gRPC over HTTP/2 (method, content type, timeout).
A proxy sends nearly the same block for every call, so heads are remembered by the bytes they came in.
"""

import logging
from functools import lru_cache
from typing import Any, Final

from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.hpack import Decoder
from msgspec import Struct

from stellwerk.edge.grpc.budget import Flood
from stellwerk.edge.grpc.frames import ConnectionFault, ErrorCode
from stellwerk.edge.grpc.status import Status

Fields = tuple[tuple[bytes, bytes], ...]

_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
_REQUIRED: Final = frozenset((b":method", b":scheme", b":path"))
_CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_NAME_BYTES: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
_SECONDS_PER_UNIT: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_FIELD_OVERHEAD: Final = 32
"""What a field counts beyond its bytes (RFC 9113, section 6.5.2)."""
_DECODING_MARGIN: Final = 4
"""How much larger than the limit a list may grow before decoding stops and the connection with it; between the two
only the stream is refused, because the decoder's state is still whole."""
_MAX_REMEMBERED: Final = 64
_MAX_REMEMBERED_BYTES: Final = 1024
_MAX_KNOWN_BYTES: Final = 128


logging.getLogger("hpack").setLevel(logging.INFO)
# At DEBUG it writes every header it decodes, keys and cookies included.


class Refusal(Struct, frozen=True):
    """Why a well-formed request is no call of ours: answered by one trailers-only response."""

    http_status: int
    status: Status
    message: str


class Head(Struct, frozen=True):
    """A request's head, checked."""

    fields: Fields
    path: str = ""
    timeout_seconds: float | None = None
    content_bytes: int | None = None
    """`content-length`, where a peer sends one."""
    encoding: bytes = b"identity"
    """`grpc-encoding`: how messages that are flagged as compressed are."""
    malformed: str | None = None
    """What makes the request malformed; then nothing else holds."""
    refusal: Refusal | None = None


class HeadReader:
    """Decodes one connection's header blocks, in order; every block must pass through here. Owner: its `Connection`."""

    __slots__ = ("_decoder", "_max_list_bytes", "_remembered", "_table")

    def __init__(self, max_list_bytes: int) -> None:
        self._max_list_bytes = max_list_bytes
        self._decoder = Decoder(max_list_bytes * _DECODING_MARGIN)
        self._table: Any = self._decoder.header_table
        self._remembered: dict[bytes, Head] = {}

    def request(self, block: bytes) -> Head:
        """The head that `block` stands for. Raises `ConnectionFault` when the decoder's state is lost."""
        head = self._remembered.get(block)
        if head is not None:
            return head
        before = self._state()
        fields = self._decode(block)
        head = self._check(fields)
        if not _is_same(before, self._state()):
            self._remembered.clear()
        elif len(block) <= _MAX_REMEMBERED_BYTES and len(self._remembered) < _MAX_REMEMBERED:
            self._remembered[block] = head
        return head

    def trailers(self, block: bytes) -> str | None:
        """What makes these trailers malformed, or None. Raises `ConnectionFault` like `request`."""
        before = self._state()
        fields = self._decode(block)
        if not _is_same(before, self._state()):
            self._remembered.clear()
        for name, value in fields:
            if name.startswith(b":"):
                return "a pseudo-header among the trailers"
            if complaint := _complaint(name, value):
                return complaint
        return None

    def _state(self) -> tuple[object, int, int]:
        """Changes whenever a block would decode differently, or decoding it again would do something else."""
        entries = self._table.dynamic_entries
        return (entries[0] if entries else None, len(entries), self._table.maxsize)

    def _decode(self, block: bytes) -> Fields:
        try:
            return tuple(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            raise Flood("header bytes") from None
        except (HPACKError, IndexError, ValueError):
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "undecodable header block") from None

    def _check(self, fields: Fields) -> Head:
        pseudo: dict[bytes, bytes] = {}
        regular: dict[bytes, bytes] = {}
        size = 0
        for name, value in fields:
            size += len(name) + len(value) + _FIELD_OVERHEAD
            if name.startswith(b":"):
                if regular or name in pseudo or name not in _PSEUDO or _has_bad_value(value):
                    return Head(fields, malformed="a misplaced, repeated or unknown pseudo-header")
                pseudo[name] = value
            else:
                check = _complaint_again if len(name) + len(value) <= _MAX_KNOWN_BYTES else _complaint
                if complaint := check(name, value):
                    return Head(fields, malformed=complaint)
                regular.setdefault(name, value)
        if not pseudo.keys() >= _REQUIRED or not pseudo[b":path"].startswith((b"/", b"*")):
            return Head(fields, malformed="a missing pseudo-header")
        if size > self._max_list_bytes:
            message = f"the headers take {size} bytes; the limit is {self._max_list_bytes}"
            return Head(fields, refusal=Refusal(431, Status.RESOURCE_EXHAUSTED, message))
        return _call(fields, pseudo, regular)


def timeout_seconds(value: bytes) -> float | None:
    """`grpc-timeout` as seconds; None when it is not one: at most eight digits and a unit."""
    text = value.decode("latin-1")
    unit = _SECONDS_PER_UNIT.get(text[-1:])
    digits = text[:-1]
    if unit is None or not digits.isascii() or not digits.isdigit() or len(digits) > 8:
        return None
    return int(digits) * unit


def _is_same(before: tuple[object, int, int], after: tuple[object, int, int]) -> bool:
    return before[0] is after[0] and before[1:] == after[1:]


def _has_bad_value(value: bytes) -> bool:
    return b"\0" in value or b"\r" in value or b"\n" in value or value.strip(b" \t") != value


def _complaint(name: bytes, value: bytes) -> str | None:
    """Why RFC 9113 section 8.2 forbids this field."""
    if not name or name.translate(None, _NAME_BYTES):
        return "a field name with forbidden characters"
    if _has_bad_value(value):
        return "a field value with forbidden characters"
    if name in _CONNECTION_SPECIFIC or (name == b"te" and value != b"trailers"):
        return "a connection-specific field"
    return None


_complaint_again: Final = lru_cache(maxsize=512)(_complaint)
"""The same for fields short enough to be remembered; most come with every call."""


def _call(fields: Fields, pseudo: dict[bytes, bytes], regular: dict[bytes, bytes]) -> Head:
    length = regular.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) <= 18):
        return Head(fields, malformed="a content-length that is no number")
    path = pseudo[b":path"].decode("latin-1")
    timeout = None
    refusal = None
    content_type = regular.get(b"content-type", b"").lower()
    if pseudo[b":method"] != b"POST":
        refusal = Refusal(405, Status.INTERNAL, "gRPC calls are POST requests")
    elif not content_type.startswith(b"application/grpc") or content_type[16:17] not in (b"", b"+", b";"):
        refusal = Refusal(415, Status.INVALID_ARGUMENT, "gRPC calls have the content-type application/grpc")
    elif b"grpc-timeout" in regular:
        timeout = timeout_seconds(regular[b"grpc-timeout"])
        if timeout is None:
            refusal = Refusal(400, Status.INTERNAL, "grpc-timeout is at most eight digits and one of H M S m u n")
    encoding = regular.get(b"grpc-encoding", b"identity")
    return Head(fields, path, timeout, None if length is None else int(length), encoding, refusal=refusal)
