"""Compressed messages: what is read, and what is refused before it costs anything."""

import gzip
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc import compression
from stellwerk.edge.grpc import frames as h2
from stellwerk.edge.grpc.frames import ErrorCode
from stellwerk.edge.grpc.head import Refusal
from stellwerk.edge.grpc.status import Status
from tests.kit.http2 import PATH, Conversation, Frame, head, message, of_kind

MIB = 1024 * 1024
HELLO = gzip.compress(b"hello", mtime=0)


def zeros(size: int) -> bytes:
    """So many zeros, compressed, without ever having them at once."""
    deflater = zlib.compressobj(9, wbits=31)
    block = bytes(MIB)
    parts = [deflater.compress(block) for _ in range(size // MIB)]
    parts += [deflater.compress(bytes(size % MIB)), deflater.flush()]
    return b"".join(parts)


def encoded(encoding: str | None = "gzip") -> list[tuple[str, str]]:
    """The head of a call with this `grpc-encoding`."""
    return list(head(PATH, *([("grpc-encoding", encoding)] if encoding is not None else [])))


def opened(encoding: str | None = "gzip", limits: TransportLimits | None = None) -> Conversation:
    """A conversation with stream 1 open."""
    talk = Conversation(limits)
    talk.send(talk.client.headers(1, encoded(encoding)))
    return talk


def sent(talk: Conversation, data: bytes, stream_id: int = 1, *, end: bool = False) -> list[Frame]:
    """What the server says to these bytes, in frames as large as may be."""
    pieces = [data[start : start + h2.DEFAULT_FRAME_BYTES] for start in range(0, len(data), h2.DEFAULT_FRAME_BYTES)]
    last = len(pieces) - 1
    frames = [talk.client.data(stream_id, piece, end=end and at == last) for at, piece in enumerate(pieces)]
    return talk.send(*frames)


def status(frames: list[Frame], stream_id: int = 1) -> Status:
    return Status(int(of_kind(frames, h2.HEADERS, stream_id)[-1].fields["grpc-status"]))


# -- one message ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(payload=st.binary(max_size=3_000), level=st.integers(0, 9), limit=st.integers(0, 3_000))
def test_a_message_comes_back_whole_or_is_too_large(payload: bytes, level: int, limit: int) -> None:
    found = compression.inflated(memoryview(gzip.compress(payload, level)), limit)
    if len(payload) <= limit:
        assert found == payload
    else:
        assert isinstance(found, Refusal)
        assert found.status is Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"hello",
        HELLO[:-1],
        HELLO[:-8],
        HELLO[:10],
        HELLO[:3],
        HELLO + b"x",
        HELLO + b"\0",
        HELLO + HELLO,
        HELLO[:-8] + bytes(8),
        HELLO[:12] + b"\xff" + HELLO[13:],
        zlib.compress(b"hello"),
        zlib.compress(b"hello", wbits=-15),
    ],
)
def test_whatever_is_not_exactly_one_gzip_member_is_corrupt(spoilt: bytes) -> None:
    found = compression.inflated(memoryview(spoilt), 1_000)
    assert isinstance(found, Refusal)
    assert found.status is Status.INTERNAL


@settings(deadline=None, max_examples=300)
@given(noise=st.binary(max_size=200), begins_well=st.booleans())
def test_any_bytes_are_read_or_refused(noise: bytes, begins_well: bool) -> None:
    found = compression.inflated(memoryview(HELLO[:10] + noise if begins_well else noise), 100)
    assert isinstance(found, Refusal) or len(found) <= 100


def test_no_message_grows_more_than_the_ratio_that_refused_ones_are_counted_with() -> None:
    assert 64 * MIB / len(zeros(64 * MIB)) < compression.MAX_RATIO


# -- conversations --------------------------------------------------------------------------------------------------


def test_flagged_and_plain_messages_of_one_call_arrive_in_order() -> None:
    talk = opened()
    data = message(HELLO, 1) + message(b"plain") + message(b"") + message(gzip.compress(b""), 1) + message(HELLO, 1)
    assert sent(talk, data, end=True) == []
    assert talk.served.messages(1) == [b"hello", b"plain", b"", b"", b"hello"]
    assert talk.served.told[-1] == ("half closed", 1)
    assert talk.counters.messages_received == 5


