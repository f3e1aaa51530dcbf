"""Writes another model name into a request body: only the bytes of the value change, or a member is added in front.

Serialising a parsed body anew would change numbers, escapes and key order; here the value's place is found instead.
"""

import json
import re
from collections.abc import Iterable
from itertools import islice

import msgspec
from msgspec import Raw, Struct

from stellwerk.exchange import multipart, structure, surrogates

Span = tuple[int, int]
Spans = tuple[Span, ...]

NO_NAME: Span = (0, 0)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_PARTS = 1024
"""Bodies come here after `body.read` has held them against the configured limit."""
_MAX_KEYS = 1024
"""Keys `model` at any depth. A body with more is an attack on parsers that differ, and is told off cheaply: it gets one
more key in front, so that who takes the first key and who takes the last read the same."""
_ABSENT = Raw()
_START = re.compile(rb"[ \t\r\n]*+\{(?:[ \t\r\n]*+(\}))?")
"""Of an object; the group is there if it is empty."""
_KEY = re.compile(
    rb'"(?:m|\\u006[dD])(?:o|\\u006[fF])(?:d|\\u0064)(?:e|\\u0065)(?:l|\\u006[cC])"[ \t\r\n]*+:[ \t\r\n]*+'
    rb'("(?:[^"\\]++|\\.)*+"|[^"{\[,} \t\r\n]++)?',
    re.DOTALL,
)
"""A key, however its letters are escaped, and its value if that is a string or another scalar."""


class _Named(Struct, gc=False):
    model: Raw = _ABSENT


_decode = msgspec.json.Decoder(_Named).decode


def with_model(body: bytes, request_content_type: str, target: str) -> bytes:
    """`body` with `target` in every place where a server may read the model's name.

    JSON: the value of each `model` at the top level, or one more member in front if an object has none. Form: each
    field `model`. A form that has none, and what is neither of the two, comes back as it is.
    """
    if multipart.is_form(request_content_type):
        spans = _form_spans(body, request_content_type)
        if spans is not None:
            return spliced(body, spans, target.encode("utf-8", "replace"))
    return _in_json(body, quoted(target))


def spliced(text: bytes, spans: Spans, replacement: bytes) -> bytes:
    """`text` with `replacement` in place of each of `spans` (start, end), which ascend and do not overlap."""
    if not spans:
        return text
    parts: list[bytes] = []
    at = 0
    for start, end in spans:
        parts += (text[at:start], replacement)
        at = end
    parts.append(text[at:])
    return b"".join(parts)


def quoted(name: str) -> bytes:
    """A JSON string in ASCII: valid whatever `name` holds, lone surrogates included."""
    return json.dumps(name).encode("ascii")


def _form_spans(body: bytes, content_type: str) -> Spans | None:
    """None if it is no form, whatever its content type says."""
    found = multipart.fields(body, content_type, _MAX_PARTS)
    if isinstance(found, multipart.Malformed):
        return None
    return tuple((field.start, field.end) for field in found if field.name == "model" and not field.is_file)


def _in_json(body: bytes, name: bytes) -> bytes:
    """The parser finds the last `model` exactly; only what stands before it is searched for more."""
    text = body.removeprefix(BYTE_ORDER_MARK)
    span = last_name(text)
    if span is None:
        return body
    if span == NO_NAME:
        return _with_member(body, name)
    keys = _keys(text, span[0])
    if len(keys) == _MAX_KEYS:
        return _with_member(spliced(text, (span,), name), name)
    edited = spliced(text, (*_of_top_level(keys, text), span), name)
    return edited if text is body else BYTE_ORDER_MARK + edited


def last_name(text: bytes) -> Span | None:
    """Where the value of the last `model` stands, which is the one that counts; `NO_NAME` if there is none. None if
    `text` is no JSON object."""
    try:
        try:
            last = _decode(text).model
        except msgspec.DecodeError:
            text = surrogates.replaced(text) or text
            last = _decode(text).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return NO_NAME if last is _ABSENT else structure.span(last, text)


def _with_member(body: bytes, name: bytes) -> bytes:
    """An object with one more `model`, as its first member."""
    start = _START.match(body, len(BYTE_ORDER_MARK) if body.startswith(BYTE_ORDER_MARK) else 0)
    if start is None:
        return body
    inside = body.index(b"{", start.start()) + 1
    return b"".join((body[:inside], b'"model":', name, b"" if start[1] else b",", body[inside:]))


def top_level_names(start: bytes) -> Spans:
    """Values of `model` in the outermost object that `start` begins, as far as they are strings or other scalars.

    `start` is a JSON text or the beginning of one.
    """
    return _of_top_level(_keys(start, len(start)), start)


def _keys(text: bytes, end: int) -> list[re.Match[bytes]]:
    return list(islice(_KEY.finditer(text, 0, end), _MAX_KEYS))


def _of_top_level(keys: Iterable[re.Match[bytes]], text: bytes) -> Spans:
    keys = [key for key in keys if key[1] is not None and text[key.start() - 1] != structure.BACKSLASH]
    if not keys:
        return ()
    depths = structure.depths_at(text, [key.start() for key in keys])
    return tuple(key.span(1) for key, depth in zip(keys, depths, strict=True) if depth == 1)
