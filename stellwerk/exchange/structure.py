"""The shape of JSON bytes, found without building a value: how deep they nest, and where a value stands.

msgspec skips what it is not asked for in C, but counts no levels and tells no offsets. Both are answered here at about
the same speed, by treating the text as an array of bytes. All functions expect text that msgspec has accepted.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

_BLOCK_BYTES = 1 << 18
"""Fits the second-level cache, and bounds the memory of the arrays made on the way."""
_QUOTE, BACKSLASH = ord('"'), ord("\\")
_OPENER, _CLOSER, _BRACE_BIT = ord("{"), ord("}"), 0x20
"""`[` and `{`, `]` and `}` differ in one bit; with it set, two comparisons find all four."""


def exceeds_depth(text: bytes, limit: int) -> bool:
    """Whether arrays and objects nest deeper than `limit`; `[]` is one level."""
    if _at_most(text, b"[", limit) + _at_most(text, b"{", limit) <= limit:
        return False
    return any(depth.size and int(depth.max()) > limit for _, _, depth in _profile(text))


def depths_at(text: bytes, positions: Sequence[int]) -> list[int]:
    """How many brackets are open before each of `positions`, which ascend. `text` may be cut off anywhere."""
    found: list[int] = []
    before = 0
    for start, is_mark, depth in _profile(text):
        if len(found) == len(positions):
            break
        end = start + is_mark.size
        here = [position - start for position in positions[len(found) :] if position < end]
        if here:
            rank = np.searchsorted(np.flatnonzero(is_mark), here)
            found += [int(depth[at - 1]) if at else before for at in rank]
        before = int(depth[-1]) if depth.size else before
    return found + [before] * (len(positions) - len(found))


def span(value: Raw, text: bytes) -> tuple[int, int]:
    """Start and end of `value` in `text`, from which it was decoded. (0, 0) if it is no part of it."""
    start = _address(value) - _address(text)
    end = start + len(memoryview(value))
    return (start, end) if 0 <= start <= end <= len(text) else (0, 0)


def _address(buffer: Raw | bytes) -> int:
    address: int = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    return address


def _at_most(text: bytes, character: bytes, limit: int) -> int:
    """How often `character` occurs, counted up to `limit + 1`.

    `replace` stops there and looks for single bytes with memchr; `count` walks through all of them one by one.
    """
    return len(text) - len(text.replace(character, b"", limit + 1))


def _profile(text: bytes) -> Iterator[tuple[int, NDArray[np.bool_], NDArray[np.int32]]]:
    """By blocks: the offset, which bytes are marks (brackets and quotes), and the depth after each mark."""
    whole = np.frombuffer(_without_backslash_pairs(text), np.uint8)
    depth, is_inside = 0, 0
    for start in range(0, whole.size, _BLOCK_BYTES):
        block = whole[start : start + _BLOCK_BYTES]
        is_quote = block == _QUOTE
        is_quote[1:] &= block[:-1] != BACKSLASH
        if start and whole[start - 1] == BACKSLASH:
            is_quote[0] = False
        folded = block | _BRACE_BIT
        is_mark = is_quote | (folded == _OPENER) | (folded == _CLOSER)
        marks = folded[is_mark]
        quotes_so_far = np.cumsum(marks == _QUOTE, dtype=np.uint8) + np.uint8(is_inside)
        is_outside = (quotes_so_far & 1) == 0
        steps = (marks == _OPENER).view(np.int8) - (marks == _CLOSER).view(np.int8)
        steps *= is_outside.view(np.int8)
        depths = np.cumsum(steps, dtype=np.int32)
        depths += depth
        if marks.size:
            depth, is_inside = int(depths[-1]), int(quotes_so_far[-1] & 1)
        yield start, is_mark, depths


def _without_backslash_pairs(text: bytes) -> bytes:
    """`text` with each escaped backslash blanked, so that a quote is escaped if and only if a backslash precedes it."""
    return text.replace(b"\\\\", b"..") if b"\\\\" in text else text
