import json
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.exchange.surrogates import MAX_HALVES, TooManyHalves, replaced

PIECES = [
    r"\ud83d",
    r"\uD83D",
    r"\ude00",
    r"\uDE00",
    r"\\",
    r"\"",
    r"\n",
    r"\u00e9",
    r"\ud7ff",
    r"\ue000",
    "u",
    "ud83d",
    "é",
    "x",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'"\ud83d"', r'"\ufffd"'),
        (r'"\uDE00 x"', r'"\ufffd x"'),
        (r'"\ud83d\ude00"', None),
        (r'"\uD83D\uDE00\ude00"', r'"\uD83D\uDE00\ufffd"'),
        (r'"\ud83d\ud83d\ude00"', r'"\ufffd\ud83d\ude00"'),
        (r'"\ude00\ud83d"', r'"\ufffd\ufffd"'),
        (r'"\ud83dud83d\u0041"', r'"\ufffdud83d\u0041"'),
        (r'"\\ud83d"', None),
        (r'"\\\ud83d"', r'"\\\ufffd"'),
        (r'"\ud83d\\ude00"', r'"\ufffd\\ude00"'),
        (r'"\ud8"', None),
        ("", None),
    ],
)
def test_halves_are_replaced_and_pairs_are_not(text: str, expected: str | None) -> None:
    assert replaced(text.encode()) == (None if expected is None else expected.encode())


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_copy_is_what_pythons_parser_reads_with_a_mark_for_each_half(inside: str) -> None:
    text = f'"{inside}"'.encode()
    theirs = json.loads(text)
    marked = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in theirs)
    copy = replaced(text)
    assert (copy is None) == (marked == theirs)
    assert msgspec.json.decode(copy or text) == marked
    assert len(copy or text) == len(text)


def test_their_number_is_bounded_and_so_is_the_work() -> None:
    assert replaced(rb"\ud83d" * MAX_HALVES) == rb"\ufffd" * MAX_HALVES
    before = time.process_time()
    for piece in (rb"\ud83d", rb"\ude00,"):
        with pytest.raises(TooManyHalves, match="has more than 4096 escapes"):
            replaced(piece * 500_000)
    for piece in (rb"\ud83d\ude00", rb"\\", rb"\u", rb"\ud", rb"\ud83"):
        assert replaced(piece * 500_000) is None
    assert time.process_time() - before < 5.0
