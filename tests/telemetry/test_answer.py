"""Answers as servers send them, cut anywhere, and as hostile ones do."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.telemetry.answer import MAX_HEAD_BYTES, Answer, AnswerReader, Broken

LIMIT = 10_000


def feed(data: bytes, limit: int = LIMIT) -> Answer | Broken | None:
    return AnswerReader(limit).feed(data)


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def test_a_body_of_known_length() -> None:
    assert feed(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc") == Answer(200, b"abc", True)


def test_a_chunked_body_with_extensions_and_trailers() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"
    assert feed(head + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n") == Answer(200, b"abcde", True)


def test_a_body_that_ends_with_the_connection() -> None:
    reader = AnswerReader(LIMIT)
    assert reader.feed(b"HTTP/1.0 200 OK\r\n\r\nabc") is None
    assert reader.feed(b"def") is None
    assert reader.eof() == Answer(200, b"abcdef", False)


def test_the_connection_is_kept_unless_either_says_otherwise() -> None:
    for head, is_reusable in (
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
    ):
        assert feed(head) == Answer(200, b"", is_reusable)


def test_informational_answers_are_passed_over_but_not_for_ever() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    assert feed(early * 3 + b"HTTP/1.1 204 No Content\r\n\r\n") == Answer(204, b"", True)
    assert isinstance(feed(early * 20), Broken)


def test_bare_line_feeds_are_accepted() -> None:
    assert feed(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok") == Answer(200, b"ok", True)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 300,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD_BYTES,
    ],
)
def test_what_is_ambiguous_or_malformed_breaks_the_answer(data: bytes) -> None:
    assert isinstance(feed(data), Broken)


def test_a_body_that_is_too_large_is_refused_however_its_length_is_told() -> None:
    big = b"x" * 101
    for data in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + big,
        chunked(big),
        chunked(b"x" * 60, b"x" * 60),
    ):
        assert feed(data, 100) == Broken("the page is larger than 100 bytes")


def test_a_flood_of_tiny_chunks_is_refused() -> None:
    assert feed(chunked(*[b"x"] * 8000)) == Broken("the chunks are too small")


def test_a_close_in_the_middle_is_told_from_one_before() -> None:
    reader = AnswerReader(LIMIT)
    assert reader.eof() == Broken("closed")
    assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab") is None
    assert reader.eof() == Broken("the connection was closed in the middle of the answer")


ANSWERS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\nserver: uvicorn\r\n\r\nhello world",
        chunked(b"hello ", b"wor", b"ld"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + chunked(b"hello world"),
    ]
)


@given(data=ANSWERS, cuts=st.lists(st.integers(1, 90), max_size=6))
@settings(deadline=None, max_examples=150)
def test_an_answer_reads_the_same_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    reader = AnswerReader(LIMIT)
    edges = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    steps = [reader.feed(data[start:end]) for start, end in pairwise(edges)]
    assert steps[:-1] == [None] * (len(steps) - 1)
    assert steps[-1] == Answer(200, b"hello world", True)


@given(
    st.lists(
        st.one_of(st.binary(max_size=50), st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"\r\n", b"5\r\n", chunked(b"a")]))
    )
)
@settings(deadline=None, max_examples=200)
def test_no_bytes_raise(pieces: list[bytes]) -> None:
    reader = AnswerReader(100)
    for piece in pieces:
        if reader.feed(piece) is not None:
            return
    assert isinstance(reader.eof(), Answer | Broken)
