"""Flow control against a model peer that counts: windows are never exceeded, nothing is lost, nothing stalls."""

import gzip
import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc import frames as h2
from tests.kit.http2 import PATH, Conversation, Frame, head, message, of_kind

SMALL = TransportLimits(
    max_message_bytes=400_000, stream_window_bytes=65_535, connection_window_bytes=1_000_000, max_concurrent_streams=100
)


class Reader:
    """A peer that grants windows and checks that the server keeps to them."""

    def __init__(self, talk: Conversation, initial: int) -> None:
        self.talk = talk
        self.initial = initial
        self.window = h2.DEFAULT_WINDOW
        self.windows: dict[int, int] = {}
        self.received: dict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.max_frame = h2.DEFAULT_FRAME_BYTES

    def open(self, stream_id: int) -> None:
        self.windows[stream_id] = self.initial
        self.read(self.talk.send(self.talk.client.headers(stream_id)))

    def read(self, frames: list[Frame]) -> None:
        for found in frames:
            if found.kind == h2.DATA:
                self.window -= len(found.payload)
                self.windows[found.stream_id] -= len(found.payload)
                assert self.window >= 0
                assert not found.payload or self.windows[found.stream_id] >= 0
                assert len(found.payload) <= self.max_frame
                assert found.stream_id not in self.ended
                self.received[found.stream_id] += found.payload
            elif found.kind == h2.HEADERS and found.flags & h2.END_STREAM:
                self.ended.add(found.stream_id)

    def grant(self, stream_id: int, increment: int) -> None:
        if stream_id:
            self.windows[stream_id] += increment
        else:
            self.window += increment
        self.read(self.talk.send(h2.window_update(stream_id, increment)))

    def resize(self, initial: int) -> None:
        for stream_id in self.windows:
            self.windows[stream_id] += initial - self.initial
        self.initial = initial
        self.read(self.talk.send(h2.settings([(h2.INITIAL_WINDOW_SIZE, initial)])))

    def limit_frames(self, size: int) -> None:
        self.max_frame = size
        self.read(self.talk.send(h2.settings([(h2.MAX_FRAME_SIZE, size)])))


sizes_sent = st.one_of(st.integers(0, 100), st.integers(0, 90_000))
steps = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 3), st.lists(sizes_sent, min_size=1, max_size=3)),
    st.tuples(st.just("grant"), st.integers(0, 4), st.integers(1, 60_000)),
    st.tuples(st.just("grant"), st.just(0), st.integers(1, 9_000)),
    st.tuples(st.just("resize"), st.just(0), st.integers(0, 90_000)),
    st.tuples(st.just("frames"), st.just(0), st.integers(16_384, 40_000)),
    st.tuples(st.just("cork"), st.just(0), st.booleans()),
    st.tuples(st.just("finish"), st.integers(0, 3), st.just(0)),
)


@settings(deadline=None, max_examples=150)
@given(initial=st.sampled_from([0, 10, 65_535, 1_000_000]), script=st.lists(steps, max_size=30))
def test_what_we_send_keeps_to_the_peers_windows_and_arrives_whole(initial: int, script: list[object]) -> None:
    talk = Conversation(TransportLimits(), (h2.INITIAL_WINDOW_SIZE, initial))
    reader = Reader(talk, initial)
    sent: dict[int, bytearray] = defaultdict(bytearray)
    for stream_id in (1, 3, 5, 7):
        reader.open(stream_id)
    finished: set[int] = set()
    for number, step in enumerate(script):
        match step:
            case ("send", int(which), list(sizes)):
                stream_id = 2 * which + 1
                payloads = [bytes((number,)) * size for size in sizes]
                talk.served.streams[stream_id].send(*payloads)
                if stream_id not in finished:
                    sent[stream_id] += b"".join(map(message, payloads))
                reader.read(talk.flush())
            case ("grant", int(which), int(increment)):
                if 2 * which - 1 not in finished:
                    reader.grant(max(0, 2 * which - 1), increment)
            case ("resize", _, int(size)):
                reader.resize(size)
            case ("frames", _, int(size)):
                reader.limit_frames(size)
            case ("cork", _, bool(is_corked)):
                talk.machine.cork(is_corked)
            case ("finish", int(which), _):
                finished.add(2 * which + 1)
                talk.served.streams[2 * which + 1].finish()
                reader.read(talk.flush())
    talk.machine.cork(False)
    reader.grant(0, 2**30)
    reader.resize(2**29)
    assert {stream_id: bytes(data) for stream_id, data in reader.received.items() if data} == {
        stream_id: bytes(data) for stream_id, data in sent.items() if data
    }
    assert reader.ended == finished
    assert talk.machine._outflow.queued_bytes == 0


