"""The shape of JSON bytes, found without building a value: how deep they nest, and where a value stands.

msgspec skips what it is not asked for in C, but counts no levels and tells no offsets. Both are answered here at about
the same speed, by treating the text as an array of bytes. All functions expect text that msgspec has accepted.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

_BLOCK_BYTES = 1 << 17
"""Fits the second-level cache, and bounds the memory of the arrays made on the way."""
_QUOTE, BACKSLASH = ord('"'), ord("\\")
_OPENER, _CLOSER, _BRACE_BIT = ord("{"), ord("}"), 0x20
"""`[` and `{`, `]` and `}` differ in one bit; with it set, two comparisons find all four."""


def exceeds_depth(text: bytes, limit: int) -> bool:
    """Whether arrays and objects nest deeper than `limit`; `[]` is one level."""
    if _at_most(text, b"[", limit) + _at_most(text, b"{", limit) <= limit:
        return False
    return any(depths.size and depths.max() > limit for _, _, depths in _profile(text))


def depths_at(text: bytes, positions: Sequence[int]) -> list[int]:
    """How many brackets are open before each of `positions`, which ascend. `text` may be cut off anywhere."""
    found: list[int] = []
    before = 0
    for end, marks, depths in _profile(text):
        here = [position for position in positions[len(found) :] if position < end]
        found += [int(depths[rank - 1]) if rank else before for rank in np.searchsorted(marks, here)]
        if len(found) == len(positions):
            break
        before = int(depths[-1]) if depths.size else before
    return found


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


def _profile(text: bytes) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.int32]]]:
    """By blocks: where a block ends, where its marks (brackets and quotes) are, and the depth after each of them."""
    whole = np.frombuffer(text, np.uint8)
    depth, is_inside = np.int32(0), np.uint8(0)
    for start in range(0, whole.size, _BLOCK_BYTES):
        block = whole[start : start + _BLOCK_BYTES]
        folded = block | _BRACE_BIT
        positions = np.flatnonzero((block == _QUOTE) | (folded == _OPENER) | (folded == _CLOSER))
        marks = folded[positions]
        positions += start
        is_escaped = whole[positions - 1] == BACKSLASH
        if (whole[positions[is_escaped] - 2] == BACKSLASH).any():
            whole = np.frombuffer(text.replace(b"\\\\", b".."), np.uint8)
            is_escaped = whole[positions - 1] == BACKSLASH
        marks[is_escaped] = 0
        quotes = np.cumsum((marks == _QUOTE).view(np.uint8), dtype=np.uint8) + is_inside
        steps = (marks == _OPENER).view(np.int8) - (marks == _CLOSER).view(np.int8)
        steps *= (quotes & 1 == 0).view(np.int8)
        depths = np.cumsum(steps, dtype=np.int32) + depth
        if positions.size:
            depth, is_inside = depths[-1], quotes[-1] & 1
        yield start + block.size, positions, depths
