"""Reads the wanted lines of a Prometheus or OpenMetrics text page, and looks at no other.

A real vLLM page is 57 KB in 700 lines, of which a dozen matter. Families stand on a page in one order, so a cursor that
moves forward finds all of them in about one pass of `bytes.find`. `dialects` knows which families to ask for.
"""

import math
import re
from functools import lru_cache

from msgspec import Struct

MAX_SERIES = 16_384
"""Lines read of one family; vLLM's adapter family keeps one per past state, so thousands are possible."""
MAX_LINE_BYTES = 64 * 1024
"""Of a longer line only so much is read, which makes it unreadable."""
MAX_LABELS = 256
_MAX_NEAR_MISSES = 64
_MAX_CACHED_LABELS_BYTES = 4096

# What follows a family's name on its line: labels, value, timestamp; an exemplar may follow. Possessive throughout: a
# hostile line is read once, never twice.
_REST_OF_LINE = re.compile(
    rb'(?=[{ \t])(?:\{((?:[^"}\n]++|"(?:[^"\\\n]++|\\.)*+")*+)\})?'
    rb"[ \t]*+([^ \t\r\n#]++)(?:[ \t]++([^ \t\r\n#]++))?[^\n]*+"
)
_LABEL = re.compile(rb'[ \t]*+([^=," \t]++)[ \t]*+=[ \t]*+"((?:[^"\\]++|\\.)*+)"[ \t]*+,?')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Series(Struct, frozen=True, gc=False):
    """One line. `value` is NaN where the text is not a number. `timestamp` is in the page's own unit."""

    raw_labels: bytes
    value: float
    timestamp: float | None

    @property
    def labels(self) -> dict[str, str]:
        """Name to unescaped value. Shared: do not change it."""
        if len(self.raw_labels) <= _MAX_CACHED_LABELS_BYTES:
            return _cached_labels(self.raw_labels)
        return parse_labels(self.raw_labels)


class Page:
    """A text page and a cursor into it. Asking in page order costs one pass; any order is correct."""

    __slots__ = ("_cursor", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = b"\n" + text
        self._cursor = 0

    def series(self, family: bytes) -> list[Series]:
        """The lines of `family`, in page order, at most `MAX_SERIES`; empty where the page has none.

        A family's lines stand together (the format demands it): of a family that stands twice, the first counts.
        """
        text = self._text
        needle = b"\n" + family
        match = self._first(needle)
        found: list[Series] = []
        while match is not None and len(found) < MAX_SERIES:
            labels, value, timestamp = match.groups()
            found.append(Series(labels or b"", number(value), None if timestamp is None else number(timestamp)))
            end = self._cursor = match.end()
            match = _rest_of_line(text, end + len(needle)) if text.startswith(needle, end) else None
        return found

    def _first(self, needle: bytes) -> re.Match[bytes] | None:
        """The family's first line after the cursor, else before it. `x_by_reason` is not `x`: the rest has to fit."""
        text, cursor, width = self._text, self._cursor, len(needle)
        for start, end in ((cursor, len(text)), (0, cursor + width)):
            at = text.find(needle, start, end)
            for _ in range(_MAX_NEAR_MISSES):
                if at < 0:
                    break
                match = _rest_of_line(text, at + width)
                if match is not None:
                    return match
                at = text.find(needle, at + 1, end)
        return None


def _rest_of_line(text: bytes, position: int) -> re.Match[bytes] | None:
    return _REST_OF_LINE.match(text, position, position + MAX_LINE_BYTES)


def number(text: bytes) -> float:
    """The value of a sample; NaN for what is none. Python's digit separators are not numbers here."""
    if b"_" in text:
        return math.nan
    try:
        return float(text)
    except ValueError:
        return math.nan


def parse_labels(raw: bytes) -> dict[str, str]:
    """What stands between the braces, at most `MAX_LABELS`. Reading stops at the first thing that is no label; of a
    double name the last counts. Bytes that are not UTF-8 become U+FFFD."""
    labels: dict[str, str] = {}
    position = 0
    for _ in range(MAX_LABELS):
        match = _LABEL.match(raw, position)
        if match is None:
            break
        name, value = match.groups()
        labels[name.decode(errors="replace")] = _unescape(value.decode(errors="replace"))
        position = match.end()
    return labels


def _unescape(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPE.sub(lambda escape: "\n" if escape[1] == "n" else escape[1], value)


_cached_labels = lru_cache(maxsize=2048)(parse_labels)