@pytest.mark.parametrize("cut", range(1, len(message(HELLO, 1))))
def test_a_compressed_message_may_be_cut_anywhere(cut: int) -> None:
    data = message(HELLO, 1)
    talk = opened()
    talk.send(talk.client.data(1, message(b"before") + data[:cut]))
    assert talk.served.messages(1) == [b"before"]
    talk.send(talk.client.data(1, data[cut:] + message(b"after") + data[:cut]))
    talk.send(talk.client.data(1, data[cut:], end=True))
    assert talk.served.messages(1) == [b"before", b"hello", b"after", b"hello"]
    assert talk.served.told[-1] == ("half closed", 1)
    assert talk.machine._intake._held == 0


def test_a_compressed_message_may_come_byte_by_byte_and_padded() -> None:
    talk = opened()
    for byte in message(HELLO, 1) + message(b"x"):
        talk.send(talk.client.data(1, bytes((byte,)), padding=3))
    assert talk.served.messages(1) == [b"hello", b"x"]
    assert talk.machine._intake._held == 0


def test_answers_are_not_compressed_and_say_what_may_be() -> None:
    talk = opened()
    talk.is_echoing = True
    frames = sent(talk, message(HELLO, 1), end=True)
    fields = of_kind(frames, h2.HEADERS, 1)[0].fields
    assert fields["grpc-accept-encoding"] == "identity,gzip"
    assert "grpc-encoding" not in fields
    assert of_kind(frames, h2.DATA, 1)[0].payload == message(b"hello")


@pytest.mark.parametrize("encoding", ["deflate", "snappy", "zstd", "GZIP", "gzip,identity", "x" * 300, ""])
def test_a_message_in_another_encoding_is_unimplemented_and_the_answer_says_what_is(encoding: str) -> None:
    talk = opened(encoding)
    frames = sent(talk, message(HELLO, 1)[:5])
    assert status(frames) is Status.UNIMPLEMENTED
    fields = of_kind(frames, h2.HEADERS, 1)[0].fields
    assert fields["grpc-accept-encoding"] == "identity,gzip"
    assert encoding[:32] in fields["grpc-message"]
    assert of_kind(frames, h2.RST_STREAM, 1)[0].number == ErrorCode.NO_ERROR
    assert talk.served.told == [("opened", 1), ("closed", 1)]


def test_plain_messages_pass_whatever_the_encoding_of_their_call() -> None:
    talk = opened("snappy")
    assert sent(talk, message(b"plain"), end=True) == []
    assert talk.served.messages(1) == [b"plain"]


@pytest.mark.parametrize("encoding", [None, "identity"])
def test_a_compressed_message_on_a_call_that_names_no_encoding_is_an_internal_error(encoding: str | None) -> None:
    talk = opened(encoding)
    assert status(sent(talk, message(HELLO, 1)[:5])) is Status.INTERNAL
    assert talk.served.messages(1) == []


@pytest.mark.parametrize("spoilt", [b"", b"hello", HELLO[:-1], HELLO + b"x", HELLO + HELLO])
@pytest.mark.parametrize("is_cut", [False, True])
def test_a_corrupt_message_ends_its_call_and_no_other(spoilt: bytes, is_cut: bool) -> None:
    talk = opened()
    data = message(HELLO, 1) + message(spoilt, 1) + message(b"never told")
    frames = talk.send(*(talk.client.data(1, piece) for piece in ([data[:-16], data[-16:]] if is_cut else [data])))
    assert status(frames) is Status.INTERNAL
    assert talk.served.messages(1) == [b"hello"]
    assert talk.served.told[-1] == ("closed", 1)
    assert talk.counters.calls_refused == 1
    talk.send(talk.client.headers(3, encoded()), talk.client.data(3, message(HELLO, 1)))
    assert talk.served.messages(3) == [b"hello"]


def test_a_call_that_ends_within_a_compressed_message_is_told_so() -> None:
    talk = opened()
    assert status(sent(talk, message(HELLO, 1)[:-1], end=True)) is Status.INTERNAL
    assert talk.machine._intake._held == 0


def test_a_message_may_grow_to_the_limit_and_not_by_a_byte_more() -> None:
    talk = opened(limits=TransportLimits(max_message_bytes=1_000))
    assert sent(talk, message(gzip.compress(bytes(1_000)), 1)) == []
    assert talk.served.messages(1) == [bytes(1_000)]
    frames = sent(talk, message(gzip.compress(bytes(1_001)), 1))
    assert status(frames) is Status.RESOURCE_EXHAUSTED
    assert "max_message_bytes" in of_kind(frames, h2.HEADERS, 1)[0].fields["grpc-message"]


