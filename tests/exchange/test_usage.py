import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.exchange import usage
from stellwerk.exchange.sse import MAX_EVENT_BYTES
from stellwerk.exchange.usage import StreamUsage, of_answer
from stellwerk.model.report import Usage
from tests.kit.json_text import CHANCES, cut
from tests.kit.recorded import answer, stream


def of_stream(chunks: list[bytes]) -> Usage | None:
    found = StreamUsage()
    for chunk in chunks:
        found.feed(chunk)
    return found.usage


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chat", Usage(12, None, 8)),
        ("completion", Usage(3, None, 8)),
        ("messages", Usage(10, None, 8)),
        ("responses", Usage(10, 0, 8)),
        ("unknown-model", None),
        ("malformed", None),
    ],
)
def test_recorded_answers_state_their_counts(name: str, expected: Usage | None) -> None:
    assert of_answer(answer(name)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stream-chat-usage", Usage(8, None, 6)),
        ("stream-chat-continuous-usage", Usage(8, None, 6)),
        ("stream-completion-usage", Usage(3, None, 6)),
        ("stream-completion", None),
        ("stream-messages", Usage(8, None, 6)),
        ("stream-responses", Usage(10, 0, 6)),
    ],
)
def test_recorded_streams_state_their_counts_wherever_they_are_cut(name: str, expected: Usage | None) -> None:
    text = stream(name)

    for at in range(0, len(text), 3):
        assert of_stream([text[:at], text[at:]]) == expected
    assert of_stream([text[at : at + 1] for at in range(len(text))]) == expected


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 7}, Usage(5, None, 7)),
        ({"input_tokens": 5, "output_tokens": 7}, Usage(5, None, 7)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 3}}, Usage(5, 3, None)),
        ({"input_tokens": 5, "input_tokens_details": {"cached_tokens": 3}}, Usage(5, 3, None)),
        ({"input_tokens": 5, "cache_read_input_tokens": 3}, Usage(5, 3, None)),
        ({"prompt_tokens": 5, "prompt_tokens_details": None}, Usage(5, None, None)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, None, 0)),
        ({}, None),
        ("oops", None),
        (None, None),
        ([1], None),
    ],
)
def test_counts_have_a_name_in_each_api(stated: object, expected: Usage | None) -> None:
    assert of_answer(json.dumps({"id": "x", "usage": stated}).encode()) == expected


@pytest.mark.parametrize(
    "value", ["-1", "1.5", "1e3", "1e999", '"7"', "null", "true", "[]", "{}", "9" * 13, "9" * 5000, "-0", '"\\ud83d"']
)
def test_a_count_that_is_no_plain_number_is_left_out_alone(value: str) -> None:
    details = f'{{"cached_tokens":{value}}}'
    body = f'{{"usage":{{"prompt_tokens":{value},"completion_tokens":7,"prompt_tokens_details":{details}}}}}'
    expected = None if "ud83d" in value else Usage(None, None, 7)

    assert of_answer(body.encode()) == expected


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"oops", b'{"usage":', b"\xff\xfe", b"[" * 100_000, b'{"usage":{"prompt_tokens":5}}x']
)
def test_an_answer_that_is_no_json_object_states_nothing(body: bytes) -> None:
    assert of_answer(body) is None
    assert of_stream([body, b"data: " + body + b"\n\n"]) is None


def event(**fields: object) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()


def test_the_last_count_holds_and_an_event_without_one_takes_none_back() -> None:
    counts = of_stream(
        [
            event(usage={"prompt_tokens": 5, "completion_tokens": 1}),
            event(usage=None),
            event(usage={"completion_tokens": 2, "prompt_tokens": "oops"}),
            event(choices=[]),
            b"data: [DONE]\n\n",
        ]
    )
    assert counts == Usage(5, None, 2)


def test_anthropics_two_events_complete_each_other() -> None:
    counts = of_stream(
        [
            event(
                type="message_start",
                message={"usage": {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 1}},
            ),
            event(type="message_delta", usage={"output_tokens": 30}),
        ]
    )
    assert counts == Usage(9, 4, 30)


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_the_last_event_of_a_response_states_its_counts(kind: str) -> None:
    stated = {"input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 8}}
    counts = of_stream(
        [event(type="response.created", response={"usage": None}), event(type=kind, response={"usage": stated})]
    )

    assert counts == Usage(9, 8, 3)


def test_an_unterminated_last_event_is_read_when_the_end_is_known() -> None:
    counts = StreamUsage()
    counts.feed(event(usage={"prompt_tokens": 5})[:-2])
    assert counts.usage is None
    counts.feed(b"", is_last=True)
    assert counts.usage == Usage(5, None, None)


def test_an_event_beyond_the_bound_is_not_read_but_the_next_one_is() -> None:
    counts = of_stream(
        [event(usage={"prompt_tokens": 1}, x="x" * MAX_EVENT_BYTES), event(usage={"completion_tokens": 2})]
    )

    assert counts == Usage(None, None, 2)


NONSENSE: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 1.5, 1e300, 10**40, "7", "}\n", [], [[{}]], {}, {"cached_tokens": 3}, 5, 6]
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(NONSENSE, NONSENSE, NONSENSE), max_size=4), CHANCES)
def test_nonsense_never_raises_and_no_cut_matters(stated: list[tuple[Any, Any, Any]], chance: Random) -> None:
    text = b""
    for prompt, details, output in stated:
        counts = {"prompt_tokens": prompt, "prompt_tokens_details": details, "output_tokens": output}
        place = chance.choice(["response", "message", "usage", "other"])
        text += event(**{place: counts if place == "usage" else {"usage": chance.choice([counts, output])}})
        assert of_answer(text[6:].split(b"\n")[0]) == of_stream([text[: text.find(b"\n\n") + 2]])

    assert of_stream(cut(text, chance)) == of_stream([text])


PARTS = st.sampled_from(
    [
        b'data: {"usage":{"prompt_tokens":1}}',
        b'data: {"usage":{"prompt_tokens":2}}',
        b'data: {"choices":[{"text":"usage"}]}',
        b'data: {"choices":[]}',
        b'data: {"usage":',
        b'data: {"prompt_tokens":3}',
        b"data: }",
        b"data: [DONE]",
        b": usage",
        b"event: x",
        b"",
        b"\n",
        b"\r",
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(PARTS, max_size=12), CHANCES)
def test_what_is_not_looked_into_would_have_told_nothing(parts: list[bytes], chance: Random) -> None:
    """As if every event were read, whatever its shape and wherever the stream is cut."""
    text = b"".join(part + chance.choice([b"\n", b"\n\n"]) for part in parts)
    everything = StreamUsage()
    everything._read(text)
    assert of_stream(cut(text, chance)) == everything.usage
    assert of_stream([text]) == everything.usage


def test_the_module_knows_no_more_digits_than_a_count_can_have() -> None:
    assert of_answer(b'{"usage":{"prompt_tokens":' + b"9" * usage._MAX_DIGITS + b"}}") == Usage(
        int("9" * 12), None, None
    )
