import json
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from msgspec import Raw, Struct

from stellwerk.exchange import structure
from stellwerk.exchange.structure import depths_at, exceeds_depth, span
from tests.kit.json_text import CHANCES, values, written


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text of more than a few bytes crosses blocks."""
    monkeypatch.setattr(structure, "_BLOCK_BYTES", 7)


def depths(text: bytes) -> list[int]:
    """Open brackets before each byte: the slow and obvious way."""
    found, depth, is_string, is_escaped = [], 0, False, False
    for byte in text:
        found.append(depth)
        if is_string:
            is_string = is_escaped or byte != ord('"')
            is_escaped = not is_escaped and byte == ord("\\")
        else:
            is_string = byte == ord('"')
            depth += (byte in b"[{") - (byte in b"]}")
    return found


@settings(deadline=None, max_examples=60)
@given(values(), CHANCES)
def test_depths_are_those_of_a_walk_through_the_text(value: Any, chance: Random) -> None:
    text = written(value, chance).encode()
    expected = depths(text)
    positions = sorted(chance.sample(range(len(text)), chance.randrange(len(text) + 1)))

    assert depths_at(text, positions) == [expected[position] for position in positions]
    deepest = max(expected)
    assert not exceeds_depth(text, deepest)
    assert deepest == 0 or exceeds_depth(text, deepest - 1)


def test_a_prefix_has_the_depths_of_the_whole() -> None:
    text = b'{"a":[{"b":"[{\\"\\\\"},"x'

    assert depths_at(text, [0, 1, 6, 7, len(text) - 1]) == [depths(text)[at] for at in (0, 1, 6, 7, len(text) - 1)]


@pytest.mark.parametrize("limit", [0, 1, 2, 127])
def test_the_limit_itself_is_allowed(limit: int) -> None:
    assert not exceeds_depth(b"[" * limit + b"]" * limit or b"1", limit)
    assert exceeds_depth(b"[" * (limit + 1) + b"]" * (limit + 1), limit)
    assert exceeds_depth(b'{"":' * (limit + 1) + b"1" + b"}" * (limit + 1), limit)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert not exceeds_depth(b"[" + b"[{}]," * 1000 + b"1]", 3)
    assert not exceeds_depth(json.dumps(["[[[[{{{{" * 100]).encode(), 1)


class Holder(Struct):
    value: Raw


@given(values(), CHANCES)
@settings(deadline=None, max_examples=50)
def test_the_span_of_a_value_holds_its_text(value: Any, chance: Random) -> None:
    text = b'{"x":1, "value" : ' + written(value, chance).encode() + b' , "y":2}'
    raw = msgspec.json.decode(text, type=Holder).value
    start, end = span(raw, text)

    assert text[start:end] == bytes(raw)


def test_a_value_of_another_text_has_no_span() -> None:
    text, other = b'{"value":"a"}', b'{"value":"a"}' + b" " * 1000
    raw = msgspec.json.decode(other, type=Holder).value

    assert span(raw, text) == (0, 0)
