"""Whatever bytes come, and however they are cut: no exception leaves the machine, and what it keeps is bounded."""

import gzip
from collections import defaultdict
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc import frames as h2
from stellwerk.edge.grpc.frames import ErrorCode
from tests.kit.http2 import PATH, Client, Conversation, Frame, head, message

LIMITS = TransportLimits(
    max_concurrent_streams=8,
    max_message_bytes=3_000,
    max_header_list_bytes=4_096,
    stream_window_bytes=65_535,
    connection_window_bytes=300_000,
    max_unsent_bytes=200_000,
    max_control_frames_per_second=50,
)

kinds = st.integers(0, 11)
flags = st.sampled_from([0, 1, 4, 5, 8, 9, 0x20, 0x2D, 0xFF])
stream_ids = st.integers(0, 12)
words = st.one_of(st.integers(0, 300), st.sampled_from([2**31 - 1, 2**31, 2**32 - 1, 65_535]))
payloads = st.one_of(
    st.binary(max_size=40),
    st.builds(message, st.binary(max_size=50), st.sampled_from([0, 0, 0, 1, 7])),
    st.builds(lambda word: word.to_bytes(4, "big"), words),
    st.builds(lambda name, value: h2.SETTING.pack(name, value), st.integers(0, 7), words),
    st.sampled_from([bytes(8), b"\x83\x86\x44\x01/", bytes(16_384), b"\x3f\xe1\x1f", Client().encoder.encode(head())]),
)
maybe_zipped = st.one_of(
    st.builds(message, st.binary(max_size=50)),
    st.builds(lambda payload: message(gzip.compress(payload), 1), st.binary(max_size=90)),
    st.builds(message, st.binary(max_size=30), st.just(1)),
    st.just(message(gzip.compress(bytes(3_001)), 1)),
)
any_frame = st.builds(h2.frame, kinds, flags, stream_ids, payloads)


@st.composite
def legal_step(draw: st.DrawFn, client: Client, next_id: list[int]) -> bytes:
    """A frame that a proper client might send now, roughly."""
    stream_id = draw(st.integers(0, max(0, next_id[0] - 1) // 2)) * 2 + 1
    match draw(st.integers(0, 11)):
        case 0 | 1 | 2:
            next_id[0] += 2
            return client.call(
                next_id[0] - 2, *draw(st.lists(st.binary(max_size=90), max_size=3)), end=draw(st.booleans())
            )
        case 3 | 4 | 5:
            return client.data(stream_id, draw(st.binary(max_size=30)), padding=draw(st.none() | st.integers(0, 9)))
        case 6:
            return h2.window_update(draw(st.sampled_from([0, stream_id])), draw(st.integers(1, 90_000)))
        case 7:
            return h2.reset(stream_id, ErrorCode.CANCEL)
        case 8 | 9:
            next_id[0] += 2
            data = b"".join(draw(st.lists(maybe_zipped, max_size=4)))
            at = draw(st.integers(0, len(data)))
            opening = client.headers(next_id[0] - 2, head(PATH, ("grpc-encoding", "gzip")))
            return opening + client.data(next_id[0] - 2, data[:at]) + client.data(next_id[0] - 2, data[at:])
        case 10:
            return h2.settings([(h2.INITIAL_WINDOW_SIZE, draw(st.integers(0, 100_000)))])
        case _:
            return h2.frame(h2.PING, 0, 0, draw(st.binary(min_size=8, max_size=8)))


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """A client's side of a conversation; most are legal for a good while."""
    client = Client()
    next_id = [1]
    steps = [draw(legal_step(client, next_id)) for _ in range(draw(st.integers(1, 14)))]
    return client.preface() + b"".join(steps)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:stop] for start, stop in pairwise(edges)]


def by_stream(frames: list[Frame]) -> dict[int, list[tuple[int, int, bytes]]]:
    """What was said on each stream. DATA is joined, because the size of its frames may depend on turns."""
    said: dict[int, list[tuple[int, int, bytes]]] = defaultdict(list)
    for found in frames:
        entries = said[found.stream_id]
        if found.stream_id and found.kind == h2.DATA and entries and entries[-1][0] == h2.DATA:
            entries[-1] = (h2.DATA, 0, entries[-1][2] + found.payload)
        elif found.stream_id or found.kind in (h2.GOAWAY, h2.PING, h2.SETTINGS):
            entries.append((found.kind, found.flags, found.payload))
    return said


