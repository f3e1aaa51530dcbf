"""Peers that want to hurt: whatever they repeat, work and memory stay bounded and the connection ends."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc import frames as h2
from stellwerk.edge.grpc.frames import ErrorCode
from tests.kit.http2 import Client, Conversation, head, message

LIMITS = TransportLimits(max_control_frames_per_second=100, max_concurrent_streams=100, max_unsent_bytes=200_000)
Flood = Callable[[Client], Iterator[bytes]]


def rapid_resets(client: Client) -> Iterator[bytes]:
    for stream_id in count(1, 2):
        yield client.headers(stream_id) + h2.reset(stream_id, ErrorCode.CANCEL)


def rapid_resets_with_messages(client: Client) -> Iterator[bytes]:
    for stream_id in count(1, 2):
        yield client.call(stream_id, b"x", b"y", end=False) + h2.reset(stream_id, ErrorCode.CANCEL)


def provoked_resets(client: Client) -> Iterator[bytes]:
    for stream_id in count(1, 2):
        yield client.headers(stream_id) + h2.window_update(stream_id, 0)


def malformed_requests(client: Client) -> Iterator[bytes]:
    for stream_id in count(1, 2):
        yield client.headers(stream_id, [("x", "y")])


def requests_that_are_no_calls(client: Client) -> Iterator[bytes]:
    for stream_id in count(1, 2):
        yield client.headers(stream_id, head(method="GET"), end=True)


def pings(client: Client) -> Iterator[bytes]:
    while True:
        yield h2.frame(h2.PING, 0, 0, b"........")


def ping_answers(client: Client) -> Iterator[bytes]:
    while True:
        yield h2.frame(h2.PING, h2.ACK, 0, b"........")


def settings(client: Client) -> Iterator[bytes]:
    while True:
        yield h2.settings(())


def long_settings(client: Client) -> Iterator[bytes]:
    while True:
        yield h2.settings([(0x99, number) for number in range(2000)])


def settings_answers(client: Client) -> Iterator[bytes]:
    while True:
        yield h2.SETTINGS_ACK


def empty_data(client: Client) -> Iterator[bytes]:
    yield client.headers(1)
    while True:
        yield client.data(1, b"")


def padding_only(client: Client) -> Iterator[bytes]:
    yield client.headers(1)
    while True:
        yield client.data(1, b"", padding=255)


def data_byte_by_byte(client: Client) -> Iterator[bytes]:
    yield client.headers(1)
    for byte in message(bytes(1_000_000)):
        yield client.data(1, bytes((byte,)))


def data_after_our_reset(client: Client) -> Iterator[bytes]:
    yield client.headers(1) + client.data(1, b"\1\0\0\0\0")
    while True:
        yield client.data(1, b"\0" * 100)


def empty_continuations(client: Client) -> Iterator[bytes]:
    yield h2.frame(h2.HEADERS, 0, 1, b"")
    while True:
        yield h2.frame(h2.CONTINUATION, 0, 1, b"")


def endless_continuations(client: Client) -> Iterator[bytes]:
    yield h2.frame(h2.HEADERS, 0, 1, b"")
    while True:
        yield h2.frame(h2.CONTINUATION, 0, 1, b"\0\1a" + b"\x7f\xe1\x00" + b"x" * 223)


def header_bomb(client: Client) -> Iterator[bytes]:
    value = b"\x7f\xa1\x1e" + b"v" * 4000
    yield h2.frame(h2.HEADERS, h2.END_HEADERS, 1, b"\x40\x01a" + value)
    yield h2.frame(h2.HEADERS, h2.END_HEADERS, 3, b"\xbe" * 16_000)


def priorities(client: Client) -> Iterator[bytes]:
    while True:
        yield h2.frame(h2.PRIORITY, 0, 1, bytes(5))


def unknown_frames(client: Client) -> Iterator[bytes]:
    while True:
        yield h2.frame(0x77, 0, 0, b"")


def goodbyes(client: Client) -> Iterator[bytes]:
    yield client.headers(1)
    while True:
        yield h2.goaway(0, ErrorCode.NO_ERROR)


def window_updates(client: Client) -> Iterator[bytes]:
    while True:
        yield h2.window_update(0, 1)


def window_drip(client: Client) -> Iterator[bytes]:
    yield h2.settings([(h2.INITIAL_WINDOW_SIZE, 0)])
    yield client.call(1, b"x" * 10_000, end=False)
    while True:
        yield h2.window_update(1, 1)


def resets_of_the_past(client: Client) -> Iterator[bytes]:
    yield client.headers(1)
    while True:
        yield h2.reset(1, ErrorCode.CANCEL)


def resized_windows(client: Client) -> Iterator[bytes]:
    for stream_id in range(1, 201, 2):
        yield client.headers(stream_id)
    for size in count():
        yield h2.settings([(h2.INITIAL_WINDOW_SIZE, size % 2)])


def refused_streams(client: Client) -> Iterator[bytes]:
    for stream_id in count(1, 2):
        yield client.headers(stream_id)


FLOODS: list[Flood] = [
    rapid_resets,
    rapid_resets_with_messages,
    provoked_resets,
    malformed_requests,
    requests_that_are_no_calls,
    pings,
    ping_answers,
    settings,
    long_settings,
    settings_answers,
    empty_data,
    padding_only,
    data_byte_by_byte,
    data_after_our_reset,
    empty_continuations,
    endless_continuations,
    header_bomb,
    priorities,
    unknown_frames,
    goodbyes,
    window_updates,
    window_drip,
    resets_of_the_past,
    resized_windows,
    refused_streams,
]


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_the_connection_with_enhance_your_calm(flood: Flood) -> None:
    limits = LIMITS if flood is not refused_streams else TransportLimits(max_concurrent_streams=10)
    talk = Conversation(limits)
    talk.is_echoing = True
    for number, data in enumerate(flood(talk.client)):
        talk.send(data)
        if talk.is_over():
            break
        assert number < 5_000
    assert talk.frames[-1].goaway[1] is ErrorCode.ENHANCE_YOUR_CALM
    assert talk.counters.floods_refused == 1
    assert talk.counters.streams_open == 0


@pytest.mark.parametrize("flood", [pings, window_updates, settings, rapid_resets])
def test_the_same_frames_at_a_bearable_rate_are_no_flood(flood: Flood) -> None:
    talk = Conversation(LIMITS)
    for _, data in zip(range(1_000), flood(talk.client), strict=False):
        talk.send(data)
        talk.now += 0.011
    assert not talk.is_over()


def test_a_header_block_is_bounded_in_bytes_before_it_is_bounded_in_frames() -> None:
    talk = Conversation(TransportLimits(max_header_list_bytes=10_000))
    for number, data in enumerate(endless_continuations(talk.client)):
        talk.send(data)
        assert talk.machine._reader.kept_bytes <= 11_000
        if talk.is_over():
            break
        assert number < 60


def test_resizing_the_windows_of_many_streams_costs_more() -> None:
    talk = Conversation(TransportLimits(max_concurrent_streams=6_400))
    talk.send(*(talk.client.headers(stream_id) for stream_id in range(1, 12_801, 2)))
    for size in range(100):
        talk.send(h2.settings([(h2.INITIAL_WINDOW_SIZE, size)]))
    assert talk.is_over()


def test_honest_calls_explain_their_window_updates_and_their_resets() -> None:
    talk = Conversation(LIMITS)
    talk.is_echoing = True
    for stream_id in range(1, 4_001, 2):
        talk.send(
            talk.client.call(stream_id, b"headers", b"body", end=False),
            h2.window_update(stream_id, 24) + h2.window_update(0, 24),
            h2.frame(h2.PING, 0, 0, bytes(8)),
            h2.reset(stream_id, ErrorCode.CANCEL),
        )
    assert not talk.is_over()
    assert talk.counters.messages_received == 4_000


def test_one_full_house_of_cancelled_calls_is_no_flood() -> None:
    talk = Conversation(TransportLimits())
    talk.send(*(talk.client.headers(stream_id) for stream_id in range(1, 20_001, 2)))
    talk.send(*(h2.reset(stream_id, ErrorCode.CANCEL) for stream_id in range(1, 20_001, 2)))
    assert not talk.is_over()
    assert talk.counters.resets_received == 10_000


def test_clients_that_enlarge_the_window_of_each_new_stream_are_no_flood() -> None:
    talk = Conversation(LIMITS)
    for stream_id in range(1, 201, 2):
        talk.send(talk.client.headers(stream_id) + h2.window_update(stream_id, 1_000) * 4)
    assert not talk.is_over()
    talk.send(*(h2.window_update(stream_id, 1) for stream_id in range(1, 201, 2)), h2.window_update(1, 1) * 200)
    assert talk.is_over()


def test_a_reader_that_updates_its_windows_for_every_frame_is_no_flood() -> None:
    talk = Conversation(LIMITS)
    talk.is_echoing = True
    talk.send(talk.client.headers(1))
    for _ in range(400):
        frames = talk.send(talk.client.data(1, message(bytes(10_000))))
        for frame in frames:
            if frame.kind == h2.DATA and frame.payload:
                grant = len(frame.payload)
                talk.send(h2.window_update(1, grant) + h2.window_update(0, grant))
    assert not talk.is_over()


def test_a_peer_that_never_reads_is_closed_at_the_bound_of_unsent_bytes() -> None:
    talk = Conversation(TransportLimits(max_unsent_bytes=200_000), (h2.INITIAL_WINDOW_SIZE, 0))
    talk.is_echoing = True
    for stream_id in range(1, 1_001, 2):
        talk.send(talk.client.call(stream_id, bytes(1_000), end=False))
        assert talk.machine._outflow.queued_bytes <= 201_005
        if talk.is_over():
            break
    assert talk.frames[-1].goaway[1] is ErrorCode.ENHANCE_YOUR_CALM
    assert talk.machine._outflow.queued_bytes == 0


def test_answers_to_pings_of_a_peer_that_does_not_read_are_bounded() -> None:
    talk = Conversation(TransportLimits(max_unsent_bytes=10_000))
    talk.machine.cork(True)
    for _ in range(1_000):
        talk.machine.receive(h2.frame(h2.PING, 0, 0, bytes(8)), talk.now)
    assert talk.is_over()


def test_unfinished_messages_on_many_streams_are_bounded_together() -> None:
    limits = TransportLimits(max_message_bytes=100_000, connection_window_bytes=1_000_000, stream_window_bytes=65_535)
    talk = Conversation(limits)
    for stream_id in range(1, 201, 2):
        talk.send(talk.client.headers(stream_id))
        talk.send(*(talk.client.data(stream_id, piece) for piece in pieces(message(bytes(60_000))[:-1])))
    held = sum(stream.held for stream in talk.machine._streams.values())
    assert held <= 250_000
    assert not talk.is_over()
    assert talk.counters.calls_refused == 100 - len(talk.machine._streams)


def pieces(data: bytes, size: int = 16_384) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
