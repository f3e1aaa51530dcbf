"""Server-sent events over any chunk boundary: the bytes that may go out, and what the data in them decodes to.

The decoder gets the raw event with everything but its data blanked by spaces: JSON does not mind, and offsets are the
same in both. Lines end in LF, CRLF or CR (WHATWG HTML, section 9.2.6).
"""

import re
from collections.abc import Callable
from typing import Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")

MAX_EVENT_BYTES = 1024 * 1024
"""Longest event that is looked into; a longer one goes through as it comes. Bounds the memory of a stream."""
_DATA = b"data:"
_OBJECT = re.compile(rb"data:[ \t]{0,8}+\{")
"""A line of data that starts a JSON object; other data is of no interest."""
_MAYBE_OBJECT = re.compile(rb"\Z|d(?:\Z|a(?:\Z|t(?:\Z|a(?:\Z|:[ \t]{0,8}+(?:\Z|\{)))))")
"""What such a line may look like while it is incomplete."""


class Piece(Struct, Generic[T], gc=False):
    """Bytes that may go out. `found` is what the decoder made of the data in them; None if there was nothing for it."""

    raw: bytes
    found: T | None = None


class EventReader(Generic[T]):
    """Cuts a stream into pieces whose concatenation is the stream. Owned by one stream.

    `decode` gets text and returns None unless that is one complete JSON object. A line whose data is complete goes out
    at once; only an object that is spread over several lines of data waits for the end of its event.
    """

    def __init__(self, decode: Callable[[bytes], T | None], max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._decode = decode
        self._max_event_bytes = max_event_bytes
        self._event = bytearray()
        """Whole lines of an event whose object is not complete yet."""
        self._line = bytearray()
        """The line that is not complete yet."""
        self._passes_line = False
        """The rest of the line is of no interest, and its start is out already."""
        self._passes_event = False
        self._after_cr = False

    def feed(self, chunk: bytes, is_last: bool = False) -> list[Piece[T]]:
        """The pieces that `chunk` completes. With `is_last`, everything that is left."""
        pieces: list[Piece[T]] = []
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == 0x0A:
                pieces.append(Piece(b"\n")) if not self._event else self._event.extend(b"\n")
                chunk = chunk[1:]
        for line in chunk.splitlines(keepends=True):
            if line[-1] in b"\r\n":
                self._end_line(line, pieces)
            else:
                self._extend_line(line, pieces)
        self._after_cr = chunk[-1:] == b"\r" or (self._after_cr and not chunk)
        if is_last:
            self._finish(pieces)
        return pieces

    def _extend_line(self, part: bytes, pieces: list[Piece[T]]) -> None:
        if self._passes_line:
            pieces.append(Piece(part))
            return
        self._line += part
        is_of_interest = self._event or (not self._passes_event and _MAYBE_OBJECT.match(self._line))
        if not is_of_interest or self._held_bytes > self._max_event_bytes:
            self._let_through(pieces)
            self._passes_line = True

    def _end_line(self, line: bytes, pieces: list[Piece[T]]) -> None:
        if self._passes_line:
            self._passes_line = False
            pieces.append(Piece(line))
            return
        if self._line:
            self._line += line
            line = bytes(self._line)
            self._line.clear()
        if line in (b"\n", b"\r\n", b"\r"):
            self._end_event(pieces)
            pieces.append(Piece(line))
        elif self._event:
            self._event += line
            if self._held_bytes > self._max_event_bytes:
                self._let_through(pieces)
        elif self._passes_event or len(line) > self._max_event_bytes or not _OBJECT.match(line):
            pieces.append(Piece(line))
        elif (found := self._decode(_blanked(line))) is None:
            self._event += line
        else:
            pieces.append(Piece(line, found))

    def _end_event(self, pieces: list[Piece[T]]) -> None:
        self._passes_event = False
        if self._event:
            raw = bytes(self._event)
            self._event.clear()
            text = b"".join(map(_blanked, raw.splitlines(keepends=True)))
            pieces.append(Piece(raw, self._decode(text)))

    def _let_through(self, pieces: list[Piece[T]]) -> None:
        """The event is of no interest, or too long: out with what is held, and with the rest as it comes."""
        self._passes_event = self._passes_event or bool(self._event)
        pieces.append(Piece(bytes(self._event + self._line)))
        self._event.clear()
        self._line.clear()

    def _finish(self, pieces: list[Piece[T]]) -> None:
        if self._line:
            line = bytes(self._line)
            self._line.clear()
            self._end_line(line, pieces)
        self._end_event(pieces)

    @property
    def is_between(self) -> bool:
        """Nothing is held, and nothing of an event is out that its rest belongs to: what comes is read afresh."""
        return not (self._line or self._event or self._passes_line or self._passes_event or self._after_cr)

    @property
    def _held_bytes(self) -> int:
        return len(self._event) + len(self._line)


def _blanked(line: bytes) -> bytes:
    """The data of `line` where it stood, the rest spaces."""
    return b"     " + line[5:] if line.startswith(_DATA) else b" " * len(line)
