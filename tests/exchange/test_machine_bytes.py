"""Bodies that pass the picker come back byte for byte, whatever their size and wherever they are cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.exchange.command import Commands, Mode, ReplaceBody, Reply, SendBody, Slot
from stellwerk.exchange.response import MAX_CHUNK_BYTES
from stellwerk.model.catalog import Pool
from stellwerk.model.event import TurnedAway
from stellwerk.model.reason import Reason
from tests.kit.exchanges import OK_EVENTS, OK_JSON, TICKET, exchange, foreign, head, own, picked

KIB = 1024
SIZES = [0, 1, 61_999, 62_000, 62_001, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 124_000, 128 * KIB + 1, 4 * KIB * KIB]
LIMIT = 16 * KIB * KIB
ONE_CHAT = (b'{"model": "public", "messages": [{"role": "user", "content": "', b'"}]}')


def sent_back(commands: Commands, slot: Slot) -> tuple[bytes, bool]:
    """The bytes sent back in `slot`, and whether their end was said. Checks sizes and the place of the end."""
    pieces = [command for command in commands if isinstance(command, SendBody)]
    assert all(piece.slot is slot and len(piece.chunk) <= MAX_CHUNK_BYTES for piece in pieces)
    assert not any(piece.is_last for piece in pieces[:-1])
    return b"".join([bytes(piece.chunk) for piece in pieces]), bool(pieces) and pieces[-1].is_last


def through_duplex(chunks: list[bytes], target: str | None = None, path: str = "/v1/chat/completions") -> bytes:
    one = exchange(foreign())
    one.request_headers(head(path), False, 0.0)
    for chunk in chunks[:-1]:
        assert one.request_body(chunk, False, 0.0) == ()
    one.request_body(chunks[-1], True, 0.0)
    body, is_ended = sent_back(one.decided(picked(target_model=target), 0.0), Slot.REQUEST_BODY)
    assert is_ended
    return body


def cut(body: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(body) + 1) for place in places)
    return [body[start:end] for start, end in zip([0, *ends], [*ends, len(body)], strict=True)]


@pytest.mark.parametrize("size", [*SIZES, LIMIT - 1, LIMIT])
def test_a_body_of_any_size_comes_back_unchanged(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    assert (
        through_duplex([body[start : start + 65_536] for start in range(0, size, 65_536)] or [b""], path="/x") == body
    )


def test_one_byte_more_than_the_limit_is_refused() -> None:
    one = exchange(foreign())
    one.request_headers(head("/x"), False, 0.0)
    assert one.request_body(b"x" * LIMIT, False, 0.0) == ()
    reply, turned_away = one.request_body(b"x", True, 0.0)
    assert isinstance(reply, Reply)
    assert turned_away == TurnedAway(TICKET, Reason.BODY_TOO_LARGE)
    assert one.buffered_bytes == 0


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 200_000), st.lists(st.integers(0, 250_000), max_size=8), st.sampled_from([None, "q", "served-by-us"])
)
def test_a_chat_comes_back_with_its_model_name_changed_at_most(
    size: int, places: list[int], target: str | None
) -> None:
    body = ONE_CHAT[0] + b"x" * size + ONE_CHAT[1]
    expected = body if target is None else body.replace(b'"public"', b'"%s"' % target.encode(), 1)
    assert through_duplex(cut(body, places), target) == expected


EVENT = (
    b'data: {"id": "1", "model": "served-by-us", "choices": [{"delta": {"content": "\\"model\\": \xc3\xa9"}}]}\r\n\r\n'
)
ODD = b": a comment\n\nevent: x\ndata: not json\n\ndata: [DONE]\n\n"
PLANS = [
    (own, Mode.STREAMED),
    (foreign, Mode.DUPLEX),
    (foreign, Mode.STREAMED),
    (foreign, Mode.BUFFERED),
]


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(PLANS),
    st.lists(st.sampled_from([EVENT, ODD]), max_size=6),
    st.lists(st.integers(0, 2000), max_size=8),
    st.sampled_from([None, True, False]),
)
def test_a_stream_changes_in_its_model_name_at_most(
    plan: tuple[object, Mode], events: list[bytes], places: list[int], restores: bool | None
) -> None:
    make, mode = plan
    one = exchange(make(), Mode.NONE, mode)  # type: ignore[operator]
    one.request_headers(head("/x"), False, 0.0)
    pool = Pool("p", restores_streamed_model=restores)
    one.decided(picked(target_model="served-by-us", pool=pool), 0.0)
    one.response_headers(OK_EVENTS, False, 0.0)
    whole = b"".join(events)
    chunks = [whole] if mode is Mode.BUFFERED else cut(whole, places)
    passed = b""
    for number, chunk in enumerate(chunks):
        commands = one.response_body(chunk, number == len(chunks) - 1, 0.0)
        if mode is Mode.DUPLEX:
            passed += sent_back(commands, Slot.RESPONSE_BODY)[0]
        else:
            (first, *_) = (
                command for command in commands if getattr(command, "slot", None) or isinstance(command, ReplaceBody)
            )
            passed += first.chunk if isinstance(first, ReplaceBody) else chunk
    is_restored = make is foreign if restores is None else restores
    assert passed == (whole.replace(b"served-by-us", b"public") if is_restored else whole)


@pytest.mark.parametrize("size", SIZES)
def test_an_answer_of_any_size_comes_back_unchanged(size: int) -> None:
    one = exchange(foreign())
    one.response_headers(OK_JSON, False, 0.0)
    body = b"\x00\xff" * (size // 2) + b"x" * (size % 2)
    back = sent_back(one.response_body(body, True, 0.0), Slot.RESPONSE_BODY)
    assert back == (body, True)
