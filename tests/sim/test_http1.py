"""Bytes to requests: framing, every cut, limits, and what is refused."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.sim.http1 import BadRequest, HttpLimits, HttpRequest, RequestReader

PLAIN = b"POST /v1/x?y=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-A:  b \r\nx-a: c\r\n\r\nhello"
CHUNKED = (
    b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n2;name=value\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"
)


def read(*pieces: bytes, limits: HttpLimits | None = None) -> list[HttpRequest]:
    """Every request in the pieces."""
    reader = RequestReader(limits or HttpLimits())
    found = []
    for piece in pieces:
        reader.receive(piece)
        while (request := reader.next()) is not None:
            found.append(request)
    return found


def test_a_request_is_read_with_lower_case_names_and_joined_repeats() -> None:
    (request,) = read(PLAIN)
    assert (request.method, request.target, request.body) == ("POST", "/v1/x?y=1", b"hello")
    assert request.headers == {"host": "a", "content-length": "5", "x-a": "b, c"}
    assert request.keeps_alive


@pytest.mark.parametrize("raw", [PLAIN, CHUNKED, CHUNKED + PLAIN, b"\r\n" + PLAIN])
def test_every_cut_gives_the_same_requests(raw: bytes) -> None:
    whole = read(raw)
    assert [request.body for request in whole] == [b"hello"] * len(whole)
    assert whole
    for cut in range(1, len(raw)):
        assert read(raw[:cut], raw[cut:]) == whole
    assert read(*(raw[i : i + 1] for i in range(len(raw)))) == whole


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_connections_stay_as_the_client_asks(head: bytes, keeps: bool) -> None:
    assert read(head)[0].keeps_alive is keeps


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"G\xffT / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\nc: d\r\n\r\n",
        b"GET / HTTP/1.1\r\na: \0\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + b"1" * 20 + b"\r\n",
    ],
)
def test_what_is_ambiguous_or_broken_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        read(raw)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /" + b"a" * 200, 431),
        (b"GET / HTTP/1.1\r\na: " + b"b" * 200 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\ncontent-length: 51\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n33\r\n", 413),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + b"a\r\n0123456789\r\n" * 6, 413),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 20, 413),
    ],
)
def test_size_is_bounded(raw: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        read(raw, limits=HttpLimits(max_head_bytes=100, max_body_bytes=50))
    assert caught.value.status == status


def test_a_client_that_waits_for_100_continue_is_noticed_once_per_request() -> None:
    reader = RequestReader(HttpLimits())
    reader.receive(b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n")
    seen = [(reader.next() is not None, reader.wants_continue)]
    reader.receive(b"ab")
    seen.append((reader.next() is not None, reader.wants_continue))
    reader.receive(b"GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n")
    seen.append((reader.next() is not None, reader.wants_continue))
    assert seen == [(False, True), (True, False), (True, False)]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(0, 3))
def test_no_bytes_do_worse_than_a_refusal(pieces: list[bytes], start: int) -> None:
    starts = [b"", b"POST / HTTP/1.1\r\n", CHUNKED[:46], PLAIN[:60]]
    with contextlib.suppress(BadRequest):
        read(starts[start], *pieces, limits=HttpLimits(max_head_bytes=100, max_body_bytes=50))
