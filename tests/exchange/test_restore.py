import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.exchange import restore
from stellwerk.exchange.restore import StreamRestorer
from stellwerk.exchange.sse import MAX_EVENT_BYTES
from tests.kit.json_text import CHANCES, Pairs, cut, values, written
from tests.kit.recorded import STREAMS, answer, stream

PUBLIC = 'pub/"é'
QUOTED = b'"pub/\\"\\u00e9"'


def restored(chunks: list[bytes], public: str = PUBLIC) -> bytes:
    restorer = StreamRestorer(public)
    return b"".join(restorer.feed(chunk, False) for chunk in chunks) + restorer.feed(b"", True)


@pytest.mark.parametrize("name", ["chat", "completion", "messages", "responses"])
def test_recorded_answers_get_the_public_name(name: str) -> None:
    body = answer(name)
    expected = body.replace(b'"model":"tiny"', b'"model":' + QUOTED)

    assert expected != body
    assert restore.answer(body, PUBLIC) == expected
    for size in (1, 7, 100, len(body)):
        assert restored([body[at : at + size] for at in range(0, len(body), size)]) == expected


@pytest.mark.parametrize("name", ["unknown-model", "malformed"])
def test_recorded_errors_stay_as_they_are(name: str) -> None:
    assert restore.answer(answer(name), PUBLIC) == answer(name)


@pytest.mark.parametrize("name", STREAMS)
def test_recorded_streams_get_the_public_name_wherever_they_are_cut(name: str) -> None:
    text = stream(name)
    expected = text.replace(b'"model":"tiny"', b'"model":' + QUOTED)

    assert expected != text
    for at in range(0, len(text), 5):
        assert restored([text[:at], text[at:]]) == expected
    assert restored([text[at : at + 1] for at in range(len(text))]) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"oops",
        b"[]",
        b'["model"]',
        b'{"model":7}',
        b'{"model":null}',
        b'{"x":{"model":"tiny"}}',
        b'{"error":{"message":"no","param":"model"}}',
        b'{"model":"tiny"',
        b'{"model":"tiny"}{',
        b"\x1f\x8b\x08gzip",
        b'{"x":' * 100_000,
        b'data: {"model":"tiny"\n\n',
        b'data: {"x":{"model":"tiny"}}\n\n',
        b'event: {"model":"tiny"}\n\n',
        b'database: {"model":"tiny"}\n\n',
        b'data: "model":"tiny"\n\n',
        b'data: {"message":"model"}\n\n',
        b'data: {"response":[{"model":"tiny"}]}\n\n',
    ],
)
def test_whatever_has_no_name_stays_as_it_is(body: bytes) -> None:
    assert restore.answer(body, PUBLIC) == body
    if body != b'{"model":"tiny"' and body != b'{"model":"tiny"}{':
        for size in (1, 3, 1000, 1_000_000):
            if len(body) < 100 * size:
                assert restored([body[at : at + size] for at in range(0, len(body), size)]) == body


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('data:{"model":"a"}\r\n\r\n', 'data:{"model":"P"}\r\n\r\n'),
        ('data: {"mod\\u0065l" : "a"}\n\n', 'data: {"mod\\u0065l" : "P"}\n\n'),
        ('data: {"response":{"model":"a"},"model":"b"}\n\n', 'data: {"response":{"model":"P"},"model":"P"}\n\n'),
        ('data: {"message":{"x":"é","model":"a"}}\n\n', 'data: {"message":{"x":"é","model":"P"}}\n\n'),
        ('data: {"id":1,\ndata: "model":\n: hi\ndata:"a"}\n\n', 'data: {"id":1,\ndata: "model":\n: hi\ndata:"P"}\n\n'),
        ('data: {"model":"a"}', 'data: {"model":"P"}'),
        ('\n\ndata: {"model":"a"}\n\n', '\n\ndata: {"model":"P"}\n\n'),
        (' {"model":"a"}', ' {"model":"P"}'),
        ('{"x":{"model":"b"},"\\"model":"c","model":"a"}', '{"x":{"model":"b"},"\\"model":"c","model":"P"}'),
    ],
)
def test_only_the_names_bytes_change(text: str, expected: str) -> None:
    for size in (1, 2, 5, 1000):
        raw = text.encode()
        assert restored([raw[at : at + size] for at in range(0, len(raw), size)], "P") == expected.encode()


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from(["", "response", "message"]), values()), max_size=6),
    CHANCES,
)
def test_streams_change_in_the_name_alone(events: list[tuple[str, Any]], chance: Random) -> None:
    sent = expected = b""
    for place, other in events:
        name, before, after = _event(place, other, chance)
        sent += before + name + after
        expected += before + b'"P"' + after

    assert restored([sent], "P") == expected
    assert restored(cut(sent, chance), "P") == expected


