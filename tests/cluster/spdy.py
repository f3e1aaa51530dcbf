"""SPDY/3.1 as kubectl speaks it to a kubelet: streams in one connection. Frames in, frames out, no sockets.

Just what the library of Kubernetes (moby/spdystream) uses: no flow control, no priorities.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

SYN_STREAM, SYN_REPLY, RST_STREAM, PING = 1, 2, 3, 6
FIN = 1
"""Flag: nothing more comes in this stream from this side."""
_VERSION = 3
_WORDS = """
options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow
authorization cache-control connection content-base content-encoding content-language content-length content-location
content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match
if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range
referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method
get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin
"""
_REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found"
    "500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov "
    "Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,"
    "sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.replace("_", " ").encode() for word in _WORDS.split()) + _REST.encode()
)
"""That of the specification, 2.6.10.1: both sides begin to compress with it."""


class Frame(NamedTuple):
    """`kind` 0: data of a stream. `headers` of a new stream; `payload` of a PING is its number."""

    kind: int
    stream: int
    flags: int = 0
    payload: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})


class Connection:
    """One side of a connection."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._reading = zlib.decompressobj(zdict=DICTIONARY)
        self._writing = zlib.compressobj(zdict=DICTIONARY)

    def received(self, data: bytes) -> Iterator[Frame]:
        """Frames that are whole now; those of other kinds are passed over."""
        self._rest += data
        while len(self._rest) >= 8:
            first, second = struct.unpack_from(">II", self._rest)
            flags, size = second >> 24, second & 0xFFFFFF
            if len(self._rest) < 8 + size:
                return
            payload = bytes(self._rest[8 : 8 + size])
            del self._rest[: 8 + size]
            if not first >> 31:
                yield Frame(0, first, flags, payload)
                continue
            kind = first & 0xFFFF
            if kind == SYN_STREAM:
                yield Frame(kind, struct.unpack_from(">I", payload)[0], flags, headers=self._headers(payload[10:]))
            elif kind in (RST_STREAM, PING):
                yield Frame(kind, struct.unpack_from(">I", payload)[0], flags, payload)

    def _headers(self, block: bytes) -> dict[str, str]:
        plain = self._reading.decompress(block)
        texts, at = [], 4
        for _ in range(2 * struct.unpack_from(">I", plain)[0]):
            (size,) = struct.unpack_from(">I", plain, at)
            texts.append(plain[at + 4 : at + 4 + size].decode())
            at += 4 + size
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def reply(self, stream: int) -> bytes:
        """A stream is taken, without headers."""
        block = self._writing.compress(struct.pack(">I", 0)) + self._writing.flush(zlib.Z_SYNC_FLUSH)
        return _control(SYN_REPLY, struct.pack(">I", stream) + block)

    def pong(self, ping: Frame) -> bytes:
        """The answer to a PING."""
        return _control(PING, ping.payload)

    def data(self, stream: int, payload: bytes, *, is_last: bool = False) -> bytes:
        """Bytes of a stream."""
        return struct.pack(">II", stream, (FIN if is_last else 0) << 24 | len(payload)) + payload


def _control(kind: int, payload: bytes) -> bytes:
    return struct.pack(">HHI", 0x8000 | _VERSION, kind, len(payload)) + payload
