"""Writes another model name into a request body: only the bytes of the value change, whatever surrounds it.

Serialising a parsed body anew would change numbers, escapes and key order; here the value's place is found instead.
"""

import json
import re
from itertools import islice

import msgspec
from msgspec import Raw, Struct

from stellwerk.exchange import multipart, structure

Spans = tuple[tuple[int, int], ...]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_PARTS = 1024
"""Bodies come here after `body.read` has held them against the configured limit."""
_MAX_KEYS = 256
"""More keys spelled `model` than anyone sends: the first ones and the last are set, which settles it for every parser
that takes the first or the last."""
_ABSENT = Raw()
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

    JSON: the value of each `model` at the top level. Form: each field `model`. A body that has none, or that is
    malformed, comes back as it is.
    """
    if multipart.is_form(request_content_type):
        spans = _form_spans(body, request_content_type)
        if spans:
            return spliced(body, spans, target.encode("utf-8", "replace"))
    return spliced(body, _json_spans(body), quoted(target))


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


def _form_spans(body: bytes, content_type: str) -> Spans:
    found = multipart.fields(body, content_type, _MAX_PARTS)
    if isinstance(found, multipart.Malformed):
        return ()
    return tuple((field.start, field.end) for field in found if field.name == "model" and not field.is_file)


def _json_spans(body: bytes) -> Spans:
    """The parser finds the last `model` exactly; only a body with further candidates is searched for more."""
    text = body.removeprefix(BYTE_ORDER_MARK)
    try:
        last = _decode(text).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    if last is _ABSENT:
        return ()
    start, end = structure.span(last, text)
    offset = len(body) - len(text)
    spans = (*_earlier(text, start), (start, end))
    return tuple((start + offset, end + offset) for start, end in spans)


def _earlier(text: bytes, last: int) -> Spans:
    """Scalar values of top-level keys `model` in front of `last`, the value that the parser took."""
    keys = islice(_KEY.finditer(text, 0, last), _MAX_KEYS)
    candidates = [key for key in keys if key[1] is not None and text[key.start() - 1] != structure.BACKSLASH]
    if not candidates:
        return ()
    depths = structure.depths_at(text, [found.start() for found in candidates])
    return tuple(found.span(1) for found, depth in zip(candidates, depths, strict=True) if depth == 1)
