"""Reads one HTTP/1.1 answer from bytes as they come: status, and a body of bounded size. No I/O.

The scraper asks thousands of pages a second from servers it has no reason to trust, with GET, one at a time on a
connection. That needs a small part of HTTP (RFC 9112): lengths, chunks, end by close, informational answers. What is
ambiguous or too long breaks the answer, and the connection with it.
"""

import re
from enum import Enum

from msgspec import Struct

MAX_HEAD_BYTES = 32 * 1024
_MAX_INFORMATIONAL = 8
_FREE_CHUNKS = 4096
_MIN_CHUNK_BYTES = 64
_MAX_CHUNK_LINE = 256

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [^\r\n]*)?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;[^\r\n]*)?")
_LENGTH = re.compile(r"[0-9]{1,15}")


class Answer(Struct, frozen=True, gc=False):
    """A whole answer. `is_reusable`: the connection may carry another request."""

    status: int
    body: bytes
    is_reusable: bool


class Broken(Struct, frozen=True, gc=False):
    """The answer cannot be read; the connection is of no more use. `reason` quotes nothing of the answer."""

    reason: str


class _State(Enum):
    HEAD = 0
    LENGTH = 1
    CHUNK_SIZE = 2
    CHUNK = 3
    TRAILERS = 4
    UNTIL_CLOSE = 5


