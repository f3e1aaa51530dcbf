"""Header blocks of our answers: constant literals, so that encoding keeps no state and costs nothing (RFC 7541)."""

from typing import Final

from stellwerk.edge.grpc.compression import ACCEPTED
from stellwerk.edge.grpc.status import Status

MAX_MESSAGE_CHARACTERS: Final = 1024
"""Of a `grpc-message`; the rest is cut, because trailers must fit any peer's frame."""
TABLE_UNUSED: Final = b"\x20"
"""Dynamic table size update to 0: what an encoder says first when the peer's table became smaller (section 4.2)."""

_STATUS_200: Final = b"\x88"
_STATUS_NAME: Final = b"\x08"
"""Literal without indexing, name from static table entry 8, `:status`."""


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes((len(name),)) + name + _integer(len(value)) + value


def _integer(number: int) -> bytes:
    """A length in seven bits, or more where it must be (section 5.1)."""
    if number < 127:
        return bytes((number,))
    number -= 127
    encoded = bytearray((127,))
    while number >= 128:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_GRPC: Final = _literal(b"content-type", b"application/grpc") + _literal(b"grpc-accept-encoding", ACCEPTED)
"""Every response says what may be sent compressed: who learns it from a refusal only has lost a call."""
OPENING: Final = _STATUS_200 + _GRPC
"""The response's headers, before its first message."""
_BARE: Final = {status: _literal(b"grpc-status", b"%d" % status) for status in Status}


def closing(status: Status, message: str) -> bytes:
    """The trailers."""
    if not message:
        return _BARE[status]
    return _BARE[status] + _literal(b"grpc-message", percent_encoded(message[:MAX_MESSAGE_CHARACTERS]))


def only(status: Status, message: str, http_status: int = 200) -> bytes:
    """Headers and trailers in one block, for a call that is refused before it has begun."""
    first = _STATUS_200 if http_status == 200 else _STATUS_NAME + b"\x03%d" % http_status
    return first + _GRPC + closing(status, message)


def percent_encoded(text: str) -> bytes:
    """`grpc-message`: UTF-8 with all but printable ASCII percent-encoded, and `%` itself."""
    raw = text.encode("utf-8", "replace")
    if raw.isascii() and text.isprintable() and "%" not in text:
        return raw
    return b"".join(bytes((b,)) if 0x20 <= b <= 0x7E and b != 0x25 else b"%%%02X" % b for b in raw)
