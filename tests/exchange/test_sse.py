import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.exchange.sse import EventReader, Piece
from tests.kit.json_text import CHANCES, cut
from tests.kit.recorded import STREAMS, stream

FIELDS = (b"data:", b"data: ", b"data", b"dat", b"event: x", b": note", b"id:1")
DATA = (b"[DONE]", b"{", b"}", b'{"a":1}', b'"a":1', b",", b"x", b" ", "é".encode(), b"\xff")
LINE_ENDS = (b"\n", b"\n", b"\r\n", b"\r", b"\n\n")


def objects(text: bytes) -> object:
    """Decodes complete JSON objects."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def reader(max_event_bytes: int = 10_000) -> EventReader[object]:
    return EventReader(objects, max_event_bytes)


def outcome(chunks: list[bytes], max_event_bytes: int = 10_000) -> tuple[bytes, list[object]]:
    events = reader(max_event_bytes)
    pieces = [piece for chunk in chunks for piece in events.feed(chunk)] + events.feed(b"", is_last=True)
    return b"".join(piece.raw for piece in pieces), [piece.found for piece in pieces if piece.found is not None]


@pytest.mark.parametrize("name", STREAMS)
def test_recorded_events_are_found_wherever_the_stream_is_cut(name: str) -> None:
    text = stream(name)
    expected = [json.loads(line[6:]) for line in text.split(b"\n") if line.startswith(b"data: {")]

    assert expected
    for at in range(0, len(text), 7):
        assert outcome([text[:at], text[at:]]) == (text, expected)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("space", ["", " ", "\t "])
def test_every_line_end_and_spacing_is_read(line_end: str, space: str) -> None:
    text = f'event: x\ndata:{space}{{"a":1}}\n\n: ping\n\ndata:{space}[DONE]\n\n'.replace("\n", line_end).encode()

    for size in (1, 2, 3, len(text)):
        assert outcome([text[at : at + size] for at in range(0, len(text), size)]) == (text, [{"a": 1}])


def test_an_object_over_several_lines_of_data_is_one() -> None:
    text = b'data: {"a":\nid: 7\ndata:1\r\n: note\ndata: }\n\ndata: {"b":2}\n\n'

    for size in (1, 4, len(text)):
        assert outcome([text[at : at + size] for at in range(0, len(text), size)]) == (text, [{"a": 1}, {"b": 2}])


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from(FIELDS + DATA + LINE_ENDS), max_size=30),
    st.integers(5, 40),
    CHANCES,
)
def test_no_byte_is_lost_and_no_cut_matters(fragments: list[bytes], limit: int, chance: Random) -> None:
    text = b"".join(fragments)
    raw, found = outcome([text])

    assert raw == text
    assert outcome(cut(text, chance)) == (text, found)
    assert outcome(cut(text, chance), limit) == (text, outcome([text], limit)[1])


@pytest.mark.parametrize(
    ("fed", "out"),
    [
        (b'data: {"a":1}\n', b'data: {"a":1}\n'),
        (b'data: {"a":1}\ndata: {"b"', b'data: {"a":1}\n'),
        (b"data: [DONE]\n", b"data: [DONE]\n"),
        (b"data: [DO", b"data: [DO"),
        (b"data: par", b"data: par"),
        (b"event: messa", b"event: messa"),
        (b": keep-al", b": keep-al"),
        (b"\n", b"\n"),
        (b"dat", b""),
        (b"data: ", b""),
        (b'data: {"a"', b""),
        (b'data: {"a":\n', b""),
    ],
)
def test_only_what_may_still_become_an_object_is_held_back(fed: bytes, out: bytes) -> None:
    assert b"".join(piece.raw for piece in reader().feed(fed)) == out


def test_an_event_that_is_too_long_goes_through_unread() -> None:
    long_line = b'data: {"a":"' + b"x" * 50 + b'"}\n\n'
    many_lines = b'data: {"a":\n' + b"data: [\n" * 10 + b'data: {"b":2}\n\n'
    after = b'data: {"c":3}\n\n'

    for text in (long_line + after, many_lines + after):
        for size in (1, 7, 1000):
            assert outcome([text[at : at + size] for at in range(0, len(text), size)], 40) == (text, [{"c": 3}])


def test_a_stream_holds_no_more_than_its_bound() -> None:
    events = reader(100)
    held = 0
    for _ in range(1000):
        for start in (b'data: {"a":"', b"data: {\n"):
            held += len(start) - sum(len(piece.raw) for piece in events.feed(start))
            assert held <= 100 + len(start)


def test_an_object_over_endless_lines_is_let_go() -> None:
    events = reader(100)
    fed = b"".join([b"data: {\n"] + [b"data: [\n"] * 20)

    assert b"".join(piece.raw for piece in events.feed(fed)) == fed
    assert events.feed(b'data: {"a":1}\n') == [Piece(b'data: {"a":1}\n')]
    assert [piece.found for piece in events.feed(b'\ndata: {"a":1}\n') if piece.found] == [{"a": 1}]


def test_an_unterminated_event_is_read_at_the_end() -> None:
    events = reader()

    assert events.feed(b'data: {"a":1}', is_last=True) == [Piece(b'data: {"a":1}', {"a": 1})]


def test_a_line_break_cut_in_two_ends_one_line_only() -> None:
    events = reader()
    pieces = events.feed(b'data: {"a":\r') + events.feed(b"") + events.feed(b"\ndata: 1}\r") + events.feed(b"\n\r\n")

    assert [piece.found for piece in pieces if piece.found] == [{"a": 1}]
    assert b"".join(piece.raw for piece in pieces) == b'data: {"a":\r\ndata: 1}\r\n\r\n'
