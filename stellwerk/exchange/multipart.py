"""Form fields of a multipart/form-data body (RFC 7578), without copying the files between them.

Strict where parsers differ: what one server could read otherwise than another is refused, so that the model read here
is the model that the server reads. As in Starlette, a part that the body cuts off does not count.
"""

import re

from msgspec import Struct

MAX_PART_HEADER_BYTES = 4096
_MAX_BOUNDARY_BYTES = 200
_MAX_FALSE_BOUNDARIES = 64
"""A boundary is drawn at random: one that keeps turning up inside of longer text is an attack."""
_FORM = "multipart/form-data"
_PARAMETER = re.compile(r';[ \t]*+([^=;" \t]++)[ \t]*+=[ \t]*+("(?:[^"\\]++|\\.)*+"|[^;" \t]*+)[ \t]*+')
_ESCAPED = re.compile(r"\\(.)")
_CHARSETS = frozenset(("", "utf-8", "utf8", "us-ascii"))
_ENCODINGS = frozenset(("", "7bit", "8bit", "binary"))


class Field(Struct, frozen=True, gc=False):
    """One part: its name, and where its value stands in the body."""

    name: str
    is_file: bool
    start: int
    end: int


class Malformed(Struct, frozen=True, gc=False):
    """No form that every server reads alike, and why: the end of a sentence about the body."""

    why: str


class _Strange(Exception):
    """Ends the reading; its text becomes `Malformed.why`."""


def is_form(content_type: str) -> bool:
    """Whether the content type announces a form that this module reads."""
    return content_type[: len(_FORM) + 1].rstrip("; \t").lower() == _FORM


def fields(body: bytes, content_type: str, max_parts: int) -> tuple[Field, ...] | Malformed:
    """The named parts, in order."""
    try:
        return _fields(body, b"\r\n--" + _boundary(content_type), max_parts)
    except _Strange as error:
        return Malformed(str(error))


def _fields(body: bytes, delimiter: bytes, max_parts: int) -> tuple[Field, ...]:
    found: list[Field] = []
    at = _first_delimiter(body, delimiter)
    for _ in range(max_parts + 1):
        head_start = at + len(delimiter)
        if body.startswith(b"--", head_start):
            return tuple(found)
        name, is_file, start = _part_head(body, head_start)
        if _starts_with_delimiter(body, delimiter, start):
            raise _Strange("one of its parts ends before its value")
        at = _delimiter(body, delimiter, start)
        if at < 0:
            return tuple(found)
        if name is not None:
            found.append(Field(name, is_file, start, at))
    raise _Strange(f"it has more than {max_parts} parts (max-multipart-parts)")


def _first_delimiter(body: bytes, delimiter: bytes) -> int:
    """Where the first delimiter starts: -2 if the line break in front of it is the start of the body itself."""
    at = -2 if _starts_with_delimiter(body, delimiter, 0) else _delimiter(body, delimiter, 0)
    if at == -1:
        raise _Strange("the boundary of its content type does not occur in it")
    return at


def _starts_with_delimiter(body: bytes, delimiter: bytes, at: int) -> bool:
    """Whether a delimiter without its line break stands at `at`."""
    return body.startswith(delimiter[2:], at) and _ends_line(body, at + len(delimiter) - 2)


def _delimiter(body: bytes, delimiter: bytes, start: int) -> int:
    """Where the next delimiter starts, -1 if there is none. The boundary as a part of longer text is data."""
    for _ in range(_MAX_FALSE_BOUNDARIES):
        start = body.find(delimiter, start)
        if start < 0 or _ends_line(body, start + len(delimiter)):
            return start
        start += len(delimiter)
    raise _Strange("its boundary occurs all over its data")


def _ends_line(body: bytes, at: int) -> bool:
    after = body[at : at + 2]
    if after in (b"\r\n", b"--"):
        return True
    if after[:1] in (b" ", b"\t", b"\r", b"\n"):
        raise _Strange("a line with its boundary goes on after it")
    return False


def _part_head(body: bytes, at: int) -> tuple[str | None, bool, int]:
    """Name, whether it is a file, and where the value starts. `at` is the line break that ends the delimiter."""
    end = body.find(b"\r\n\r\n", at, at + MAX_PART_HEADER_BYTES)
    if end < 0:
        raise _Strange(f"the headers of one of its parts do not end within {MAX_PART_HEADER_BYTES} bytes")
    headers = _headers(body[at + 2 : end].decode("utf-8", "replace"))
    if headers.get("content-transfer-encoding", "").lower() not in _ENCODINGS:
        raise _Strange("one of its parts has a content-transfer-encoding")
    disposition = _parameters(headers.get("content-disposition", ""))
    if any(key.startswith("name*") for key in disposition):
        raise _Strange("the name of one of its parts is in extended notation (name*)")
    is_file = any(key.startswith("filename") for key in disposition)
    return disposition.get("name"), is_file, end + 4


def _headers(text: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in text.split("\r\n") if text else ():
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or not name.isascii() or name != name.strip() or key in headers or "\r" in line or "\n" in line:
            raise _Strange("one of its parts has malformed headers")
        headers[key] = value.strip(" \t")
    return headers


def _boundary(content_type: str) -> bytes:
    parameters = _parameters(content_type)
    boundary = parameters.get("boundary", "")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES or "boundary*" in parameters:
        raise _Strange(f"its content type names no boundary of 1 to {_MAX_BOUNDARY_BYTES} bytes")
    if parameters.get("charset", "").lower() not in _CHARSETS:
        raise _Strange("its charset is not UTF-8")
    return boundary.encode("latin-1", "replace")


def _parameters(header: str) -> dict[str, str]:
    """`; name=value` pairs after the first word, names in lower case, quotes undone."""
    parameters: dict[str, str] = {}
    header = header.rstrip("; \t")
    at = len(header.partition(";")[0])
    while at < len(header):
        found = _PARAMETER.match(header, at)
        if found is None or found[1].lower() in parameters:
            raise _Strange("a parameter in one of its headers is malformed or repeated")
        value = found[2]
        parameters[found[1].lower()] = _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value
        at = found.end()
    return parameters