def assert_bounded(talk: Conversation) -> None:
    machine = talk.machine
    assert machine._reader.kept_bytes < 2 * h2.DEFAULT_FRAME_BYTES + LIMITS.max_header_list_bytes
    assert len(machine._streams) <= LIMITS.max_concurrent_streams
    intake = machine._intake
    held = [stream.held for stream in machine._streams.values()]
    assert intake._window + intake._consumed + sum(held) == intake.size or talk.is_over()
    assert intake._held == sum(stream.held for stream in machine._streams.values() if not stream.reserved)
    assert 0 <= machine._outflow.queued_bytes <= LIMITS.max_unsent_bytes + 3_005
    assert machine._outflow.queued_bytes == sum(stream.unsent_bytes for stream in machine._streams.values())
    assert talk.counters.streams_open == len(machine._streams)
    assert sum(held) <= 300_000
    if talk.is_over():
        assert not machine._streams


@settings(deadline=None, max_examples=150)
@given(data=conversations(), places=st.lists(st.integers(0, 2_000), max_size=12), every_byte=st.booleans())
def test_it_does_not_matter_how_the_bytes_are_cut(data: bytes, places: list[int], every_byte: bool) -> None:
    whole, parts = Conversation(LIMITS, greet=False), Conversation(LIMITS, greet=False)
    whole.send(*cut(data, []))
    parts.send(*([data[at : at + 1] for at in range(len(data))] if every_byte else cut(data, places)))
    assert parts.served.told == whole.served.told
    assert by_stream(parts.frames) == by_stream(whole.frames)


@settings(deadline=None, max_examples=150)
@given(data=conversations(), places=st.lists(st.integers(0, 2_000), max_size=12), is_echoing=st.booleans())
def test_conversations_of_proper_clients_leave_nothing_behind(data: bytes, places: list[int], is_echoing: bool) -> None:
    talk = Conversation(LIMITS, greet=False)
    talk.is_echoing = is_echoing
    for piece in cut(data, places):
        talk.send(piece)
        assert_bounded(talk)
    talk.machine.abandon()
    talk.handle()
    assert {entry[1] for entry in talk.served.told} == set(talk.served.streams)
    assert talk.served.closed == set(talk.served.streams)
    assert talk.machine._intake._held == 0
    assert talk.machine._outflow.queued_bytes == 0


@settings(deadline=None, max_examples=300)
@given(frames=st.lists(any_frame, max_size=25), is_corked=st.booleans(), seconds=st.floats(0, 50))
def test_any_sequence_of_frames_is_survived(frames: list[bytes], is_corked: bool, seconds: float) -> None:
    talk = Conversation(LIMITS)
    talk.is_echoing = True
    talk.machine.cork(is_corked)
    for data in frames:
        talk.machine.receive(data, talk.now)
        talk.handle()
        assert_bounded(talk)
    talk.machine.cork(False)
    talk.flush()
    talk.wait(seconds)
    assert_bounded(talk)


@settings(deadline=None, max_examples=150)
@given(data=st.binary(max_size=400), has_preface=st.booleans(), places=st.lists(st.integers(0, 400), max_size=5))
def test_any_bytes_are_survived(data: bytes, has_preface: bool, places: list[int]) -> None:
    talk = Conversation(LIMITS, greet=has_preface)
    for piece in cut(data, places):
        talk.send(piece)
        assert_bounded(talk)


@settings(deadline=None, max_examples=200)
@given(data=conversations(), at=st.integers(0, 2_000), noise=st.binary(min_size=1, max_size=6))
def test_a_damaged_conversation_is_survived(data: bytes, at: int, noise: bytes) -> None:
    at %= len(data)
    talk = Conversation(LIMITS, greet=False)
    talk.is_echoing = True
    talk.send(data[:at] + noise + data[at + len(noise) :])
    assert_bounded(talk)


@settings(deadline=None, max_examples=200)
@given(block=st.binary(max_size=200))
def test_any_header_block_is_survived(block: bytes) -> None:
    talk = Conversation(LIMITS)
    talk.send(h2.frame(h2.HEADERS, h2.END_HEADERS, 1, block), h2.frame(h2.HEADERS, h2.END_HEADERS, 3, block))
    assert_bounded(talk)
