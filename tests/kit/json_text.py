"""JSON in all its spellings: a value written with random whitespace, escapes and repeated keys."""

import json
from random import Random
from typing import Any

from hypothesis import strategies as st


class Pairs(list[tuple[str, Any]]):
    """An object that may repeat its keys."""


_SPACES = ("", "", "", " ", "\n", "\t ", "\r\n")
_ODD_TEXTS = ("model", '"model":"x"', "\\", '\\"', '{"model', "[[{{", "]}", "\\\\", '"', "", "é😀", "\u2028", "\x7f")
_KEYS = ("model", "messages", "x", "Model", "model ", 'a"model', "mode", "response", "message", "usage")


def written(value: Any, chance: Random) -> str:
    """`value` as JSON text. Strings are escaped at random, which `json.loads` undoes."""

    def space() -> str:
        return chance.choice(_SPACES)

    if isinstance(value, Pairs):
        inside = ",".join(
            f"{space()}{written(k, chance)}{space()}:{space()}{written(v, chance)}{space()}" for k, v in value
        )
        return "{" + (inside or space()) + "}"
    if isinstance(value, list):
        return "[" + (",".join(f"{space()}{written(item, chance)}{space()}" for item in value) or space()) + "]"
    if isinstance(value, str):
        return '"' + "".join(_character(character, chance) for character in value) + '"'
    return json.dumps(value)


def _character(character: str, chance: Random) -> str:
    if ord(character) < 0x10000 and chance.random() < 0.2:
        digits = f"{ord(character):04x}"
        return "\\u" + (digits.upper() if chance.random() < 0.5 else digits)
    return json.dumps(character, ensure_ascii=chance.random() < 0.5)[1:-1]


def texts() -> st.SearchStrategy[str]:
    """Strings that look like structure, and others; no lone surrogates."""
    return st.sampled_from(_ODD_TEXTS) | st.text(st.characters(codec="utf-8"), max_size=8)


def values() -> st.SearchStrategy[Any]:
    """JSON values with objects as `Pairs`."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts()
    return st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | objects(inner), max_leaves=12)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Pairs]:
    """Objects with these values, some of whose keys repeat."""
    return st.lists(st.tuples(st.sampled_from(_KEYS) | texts(), inner), max_size=5).map(Pairs)


CHANCES = st.integers(0, 2**32 - 1).map(Random)
"""For `cut` and `written`, which ask it as often as a text is long: `st.randoms` would have to draw each answer."""


def cut(text: bytes, chance: Random) -> list[bytes]:
    """`text` in chunks, some of them empty."""
    chunks = []
    while text:
        size = chance.choice((0, 1, 1, 2, 3, 7, 40, 400))
        chunks.append(text[:size])
        text = text[size:]
    return chunks
