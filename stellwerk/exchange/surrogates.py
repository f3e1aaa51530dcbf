"""JSON text with halves of surrogate pairs ("\\ud83d" alone: an emoji cut in two), as JavaScript writes it.

The grammar allows them and Python's parser reads them, so a model server may get them; msgspec refuses them. Such a
text is read from a copy that has U+FFFD in their place. Both escapes have six characters, so offsets are the same in
both. Only what msgspec has refused comes here.
"""

import re
from itertools import islice

import msgspec

MAX_HALVES = 4096
"""Of one text. One with more has not just been cut. Looking for them takes 14 ms in a megabyte of nothing but pairs."""
_HIGH, _LOW = rb"[89abAB][0-9a-fA-F]{2}", rb"[c-fC-F][0-9a-fA-F]{2}"
_HALF = re.compile(
    rb"\\u[dD](?:%b(?!\\u[dD]%b)|%b(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD]%b))" % (_HIGH, _LOW, _LOW, _LOW)
)
"""A high one without a low one after it, or a low one without a high one before it."""


class TooManyHalves(msgspec.DecodeError):
    """More than `MAX_HALVES`. Says so, as the end of a sentence about the text."""


def replaced(text: bytes) -> bytes | None:
    """The copy to read; None if `text` has no half of a pair. Raises TooManyHalves."""
    escapes = text.replace(b"\\\\", b"..")
    halves = [half.start() for half in islice(_HALF.finditer(escapes), MAX_HALVES + 1)]
    if not halves:
        return None
    if len(halves) > MAX_HALVES:
        raise TooManyHalves(
            f"has more than {MAX_HALVES} escapes that are half of a surrogate pair, such as \\ud83d alone"
        )
    copy = bytearray(text)
    for start in halves:
        copy[start : start + 6] = b"\\ufffd"
    return bytes(copy)
