"""What is read from an answer, and when its body is wanted at all."""

import pytest

from stellwerk.exchange.answer import Answer, Kind
from stellwerk.exchange.command import Adjust, Mode
from stellwerk.model.report import Usage
from tests.kit.exchanges import OK_EVENTS, OK_JSON

COUNTED = b'{"usage": {"prompt_tokens": 3, "completion_tokens": 5}}'


def answer(headers: dict[str, str], public_model: str | None = None, max_answer_bytes: int = 100) -> Answer:
    return Answer(headers, public_model, max_answer_bytes)


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", Kind.JSON),
        ("Application/JSON; charset=utf-8", Kind.JSON),
        ("application/problem+json", Kind.JSON),
        ("text/event-stream", Kind.EVENTS),
        (" text/Event-Stream ;x", Kind.EVENTS),
        ("text/plain", Kind.OTHER),
        ("", Kind.OTHER),
        (";", Kind.OTHER),
    ],
)
def test_the_content_type_says_what_it_is(content_type: str, kind: Kind) -> None:
    assert answer({"content-type": content_type}).kind is kind


@pytest.mark.parametrize(
    ("status", "number"), [("200", 200), ("599", 599), ("", 0), ("2000", 0), ("-20", 0), ("²00", 0)]
)
def test_a_status_is_three_digits(status: str, number: int) -> None:
    assert answer({":status": status}).status == number


@pytest.mark.parametrize(
    ("headers", "public_model", "restores", "mode"),
    [
        ({**OK_JSON, "content-length": "100"}, None, False, None),
        ({**OK_JSON, "content-length": "100"}, "public", False, Mode.BUFFERED),
        ({**OK_JSON, "content-length": "101"}, None, False, None),
        ({**OK_JSON, "content-length": "101"}, "public", False, Mode.STREAMED),
        ({**OK_JSON, "content-length": "0"}, "public", False, None),
        (OK_JSON, "public", False, Mode.STREAMED),
        (OK_JSON, None, False, None),
        (OK_EVENTS, "public", True, Mode.STREAMED),
        (OK_EVENTS, "public", False, None),
        (OK_EVENTS, None, True, None),
        ({**OK_EVENTS, "trailer": "x-sum"}, "public", True, None),
        ({**OK_EVENTS, "content-encoding": "br"}, "public", True, None),
        ({**OK_EVENTS, ":status": "500"}, "public", True, None),
    ],
)
def test_a_body_is_wanted_only_where_it_is_needed(
    headers: dict[str, str], public_model: str | None, restores: bool, mode: Mode | None
) -> None:
    assert answer(headers, public_model).wants(restores) is mode


def test_a_length_that_will_not_hold_is_removed() -> None:
    assert answer({**OK_JSON, "content-length": "9"}, "public").prepare(Mode.STREAMED, False, False) == Adjust(
        removes_content_length=True
    )
    assert answer(OK_JSON, "public").prepare(Mode.STREAMED, False, False) is None
    assert answer({**OK_JSON, "content-length": "9"}).prepare(Mode.STREAMED, False, False) is None


@pytest.mark.parametrize("cut", range(0, len(COUNTED), 7))
def test_token_counts_of_a_json_answer_in_chunks(cut: int) -> None:
    one = answer(OK_JSON)
    one.prepare(Mode.DUPLEX, False, False)
    assert one.feed(COUNTED[:cut], False) + one.feed(COUNTED[cut:], True) == COUNTED
    assert one.usage == Usage(3, None, 5)
    assert one.size_bytes == len(COUNTED)


def test_a_long_json_answer_is_not_collected() -> None:
    one = answer(OK_JSON, max_answer_bytes=len(COUNTED) - 1)
    one.prepare(Mode.DUPLEX, False, False)
    assert one.feed(COUNTED[:9], False) + one.feed(COUNTED[9:], True) == COUNTED
    assert one.usage is None
    assert one.whole(COUNTED) == COUNTED
    assert one.usage is None


def test_what_is_not_readable_passes_unread() -> None:
    one = answer({**OK_JSON, "content-encoding": "gzip"}, "public")
    assert one.prepare(Mode.STREAMED, True, True) is None
    assert one.whole(b'{"model": "x"}') == b'{"model": "x"}'
    assert one.feed(b'{"model": "x"}', True) == b'{"model": "x"}'


def test_events_shown_whole_are_read_and_restored() -> None:
    one = answer(OK_EVENTS, "public")
    one.prepare(Mode.BUFFERED, True, True)
    assert one.whole(b'data: {"model": "x", "usage": {"prompt_tokens": 1}}') == (
        b'data: {"model": "public", "usage": {"prompt_tokens": 1}}'
    )
    assert one.usage == Usage(1, None, None)