def _event(place: str, other: Any, chance: Random) -> tuple[bytes, bytes, bytes]:
    """The name, and the event around it, which has random line ends, comments and lines of data."""
    mark = "\ue000name\ue000"
    inner = Pairs([("id", other), ("model", mark)])
    text = written(Pairs([(place, inner), ("x", other)]) if place else inner, chance)
    line_end = chance.choice(["\n", "\r\n", "\r"])
    prefix = chance.choice(["data:", "data: "])
    lines = text.replace("\r\n", "\n").split("\n")
    if chance.random() < 0.5:
        lines = [" ".join(lines)]
    comment = chance.choice(["", f": ping{line_end}", f"event: x{line_end}"])
    raw = comment + "".join(prefix + line + line_end for line in lines) + line_end
    spelled = next(spelling for spelling in _spellings(raw) if json.loads(spelling) == mark)
    before, _, after = raw.partition(spelled)
    return spelled.encode(), before.encode(), after.encode()


def _spellings(raw: str) -> list[str]:
    """Every JSON string in `raw`."""
    found, decoder = [], json.JSONDecoder()
    at = raw.find('"')
    while at >= 0:
        _, end = decoder.raw_decode(raw, at)
        found.append(raw[at:end])
        at = raw.find('"', end)
    return found


def test_whole_lines_go_out_at_once() -> None:
    restorer = StreamRestorer("P")

    assert restorer.feed(b'event: x\ndata: {"model":"a"}\n', False) == b'event: x\ndata: {"model":"P"}\n'
    assert restorer.feed(b'\ndata: {"mo', False) == b"\n"
    assert restorer.feed(b'del":"a"}\n\ndata: [DONE]', False) == b'data: {"model":"P"}\n\ndata: [DONE]'
    assert restorer.feed(b"\n\n", True) == b"\n\n"


def test_an_event_beyond_the_bound_goes_through_unchanged() -> None:
    long_event = b'data: {"model":"a","x":"' + b"x" * MAX_EVENT_BYTES + b'"}\n\n'
    chunks = [long_event[at : at + 60_000] for at in range(0, len(long_event), 60_000)]

    assert restored([*chunks, b'data: {"model":"a"}\n\n'], "P") == long_event + b'data: {"model":"P"}\n\n'


class TestJsonOfUnknownLength:
    def test_it_goes_out_as_soon_as_the_name_has_turned_up(self) -> None:
        restorer = StreamRestorer("P")
        out = restorer.feed(b'{"id":1,"usage":{"model":"x"}', False)
        out += restorer.feed(b',"model":"a","data":[1', False) + restorer.feed(b"," * 100, False)
        while len(out) < 60:
            out += restorer.feed(b"1,", False)

        assert out.startswith(b'{"id":1,"usage":{"model":"x"},"model":"P","data":[1,')
        assert restorer.feed(b"rest", False) == b"rest"
        assert restorer.feed(b"end", True) == b"end"

    def test_a_name_at_the_very_end_is_found(self) -> None:
        body = b'{"content":["' + b'{\\"model\\":[' * 10_000 + b'"],"model":"a"}'
        assert restored([body[at : at + 1000] for at in range(0, len(body), 1000)], "P") == body[:-4] + b'"P"}'

    def test_it_holds_no_more_than_its_bound(self) -> None:
        restorer = StreamRestorer("P")
        held = 0
        chunk = b'{"x":[' + b"1," * 10_000
        for _ in range(300):
            held += len(chunk) - len(restorer.feed(chunk, False))
            assert held <= 2 * restore.MAX_HELD_BYTES

        assert held == 0

    def test_space_in_front_does_not_pile_up(self) -> None:
        restorer = StreamRestorer("P")
        out = b"".join(restorer.feed(b" ", False) for _ in range(5000))

        assert len(out) > 3000
        assert out + restorer.feed(b"", True) == b" " * 5000