class Writer:
    """A peer that sends messages as far as the server's windows let it, in turns over its streams."""

    def __init__(self, talk: Conversation) -> None:
        self.talk = talk
        values = dict(h2.SETTING.iter_unpack(talk.greeting[0].payload))
        self.initial = values[h2.INITIAL_WINDOW_SIZE]
        self.window = h2.DEFAULT_WINDOW
        self.windows: dict[int, int] = {}
        self.left: dict[int, memoryview] = {}
        self.refused: set[int] = set()
        self.read(talk.greeting)

    def read(self, frames: list[Frame]) -> None:
        for found in frames:
            if found.kind == h2.WINDOW_UPDATE and found.stream_id:
                self.windows[found.stream_id] += found.number
            elif found.kind == h2.WINDOW_UPDATE:
                self.window += found.number
            elif found.kind == h2.RST_STREAM:
                self.refused.add(found.stream_id)
                self.left.pop(found.stream_id, None)

    def begin(self, stream_id: int, data: bytes) -> None:
        self.windows[stream_id] = self.initial
        self.left[stream_id] = memoryview(data)
        self.read(self.talk.send(self.talk.client.headers(stream_id, head(PATH, ("grpc-encoding", "gzip")))))

    def step(self, stream_id: int, most: int) -> bool:
        """Send one frame on this stream; false when nothing can be sent."""
        left = self.left.get(stream_id, memoryview(b""))
        size = min(len(left), self.windows[stream_id], self.window, most, h2.DEFAULT_FRAME_BYTES)
        if size <= 0:
            return False
        self.left[stream_id] = left[size:]
        self.windows[stream_id] -= size
        self.window -= size
        self.read(self.talk.send(self.talk.client.data(stream_id, bytes(left[:size]))))
        return True

    def run(self, most: int = h2.DEFAULT_FRAME_BYTES) -> None:
        """Round after round, until nothing is left or nothing moves."""
        moved = True
        while moved:
            moved = False
            for stream_id in tuple(self.left):
                moved |= self.step(stream_id, most)


def zipped(size: int) -> bytes:
    """A compressed message that does not become smaller."""
    return message(gzip.compress(random.Random(size).randbytes(size), 1), 1)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_messages_of_any_size_arrive_whole_over_windows_that_never_stall(data: st.DataObject) -> None:
    talk = Conversation(SMALL)
    writer = Writer(talk)
    sizes = st.one_of(st.integers(0, 100), st.integers(0, 70_000), st.integers(60_000, 400_000))
    messages = st.one_of(
        st.tuples(sizes, st.just(False)), st.tuples(sizes.map(lambda size: min(size, 399_000)), st.just(True))
    )
    streams = range(1, 2 * data.draw(st.integers(1, 3)) + 1, 2)
    wanted = {stream_id: data.draw(st.lists(messages, max_size=4)) for stream_id in streams}
    for stream_id in streams:
        writer.begin(
            stream_id,
            b"".join(zipped(size) if is_zipped else message(bytes(size)) for size, is_zipped in wanted[stream_id]),
        )
    writer.run(data.draw(st.integers(3_000, 16_384)))
    assert not talk.is_over()
    assert not writer.refused
    assert {sid: [len(m) for m in talk.served.messages(sid)] for sid in streams} == {
        sid: [size for size, _ in wanted[sid]] for sid in streams
    }
    assert talk.machine._intake._held == 0


