"""Compressed gRPC messages: which we read, and how far one may grow (gRPC, "Compression"). Ours are never compressed.

A message is flagged one by one; `grpc-encoding` only says what the flag means on this call.
"""

import zlib
from typing import Final

from stellwerk.edge.grpc.head import Refusal
from stellwerk.edge.grpc.status import Status

GZIP: Final = b"gzip"
ACCEPTED: Final = b"identity,gzip"
"""What `grpc-accept-encoding` says of us."""
MAX_RATIO: Final = 1032
"""Deflate makes no byte from less than this part of one (RFC 1951: 258 bytes from two bits)."""

_GZIP_FORMAT: Final = 31
"""zlib's `wbits`: gzip and nothing else, with any window."""
_UNDECLARED = Refusal(200, Status.INTERNAL, "a compressed message on a call without grpc-encoding")
_CORRUPT = Refusal(200, Status.INTERNAL, "a compressed message is not exactly one whole gzip member")


def objection(encoding: bytes) -> Refusal | None:
    """Why flagged messages of a call with this `grpc-encoding` cannot be read, or None."""
    if encoding == GZIP:
        return None
    if encoding == b"identity":
        return _UNDECLARED
    name = encoding[:32].decode("latin-1")
    return Refusal(
        200, Status.UNIMPLEMENTED, f"messages compressed with {name} are not supported: send gzip or identity"
    )


def inflated(packed: memoryview, limit: int) -> bytes | Refusal:
    """What a gzip message stands for, at most `limit` bytes; never makes more than one byte above that."""
    inflater = zlib.decompressobj(_GZIP_FORMAT)
    try:
        payload = inflater.decompress(packed, limit + 1)
    except zlib.error:
        return _CORRUPT
    if len(payload) > limit:
        limits = "the limits are max_message_bytes, and connection_window_bytes for all that come at once"
        message = f"a message grows to more than {limit} bytes when decompressed; {limits}"
        return Refusal(200, Status.RESOURCE_EXHAUSTED, message)
    if not inflater.eof or inflater.unused_data:
        return _CORRUPT
    return payload