def test_a_message_that_is_too_large_as_it_comes_is_refused_by_its_length_alone() -> None:
    talk = opened(limits=TransportLimits(max_message_bytes=1_000))
    assert status(sent(talk, b"\1" + (1_001).to_bytes(4, "big"))) is Status.RESOURCE_EXHAUSTED


def test_a_bomb_is_refused_and_takes_no_more_memory_than_a_message_may() -> None:
    bomb = message(zeros(1024 * MIB), 1)
    talk = opened()
    tracemalloc.start()
    try:
        frames = sent(talk, bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert status(frames) is Status.RESOURCE_EXHAUSTED
    assert talk.served.messages(1) == []
    assert peak < 3 * TransportLimits().max_message_bytes
    assert_nothing_is_kept(talk)


@pytest.mark.parametrize("size", [20 * MIB, 64 * MIB])
def test_bombs_that_come_at_once_are_bounded_together(size: int) -> None:
    bomb = message(zeros(size), 1)
    talk = Conversation()
    streams = range(1, 25, 2)
    talk.send(*(talk.client.headers(stream_id, encoded()) for stream_id in streams))
    rest = []
    for stream_id in streams:
        *first, last = (bomb[start : start + 16_384] for start in range(0, len(bomb), 16_384))
        sent(talk, b"".join(first), stream_id)
        rest.append(talk.client.data(stream_id, last, end=True))
    talk.machine.receive(b"".join(rest), talk.now)
    arrived = sum(len(getattr(event, "payload", b"")) for event in talk.machine.events)
    assert arrived <= TransportLimits().connection_window_bytes
    talk.handle()
    talk.flush()
    whole = [stream_id for stream_id in streams if talk.served.messages(stream_id)]
    assert len(whole) == (3 if size == 20 * MIB else 0)
    refused = [
        of_kind(talk.frames, h2.HEADERS, stream_id)[-1].fields for stream_id in streams if stream_id not in whole
    ]
    assert {fields["grpc-status"] for fields in refused} == {str(int(Status.RESOURCE_EXHAUSTED))}
    tried = [int(fields["grpc-message"].split(" more than ")[1].split()[0]) for fields in refused]
    assert len(whole) * size + sum(tried) <= TransportLimits().connection_window_bytes
    talk.send(talk.client.headers(101, encoded()), talk.client.data(101, message(zeros(20 * MIB), 1)[:16_384]))
    sent(talk, message(zeros(20 * MIB), 1)[16_384:], 101)
    assert len(talk.served.messages(101)[0]) == 20 * MIB
    assert_nothing_is_kept(talk)


def test_windows_count_what_came_and_not_what_it_grew_to() -> None:
    talk = opened(limits=TransportLimits(max_message_bytes=MIB, stream_window_bytes=65_535))
    window = talk.machine._streams[1].receive_window
    data = message(zeros(MIB), 1)
    assert sent(talk, data) == []
    assert talk.machine._streams[1].receive_window == window - len(data)
    assert_nothing_is_kept(talk)


@pytest.mark.parametrize("how", ["reset", "finish", "corrupt"])
def test_a_call_that_ends_with_a_compressed_message_under_way_gives_its_room_back(how: str) -> None:
    noise = random.Random(0).randbytes(300_000)
    data = message(gzip.compress(noise), 1)
    talk = opened()
    sent(talk, data[:200_000])
    assert talk.machine._streams[1].reserved == len(data)
    match how:
        case "reset":
            talk.send(h2.reset(1, ErrorCode.CANCEL))
        case "finish":
            talk.served.streams[1].finish()
            talk.flush()
        case _:
            assert status(sent(talk, bytes(len(data) - 200_000))) is Status.INTERNAL
    assert talk.served.messages(1) == []
    assert talk.served.streams[1].unread == b""
    assert_nothing_is_kept(talk)


def assert_nothing_is_kept(talk: Conversation) -> None:
    """No window is lost, no room is taken."""
    intake = talk.machine._intake
    assert intake._window + intake._consumed == intake.size
    assert intake._held == 0
    assert intake._unreserved == max(intake.size // 2, intake._max_message + 5)
    assert not intake._waiting