class AnswerReader:
    """One answer to one GET. Feed it until it returns something else than None, then make a new one."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._input = bytearray()
        self._body = bytearray()
        self._state = _State.HEAD
        self._remaining = 0
        self._chunks = 0
        self._status = 0
        self._is_reusable = False
        self._informational = 0
        self.has_started = False

    def feed(self, data: bytes) -> Answer | Broken | None:
        """None: more is needed. Bytes beyond the answer break it: nothing else was asked for."""
        self.has_started = True
        self._input += data
        while True:
            state = self._state
            if state is _State.HEAD:
                step = self._read_head()
            elif state is _State.LENGTH:
                step = self._read_length()
            elif state is _State.CHUNK_SIZE:
                step = self._read_chunk_size()
            elif state is _State.CHUNK:
                step = self._read_chunk()
            elif state is _State.TRAILERS:
                step = self._read_trailers()
            else:
                step = self._read_rest()
            if step is not _AGAIN:
                return step

    def eof(self) -> Answer | Broken:
        """The server closed its side."""
        if self._state is _State.UNTIL_CLOSE:
            return Answer(self._status, bytes(self._body), False)
        return Broken("the connection was closed in the middle of the answer" if self.has_started else "closed")

    def _read_head(self) -> "_Step":
        end, width = _end_of_head(self._input)
        if end < 0:
            return Broken("the header is too long") if len(self._input) > MAX_HEAD_BYTES else None
        if end > MAX_HEAD_BYTES:
            return Broken("the header is too long")
        head = bytes(self._input[:end])
        del self._input[: end + width]
        lines = head.replace(b"\r\n", b"\n").split(b"\n")
        match = _STATUS_LINE.fullmatch(lines[0])
        if match is None:
            return Broken("the answer is not HTTP/1.1")
        self._status = int(match[2])
        headers = _headers(lines[1:])
        if headers is None:
            return Broken("a header line is malformed")
        if 100 <= self._status < 200:
            self._informational += 1
            if self._status == 101 or self._informational > _MAX_INFORMATIONAL:
                return Broken("too many informational answers")
            return _AGAIN
        return self._begin_body(headers, is_http_11=match[1] == b"1")

    def _begin_body(self, headers: dict[str, str], *, is_http_11: bool) -> "_Step":
        connection = {token.strip() for token in headers.get("connection", "").lower().split(",")}
        self._is_reusable = "close" not in connection and (is_http_11 or "keep-alive" in connection)
        if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            return Broken("the page is compressed, although that was not asked for")
        coding = headers.get("transfer-encoding")
        length = headers.get("content-length")
        if coding is not None:
            if length is not None or coding.strip().lower() != "chunked":
                return Broken("the length of the answer is ambiguous")
            self._state = _State.CHUNK_SIZE
        elif self._status in (204, 304):
            self._state, self._remaining = _State.LENGTH, 0
        elif length is None:
            self._state, self._is_reusable = _State.UNTIL_CLOSE, False
        elif _LENGTH.fullmatch(length) is None:
            return Broken("the length of the answer is malformed")
        elif int(length) > self._max_body_bytes:
            return Broken(_too_large(self._max_body_bytes))
        else:
            self._state, self._remaining = _State.LENGTH, int(length)
        return _AGAIN

    def _read_length(self) -> "_Step":
        if len(self._input) < self._remaining:
            return None
        if len(self._input) > self._remaining:
            return Broken("more came than was asked for")
        return Answer(self._status, bytes(self._input), self._is_reusable)

    def _read_chunk_size(self) -> "_Step":
        line = self._take_line()
        if line is None or isinstance(line, Broken):
            return line
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            return Broken("a chunk is malformed")
        self._remaining = int(match[1], 16)
        if self._remaining == 0:
            self._state = _State.TRAILERS
            return _AGAIN
        self._chunks += 1
        if self._chunks > _FREE_CHUNKS + len(self._body) // _MIN_CHUNK_BYTES:
            return Broken("the chunks are too small")
        if len(self._body) + self._remaining > self._max_body_bytes:
            return Broken(_too_large(self._max_body_bytes))
        self._state = _State.CHUNK
        return _AGAIN

    def _read_chunk(self) -> "_Step":
        size = self._remaining
        if len(self._input) < size + 2:
            return None
        if self._input[size : size + 2] != b"\r\n":
            return Broken("a chunk is malformed")
        self._body += self._input[:size]
        del self._input[: size + 2]
        self._state = _State.CHUNK_SIZE
        return _AGAIN

    def _read_trailers(self) -> "_Step":
        line = self._take_line()
        if line is None or isinstance(line, Broken):
            return line
        if line:
            self._chunks += 1
            return Broken("too many trailers") if self._chunks > 2 * _FREE_CHUNKS + len(self._body) else _AGAIN
        if self._input:
            return Broken("more came than was asked for")
        return Answer(self._status, bytes(self._body), self._is_reusable)

    def _read_rest(self) -> "_Step":
        self._body += self._input
        self._input.clear()
        return Broken(_too_large(self._max_body_bytes)) if len(self._body) > self._max_body_bytes else None

    def _take_line(self) -> "bytes | Broken | None":
        end = self._input.find(b"\r\n", 0, _MAX_CHUNK_LINE)
        if end < 0:
            return Broken("a chunk is malformed") if len(self._input) >= _MAX_CHUNK_LINE else None
        line = bytes(self._input[:end])
        del self._input[: end + 2]
        return line


class _Again(Enum):
    AGAIN = 0


_AGAIN = _Again.AGAIN
_Step = Answer | Broken | None | _Again


def _end_of_head(data: bytearray) -> tuple[int, int]:
    """Where the head ends and how long its end mark is; (-1, 0) if not yet. Bare LF is accepted."""
    crlf = data.find(b"\r\n\r\n")
    lf = data.find(b"\n\n", 0, crlf if crlf >= 0 else MAX_HEAD_BYTES + 2)
    if lf >= 0:
        return lf, 2
    return (crlf, 4) if crlf >= 0 else (-1, 0)


def _headers(lines: list[bytes]) -> dict[str, str] | None:
    """Lower-case names; a repeated length that differs, or an obsolete folded line, is malformed (None)."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        key, text = name.lower(), value.strip(" \t")
        if not colon or not key or key != key.strip() or "\r" in text:
            return None
        if key in headers:
            if key == "content-length" and headers[key] != text:
                return None
            text = text if key == "content-length" else f"{headers[key]}, {text}"
        headers[key] = text
    return headers


def _too_large(limit: int) -> str:
    return f"the page is larger than {limit} bytes"