def test_many_large_messages_wait_for_one_another() -> None:
    talk = Conversation(TransportLimits())
    writer = Writer(talk)
    streams = range(1, 201, 2)
    for stream_id in streams:
        writer.begin(stream_id, message(bytes(2_000_000)))
    writer.run()
    assert [len(talk.served.messages(stream_id)[0]) for stream_id in streams] == [2_000_000] * 100
    assert not writer.refused


def test_reservations_of_calls_that_end_go_to_those_that_wait() -> None:
    talk = Conversation(SMALL)
    writer = Writer(talk)
    for stream_id in (1, 3, 5):
        writer.begin(stream_id, message(bytes(400_000)))
    writer.run(16_384)
    for stream_id in (7, 9, 11):
        writer.begin(stream_id, message(bytes(400_000))[:300_000])
    writer.run()
    for stream_id in (7, 9, 11):
        assert len(writer.left[stream_id]) in (0, 300_000 - 65_535)
        writer.left[stream_id] = memoryview(b"")
        talk.send(h2.reset(stream_id, h2.ErrorCode.CANCEL))
    writer.begin(13, message(bytes(400_000)))
    writer.run()
    assert len(talk.served.messages(13)) == 1


def test_a_paused_call_gets_no_window_until_it_is_resumed() -> None:
    talk = Conversation(SMALL)
    writer = Writer(talk)
    writer.begin(1, message(bytes(30_000)) * 10)
    talk.served.streams[1].pause()
    writer.run()
    assert len(talk.served.messages(1)) == 2
    writer.begin(3, message(bytes(30_000)) * 10)
    writer.run()
    assert len(talk.served.messages(3)) == 10
    talk.served.streams[1].resume()
    writer.read(talk.flush())
    writer.run()
    assert len(talk.served.messages(1)) == 10


def test_a_call_paused_within_a_large_message_goes_on_when_it_is_resumed() -> None:
    talk = Conversation(SMALL)
    writer = Writer(talk)
    writer.begin(1, message(bytes(10)) + message(bytes(300_000)))
    writer.step(1, 15)
    talk.served.streams[1].pause()
    writer.run()
    assert len(writer.left[1]) > 200_000
    talk.served.streams[1].resume()
    writer.read(talk.flush())
    writer.run()
    assert len(talk.served.messages(1)) == 2


def test_windows_are_given_back_in_large_steps() -> None:
    talk = Conversation(TransportLimits())
    writer = Writer(talk)
    writer.begin(1, message(bytes(10_000)) * 2_000)
    writer.run()
    assert len(talk.served.messages(1)) == 2_000
    updates = of_kind(talk.frames, h2.WINDOW_UPDATE)
    assert 1 <= len(updates) <= 2 * 20_000_000 // (talk.machine._intake.stream_window // 2)


def test_a_peer_that_exceeds_a_window_is_told_so() -> None:
    talk = Conversation(SMALL)
    talk.send(talk.client.headers(1))
    for _ in range(4):
        talk.send(talk.client.data(1, b"\0\0\1\0\0" + bytes(16_379)))
    talk.served.streams[1].pause()
    for _ in range(8):
        talk.send(talk.client.data(1, bytes(16_384)))
    assert of_kind(talk.frames, h2.RST_STREAM, 1)[0].number == h2.ErrorCode.FLOW_CONTROL_ERROR
    assert not talk.is_over()


def test_a_peer_that_exceeds_the_connections_window_is_sent_off() -> None:
    talk = Conversation(SMALL)
    frame = talk.client.data(1, message(bytes(16_379)))
    talk.send(talk.client.headers(1), frame * 60)
    assert not talk.is_over()
    talk.send(frame * 70)
    assert talk.frames[-1].goaway[1] is h2.ErrorCode.FLOW_CONTROL_ERROR


