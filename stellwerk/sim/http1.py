"""HTTP/1.1 from bytes to requests, without a socket: what a simulated server needs, and strict about the rest.

Bodies by content-length or chunked; anything ambiguous (both, conflicting lengths, bare line feeds, folded headers) is
refused, because a test partner that is lenient hides the faults of what it tests. RFC 9112 sections 2 to 7.
"""

import re

from msgspec import Struct

_REQUEST_LINE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([!-~\x80-\xff]+) HTTP/1\.([01])")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MAX_LINE = 8_192


class HttpLimits(Struct, frozen=True):
    """Bounds of one connection."""

    max_head_bytes: int = 64 * 1024
    max_body_bytes: int = 64 * 1024 * 1024


class BadRequest(Exception):
    """The peer's bytes are not a request we accept; the connection ends after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class HttpRequest(Struct):
    """A complete request. `headers`: lower-case names, Latin-1 values, repeated ones joined with a comma."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    is_http10: bool

    @property
    def keeps_alive(self) -> bool:
        """Whether the client wants the connection to stay."""
        connection = self.headers.get("connection", "").lower()
        return "keep-alive" in connection if self.is_http10 else "close" not in connection


class RequestReader:
    """Feed bytes with `receive`, take requests with `next`."""

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._scanned = 0
        self._head: HttpRequest | None = None
        self._length: int | None = 0
        """Body bytes still to come; None: chunked."""
        self._body = bytearray()
        self._chunked_bytes = 0
        """Body and trailer of the chunked request so far."""
        self._in_trailer = False
        self.wants_continue = False
        """The peer waits for `100 Continue` before it sends the body; the caller answers and clears it."""

    def receive(self, data: bytes) -> None:
        """More bytes from the peer."""
        self._buffer += data

    @property
    def buffered(self) -> int:
        """Bytes received and not yet taken."""
        return len(self._buffer)

    @property
    def is_inside(self) -> bool:
        """Whether a request has begun and is not complete."""
        return self._head is not None or bool(self._buffer)

    def next(self) -> HttpRequest | None:
        """The next complete request, or None for more bytes. Raises BadRequest."""
        if self._head is None and not self._read_head():
            return None
        head = self._head
        assert head is not None
        body = self._read_chunked() if self._length is None else self._read_length(self._length)
        if body is None:
            return None
        head.body = body
        self._head = None
        self.wants_continue = False
        return head

    def _read_head(self) -> bool:
        buffer = self._buffer
        while buffer[:2] == b"\r\n":
            del buffer[:2]
            self._scanned = 0
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end < 0 or end > self._limits.max_head_bytes:
            if len(buffer) > self._limits.max_head_bytes:
                raise BadRequest(431, f"The request head exceeds {self._limits.max_head_bytes} bytes.")
            self._scanned = len(buffer)
            return False
        text = buffer[:end].decode("latin-1")
        del buffer[: end + 4]
        self._scanned = 0
        self._head = self._parse_head(text)
        return True

    def _parse_head(self, text: str) -> HttpRequest:
        line, *fields = text.split("\r\n")
        matched = _REQUEST_LINE.fullmatch(line)
        if matched is None:
            raise BadRequest(400, "Invalid HTTP request received.")
        headers: dict[str, str] = {}
        for field in fields:
            name, colon, value = field.partition(":")
            if not colon or not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
                raise BadRequest(400, "Invalid HTTP request received.")
            name = name.lower()
            value = value.strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        method, target, minor = matched.groups()
        self._frame(headers)
        has_body = self._length is None or self._length > 0
        self.wants_continue = has_body and minor == "1" and headers.get("expect", "").lower() == "100-continue"
        return HttpRequest(method, target, headers, b"", minor == "0")

    def _frame(self, headers: dict[str, str]) -> None:
        """How long the body is (RFC 9112 section 6.3)."""
        coding = headers.get("transfer-encoding")
        length = headers.get("content-length")
        if coding is not None:
            if length is not None or coding.lower() != "chunked":
                raise BadRequest(400, "Invalid HTTP request received.")
            self._length = None
            self._body, self._chunked_bytes, self._in_trailer = bytearray(), 0, False
        elif length is None:
            self._length = 0
        elif not _LENGTH.fullmatch(length):
            raise BadRequest(400, "Invalid HTTP request received.")
        else:
            self._length = int(length)
            self._check_size(self._length)

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_body_bytes:
            raise BadRequest(413, f"The request body exceeds {self._limits.max_body_bytes} bytes.")

    def _read_length(self, length: int) -> bytes | None:
        if length == 0:
            return b""
        if len(self._buffer) < length:
            return None
        if len(self._buffer) == length:
            body, self._buffer = bytes(self._buffer), bytearray()
            return body
        body = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return body

    def _read_chunked(self) -> bytes | None:
        position = 0
        buffer = self._buffer
        try:
            while True:
                end = buffer.find(b"\r\n", position, position + _MAX_LINE)
                if end < 0:
                    if len(buffer) - position >= _MAX_LINE:
                        raise BadRequest(400, "Invalid HTTP request received.")
                    return None
                line = bytes(buffer[position:end])
                if self._in_trailer:
                    position = end + 2
                    self._count(len(line) + 2)
                    if not line:
                        return bytes(self._body)
                    continue
                matched = _CHUNK_SIZE.fullmatch(line)
                if matched is None:
                    raise BadRequest(400, "Invalid HTTP request received.")
                size = int(matched[1], 16)
                self._check_size(self._chunked_bytes + size)
                if size == 0:
                    self._in_trailer = True
                    position = end + 2
                    continue
                if len(buffer) < end + 2 + size + 2:
                    return None
                if buffer[end + 2 + size : end + 4 + size] != b"\r\n":
                    raise BadRequest(400, "Invalid HTTP request received.")
                self._body += buffer[end + 2 : end + 2 + size]
                self._count(size)
                position = end + 4 + size
        finally:
            del buffer[:position]

    def _count(self, size: int) -> None:
        self._chunked_bytes += size
        self._check_size(self._chunked_bytes)