def test_a_corked_connection_counts_every_message_as_unsent() -> None:
    talk = Conversation()
    talk.send(talk.client.headers(1))
    talk.machine.cork(True)
    talk.served.streams[1].send(b"12345")
    assert talk.served.streams[1].unsent_bytes == 10
    talk.machine.cork(False)
    assert talk.flush()[-1].payload == message(b"12345")
    assert talk.served.streams[1].unsent_bytes == 0


def test_a_stream_whose_window_shrank_below_zero_waits_although_it_was_its_turn() -> None:
    talk = Conversation(TransportLimits(), (h2.INITIAL_WINDOW_SIZE, 100_000))
    talk.send(talk.client.headers(1))
    talk.served.streams[1].send(bytes(99_000))
    talk.flush()
    talk.send(h2.settings([(h2.INITIAL_WINDOW_SIZE, 1_000)]))
    assert of_kind(talk.send(h2.window_update(0, 1_000_000)), h2.DATA) == []
    talk.send(h2.settings([(h2.INITIAL_WINDOW_SIZE, 99_005)]))
    assert sum(len(found.payload) for found in of_kind(talk.frames, h2.DATA)) == 99_005


def test_an_answer_larger_than_a_chunk_leaves_chunk_by_chunk() -> None:
    talk = Conversation(TransportLimits(), (h2.INITIAL_WINDOW_SIZE, 2**31 - 1))
    talk.send(talk.client.headers(1), h2.window_update(0, 2**30))
    talk.served.streams[1].send(bytes(10_000_000))
    first = talk.machine.output()
    assert 200_000 < len(first) < 400_000
    talk.machine.cork(True)
    assert talk.machine.output() == b""
    assert talk.served.streams[1].unsent_bytes > 9_000_000
    talk.machine.cork(False)
    rest = talk.flush()
    assert sum(len(found.payload) for found in talk.client.read(first) + rest if found.kind == h2.DATA) == 10_000_005


def test_a_large_answer_does_not_hold_up_a_small_one() -> None:
    talk = Conversation(TransportLimits(), (h2.INITIAL_WINDOW_SIZE, 2**31 - 1))
    talk.send(talk.client.headers(1), talk.client.headers(3))
    talk.served.streams[1].send(bytes(1_000_000))
    talk.flush()
    talk.served.streams[3].send(b"small")
    assert talk.flush()[0].kind == h2.HEADERS
    frames = talk.send(h2.window_update(0, 70_000))
    assert [found.stream_id for found in frames if found.kind == h2.DATA].count(3) == 1


@pytest.mark.parametrize("change", [-70_000, 100])
def test_a_window_below_zero_has_to_be_filled_up_first(change: int) -> None:
    talk = Conversation(TransportLimits(), (h2.INITIAL_WINDOW_SIZE, 80_000))
    talk.send(talk.client.headers(1), h2.window_update(0, 1_000_000))
    talk.served.streams[1].send(bytes(79_000))
    talk.flush()
    talk.send(h2.settings([(h2.INITIAL_WINDOW_SIZE, 80_000 + change)]))
    talk.served.streams[1].send(bytes(5_000))
    sent = sum(len(found.payload) for found in of_kind(talk.flush(), h2.DATA))
    assert sent == max(0, 995 + change)
    rest = sum(len(found.payload) for found in of_kind(talk.send(h2.window_update(1, 70_000)), h2.DATA))
    assert rest == (min(5_005, 70_000 + 995 + change) - sent)


def test_the_connections_window_bounds_all_streams_together() -> None:
    talk = Conversation(TransportLimits(), (h2.INITIAL_WINDOW_SIZE, 1_000_000))
    reader = Reader(talk, 1_000_000)
    for stream_id in (1, 3):
        reader.open(stream_id)
        talk.served.streams[stream_id].send(bytes(100_000))
    reader.read(talk.flush())
    assert reader.window == 0
    reader.grant(0, 1_000)
    assert reader.window == 0
    reader.grant(0, 1_000_000)
    assert {stream_id: len(data) for stream_id, data in reader.received.items()} == {1: 100_005, 3: 100_005}
