"""Conversations: frames in, events and frames out."""

import pytest

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc import frames as h2
from stellwerk.edge.grpc.frames import ErrorCode
from stellwerk.edge.grpc.status import Status
from tests.kit.http2 import Conversation, Frame, answer, head, message, of_kind


def only_goaway(frames: list[Frame]) -> ErrorCode:
    """The frames end with one GOAWAY; its code."""
    assert [found.kind for found in frames].count(h2.GOAWAY) == 1
    assert frames[-1].kind == h2.GOAWAY
    return frames[-1].goaway[1]


def reset_code(frames: list[Frame], stream_id: int) -> int:
    resets = of_kind(frames, h2.RST_STREAM, stream_id)
    assert len(resets) == 1
    return resets[0].number


def test_a_call_is_opened_told_its_messages_and_closed_after_its_trailers() -> None:
    talk = Conversation()
    talk.is_echoing = True
    frames = talk.send(talk.client.call(1, b"hello", b""))
    assert talk.served.told == [
        ("opened", 1),
        ("message", 1, b"hello"),
        ("message", 1, b""),
        ("half closed", 1),
        ("closed", 1),
    ]
    assert [found.kind for found in frames] == [h2.HEADERS, h2.DATA, h2.DATA, h2.HEADERS]
    assert frames[0].fields == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "identity,gzip",
    }
    assert answer(frames, 1) == message(b"hello") + message(b"")
    assert frames[-1].fields == {"grpc-status": "0"}
    assert frames[-1].flags & h2.END_STREAM


def test_the_greeting_names_our_limits() -> None:
    talk = Conversation(TransportLimits(max_concurrent_streams=7, stream_window_bytes=100_000))
    assert talk.greeting[0].kind == h2.SETTINGS
    values = dict(h2.SETTING.iter_unpack(talk.greeting[0].payload))
    assert values[h2.MAX_CONCURRENT_STREAMS] == 7
    assert values[h2.INITIAL_WINDOW_SIZE] == 100_000
    assert of_kind(talk.greeting, h2.SETTINGS)[-1].flags & h2.ACK


def test_several_messages_of_one_send_leave_in_one_frame() -> None:
    talk = Conversation()
    talk.send(talk.client.call(1, b"x", end=False))
    talk.served.streams[1].send(b"a", b"bb", b"ccc")
    frames = talk.flush()
    assert [found.kind for found in frames] == [h2.HEADERS, h2.DATA]
    assert frames[1].payload == message(b"a") + message(b"bb") + message(b"ccc")


def test_a_call_finished_before_the_peer_half_closed_is_reset_without_error() -> None:
    talk = Conversation()
    talk.send(talk.client.call(1, b"x", end=False))
    talk.served.streams[1].finish(Status.OK)
    frames = talk.flush()
    assert frames[-2].flags & h2.END_STREAM
    assert reset_code(frames, 1) == ErrorCode.NO_ERROR
    assert talk.served.told[-1] == ("closed", 1)


def test_a_call_without_any_answer_ends_in_one_block_with_its_status() -> None:
    talk = Conversation()
    talk.send(talk.client.call(1, b"x"))
    talk.served.streams[1].finish(Status.NOT_FOUND, "kein Gleis 9¾ 100%")
    frames = talk.flush()
    assert [found.kind for found in frames] == [h2.HEADERS]
    assert frames[0].fields == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "identity,gzip",
        "grpc-status": "5",
        "grpc-message": "kein Gleis 9%C2%BE 100%25",
    }


def test_an_ended_call_ignores_whatever_its_handler_still_does() -> None:
    talk = Conversation()
    talk.send(talk.client.call(1, b"x"))
    stream = talk.served.streams[1]
    stream.finish()
    talk.flush()
    stream.send(b"late")
    stream.finish(Status.INTERNAL)
    stream.pause()
    stream.resume()
    assert talk.flush() == []
    assert talk.served.told.count(("closed", 1)) == 1


def test_a_send_outside_of_a_turn_wakes_the_edge() -> None:
    talk = Conversation()
    talk.send(talk.client.call(1, b"x", end=False))
    talk.wakes = 0
    talk.served.streams[1].send(b"later")
    assert talk.wakes == 1


def test_a_peer_that_resets_ends_the_call_silently() -> None:
    talk = Conversation()
    frames = talk.send(talk.client.call(1, b"x", end=False), h2.reset(1, ErrorCode.CANCEL))
    assert frames == []
    assert talk.served.told[-1] == ("closed", 1)
    assert talk.counters.resets_received == 1
    assert talk.counters.streams_open == 0


def test_padding_is_dropped_and_given_back() -> None:
    talk = Conversation()
    talk.send(talk.client.headers(1), talk.client.data(1, message(b"soft"), padding=200, end=True))
    assert talk.served.messages(1) == [b"soft"]


def test_a_padded_and_prioritized_head_split_over_continuations_is_read() -> None:
    talk = Conversation()
    block = talk.client.encoder.encode(head())
    first = bytes((3,)) + bytes(5) + block[:10] + bytes(3)
    talk.send(
        h2.frame(h2.HEADERS, h2.PADDED | h2.PRIORITIZED | h2.END_STREAM, 1, first),
        h2.frame(h2.CONTINUATION, 0, 1, block[10:20]),
        h2.frame(h2.CONTINUATION, h2.END_HEADERS, 1, block[20:]),
    )
    assert talk.served.told == [("opened", 1), ("half closed", 1)]


def test_request_trailers_half_close_a_call() -> None:
    talk = Conversation()
    talk.send(talk.client.call(1, b"x", end=False), talk.client.headers(1, [("checksum", "7")], end=True))
    assert talk.served.told[-1] == ("half closed", 1)


@pytest.mark.parametrize("flag", [1, 2, 255])
def test_a_message_with_a_flag_that_means_nothing_is_refused(flag: int) -> None:
    talk = Conversation()
    frames = talk.send(talk.client.headers(1), talk.client.data(1, message(b"zip", flag)))
    assert of_kind(frames, h2.HEADERS, 1)[0].fields["grpc-status"] == str(int(Status.INTERNAL))
    assert reset_code(frames, 1) == ErrorCode.NO_ERROR
    assert talk.served.told == [("opened", 1), ("closed", 1)]


def test_a_message_over_the_limit_is_refused_by_its_length_alone() -> None:
    talk = Conversation(TransportLimits(max_message_bytes=1000))
    frames = talk.send(talk.client.headers(1), talk.client.data(1, message(bytes(1000))))
    assert frames == []
    assert talk.served.messages(1) == [bytes(1000)]
    frames = talk.send(talk.client.data(1, b"\0" + (1001).to_bytes(4, "big")))
    assert frames[0].fields["grpc-status"] == str(int(Status.RESOURCE_EXHAUSTED))
    frames = talk.send(talk.client.headers(3), talk.client.data(3, b"\0\xff\xff\xff\xff"))
    assert frames[0].fields["grpc-status"] == str(int(Status.RESOURCE_EXHAUSTED))


@pytest.mark.parametrize("cut", [1, 4, 5, 6])
def test_a_call_that_ends_within_a_message_is_told_so(cut: int) -> None:
    talk = Conversation()
    frames = talk.send(talk.client.headers(1), talk.client.data(1, message(b"ab")[:cut], end=True))
    assert frames[-1].fields["grpc-status"] == str(int(Status.INTERNAL))
    assert talk.served.told == [("opened", 1), ("closed", 1)]


@pytest.mark.parametrize(
    ("fields", "http", "status"),
    [
        (head(method="GET"), "405", Status.INTERNAL),
        (head(content_type="application/json"), "415", Status.INVALID_ARGUMENT),
        (head(content_type="application/grpc-web"), "415", Status.INVALID_ARGUMENT),
        (head("/a/b", ("grpc-timeout", "soon")), "400", Status.INTERNAL),
        (head("/a/b", ("x", "0" * 10_000)), "431", Status.RESOURCE_EXHAUSTED),
    ],
)
def test_a_request_that_is_no_call_is_answered_in_one_block(
    fields: list[tuple[str, str]], http: str, status: Status
) -> None:
    talk = Conversation(TransportLimits(max_header_list_bytes=8_192))
    block = talk.client.encoder.encode(fields)
    rest = [block[start : start + 6_000] for start in range(6_000, len(block), 6_000)]
    pieces = [h2.frame(h2.HEADERS, h2.END_STREAM, 1, block[:6_000])]
    pieces += [h2.frame(h2.CONTINUATION, 0, 1, piece) for piece in rest]
    frames = talk.send(*pieces, h2.frame(h2.CONTINUATION, h2.END_HEADERS, 1, b""))
    assert [found.kind for found in frames] == [h2.HEADERS]
    assert frames[0].fields[":status"] == http
    assert frames[0].fields["grpc-status"] == str(int(status))
    assert talk.served.told == []
    assert talk.counters.calls_refused == 1
    talk.send(talk.client.call(3, b"next"))
    assert talk.served.messages(3) == [b"next"]


@pytest.mark.parametrize(
    "fields",
    [
        [(":method", "POST"), (":scheme", "http"), ("content-type", "application/grpc")],
        [("x", "y"), *head()],
        [*head(), (":path", "/other")],
        [*head()[:4], (":protocol", "websocket"), *head()[4:]],
        [*head(), ("connection", "close")],
        [*head()[:4], ("te", "gzip")],
        [*head(), ("transfer-encoding", "chunked")],
        [*head(), ("Upper", "case")],
        [*head(), ("space d", "x")],
        [*head(), ("x", "line\nbreak")],
        [*head(), ("x", "nul\0")],
        [*head(), ("x", " padded")],
        [*head(), ("content-length", "many")],
        [*head(), ("", "nameless")],
        head("no-slash"),
    ],
)
def test_a_malformed_request_is_reset_and_others_live(fields: list[tuple[str, str]]) -> None:
    talk = Conversation()
    frames = talk.send(talk.client.headers(1, fields))
    assert reset_code(frames, 1) == ErrorCode.PROTOCOL_ERROR
    assert talk.served.told == []
    talk.send(talk.client.call(3, b"well"))
    assert talk.served.messages(3) == [b"well"]


def test_a_content_length_that_lies_is_a_stream_error() -> None:
    talk = Conversation()
    short = [*head(), ("content-length", "12")]
    frames = talk.send(talk.client.headers(1, short), talk.client.data(1, message(b"x"), end=True))
    assert reset_code(frames, 1) == ErrorCode.PROTOCOL_ERROR
    frames = talk.send(talk.client.headers(3, short), talk.client.data(3, message(b"x" * 20)))
    assert reset_code(frames, 3) == ErrorCode.PROTOCOL_ERROR
    frames = talk.send(talk.client.headers(5, short), talk.client.data(5, message(b"x" * 7), end=True))
    assert talk.served.told[-1] == ("half closed", 5)


def test_streams_over_the_limit_are_refused_and_their_headers_still_decoded() -> None:
    talk = Conversation(TransportLimits(max_concurrent_streams=2))
    talk.send(talk.client.call(1, end=False), talk.client.call(3, end=False))
    frames = talk.send(talk.client.headers(5, head("/new/Entry", ("x-new", "indexed"))))
    assert reset_code(frames, 5) == ErrorCode.REFUSED_STREAM
    assert talk.counters.streams_refused == 1
    talk.served.streams[1].finish()
    talk.flush()
    talk.send(talk.client.headers(7, head("/new/Entry", ("x-new", "indexed"))))
    assert talk.served.streams[7].path == "/new/Entry"
    assert (b"x-new", b"indexed") in talk.served.streams[7].metadata


def test_a_deadline_ends_the_call_on_time() -> None:
    talk = Conversation()
    talk.send(talk.client.headers(1, head("/a/b", ("grpc-timeout", "250m"))))
    assert talk.machine.next_at == pytest.approx(talk.now + 0.25)
    assert talk.wait(0.2) == []
    frames = talk.wait(0.06)
    assert frames[0].fields["grpc-status"] == str(int(Status.DEADLINE_EXCEEDED))
    assert talk.served.told == [("opened", 1), ("closed", 1)]
    assert talk.counters.deadlines_exceeded == 1


def test_deadlines_of_ended_calls_are_not_kept() -> None:
    talk = Conversation()
    talk.is_echoing = True
    for number in range(1000):
        talk.send(talk.client.headers(2 * number + 1, head("/a/b", ("grpc-timeout", "99999999H")), end=True))
    assert len(talk.machine._lifetime._deadlines) < 100


# -- rules of the connection ----------------------------------------------------------------------------------------

PROTOCOL, SIZE, FLOW = ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR, ErrorCode.FLOW_CONTROL_ERROR


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (h2.frame(h2.DATA, 0, 0, b"x"), PROTOCOL),
        (h2.frame(h2.DATA, 0, 1, b"x"), PROTOCOL),
        (h2.frame(h2.DATA, 0, 2, b"x"), PROTOCOL),
        (h2.frame(h2.HEADERS, h2.END_HEADERS, 0, b""), PROTOCOL),
        (h2.frame(h2.HEADERS, h2.END_HEADERS, 2, b""), PROTOCOL),
        (h2.frame(h2.HEADERS, h2.END_HEADERS | h2.PADDED, 1, b"\x05abc"), PROTOCOL),
        (h2.frame(h2.HEADERS, h2.END_HEADERS | h2.PADDED, 1, b""), PROTOCOL),
        (h2.frame(h2.HEADERS, h2.END_HEADERS | h2.PRIORITIZED, 1, b"abc"), SIZE),
        (h2.frame(h2.HEADERS, h2.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
        (h2.frame(h2.HEADERS, h2.END_HEADERS, 1, b"\x00\x85\x01"), ErrorCode.COMPRESSION_ERROR),
        (h2.frame(h2.HEADERS, 0, 1, b"") + h2.frame(h2.PING, 0, 0, bytes(8)), PROTOCOL),
        (h2.frame(h2.HEADERS, 0, 1, b"") + h2.frame(h2.CONTINUATION, 0, 3, b""), PROTOCOL),
        (h2.frame(h2.CONTINUATION, h2.END_HEADERS, 1, b""), PROTOCOL),
        (h2.frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, bytes(4)), PROTOCOL),
        (h2.frame(h2.RST_STREAM, 0, 0, bytes(4)), PROTOCOL),
        (h2.frame(h2.RST_STREAM, 0, 1, bytes(4)), PROTOCOL),
        (h2.frame(h2.RST_STREAM, 0, 1, bytes(3)), SIZE),
        (h2.frame(h2.PRIORITY, 0, 0, bytes(5)), PROTOCOL),
        (h2.frame(h2.PRIORITY, 0, 1, bytes(4)), SIZE),
        (h2.frame(h2.SETTINGS, 0, 1, b""), PROTOCOL),
        (h2.frame(h2.SETTINGS, 0, 0, bytes(5)), SIZE),
        (h2.frame(h2.SETTINGS, h2.ACK, 0, bytes(6)), SIZE),
        (h2.settings([(h2.ENABLE_PUSH, 2)]), PROTOCOL),
        (h2.settings([(h2.INITIAL_WINDOW_SIZE, 2**31)]), FLOW),
        (h2.settings([(h2.MAX_FRAME_SIZE, 16_383)]), PROTOCOL),
        (h2.settings([(h2.MAX_FRAME_SIZE, 2**24)]), PROTOCOL),
        (h2.frame(h2.PING, 0, 1, bytes(8)), PROTOCOL),
        (h2.frame(h2.PING, 0, 0, bytes(7)), SIZE),
        (h2.frame(h2.GOAWAY, 0, 1, bytes(8)), PROTOCOL),
        (h2.frame(h2.GOAWAY, 0, 0, bytes(7)), SIZE),
        (h2.frame(h2.WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL),
        (h2.frame(h2.WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
        (h2.frame(h2.WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), PROTOCOL),
        (h2.window_update(0, h2.MAX_WINDOW), FLOW),
        (h2.frame(h2.DATA, 0, 1, bytes(16_385)), SIZE),
    ],
)
def test_a_broken_rule_of_the_connection_is_told_by_goaway(data: bytes, code: ErrorCode) -> None:
    talk = Conversation()
    assert only_goaway(talk.send(data)) is code
    assert talk.is_over()
    assert talk.counters.protocol_errors == 1
    assert talk.send(h2.frame(h2.PING, 0, 0, bytes(8))) == []


def test_a_fault_of_the_connection_closes_every_call_once() -> None:
    talk = Conversation()
    talk.send(talk.client.call(1, b"x", end=False), talk.client.call(3, b"y", end=False))
    frames = talk.send(h2.frame(h2.DATA, 0, 0, b"") + talk.client.call(5, b"never"))
    assert frames[-1].goaway == (3, ErrorCode.PROTOCOL_ERROR)
    assert talk.served.told[-2:] == [("closed", 1), ("closed", 3)]
    assert talk.counters.streams_open == 0


@pytest.mark.parametrize(
    "start", [b"GET / HTTP/1.1\r\n\r\n", b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", b"\x16\x03\x01"]
)
def test_whoever_does_not_speak_http2_is_sent_off(start: bytes) -> None:
    talk = Conversation(greet=False)
    frames = talk.send(start)
    if start == b"P":
        assert not talk.is_over()
    else:
        assert frames[-1].goaway[1] is PROTOCOL


@pytest.mark.parametrize("first", [h2.frame(h2.PING, 0, 0, bytes(8)), h2.SETTINGS_ACK, h2.window_update(0, 1)])
def test_the_preface_must_be_followed_by_settings(first: bytes) -> None:
    talk = Conversation(greet=False)
    assert talk.send(h2.PREFACE + first)[-1].goaway[1] is PROTOCOL


def test_a_stream_id_below_the_last_was_never_opened() -> None:
    talk = Conversation()
    talk.send(talk.client.call(5, end=False))
    assert only_goaway(talk.send(talk.client.headers(3))) is PROTOCOL


def test_frames_after_both_sides_ended_are_a_contradiction() -> None:
    for late in ("data", "headers"):
        talk = Conversation()
        talk.is_echoing = True
        talk.send(talk.client.call(1, b"x"))
        data = talk.client.data(1, b"") if late == "data" else talk.client.headers(1)
        assert only_goaway(talk.send(data)) is ErrorCode.STREAM_CLOSED


def test_frames_after_the_peers_own_reset_or_half_close_are_stream_errors() -> None:
    talk = Conversation()
    talk.send(talk.client.call(1, b"x", end=False), h2.reset(1, ErrorCode.CANCEL))
    assert reset_code(talk.send(talk.client.data(1, b"")), 1) == ErrorCode.STREAM_CLOSED
    talk.send(talk.client.call(3, b"x"))
    assert reset_code(talk.send(talk.client.data(3, b"")), 3) == ErrorCode.STREAM_CLOSED
    talk.send(talk.client.call(5, b"x"))
    assert reset_code(talk.send(talk.client.headers(5, [("a", "b")], end=True)), 5) == ErrorCode.STREAM_CLOSED
    assert not talk.is_over()


def test_what_was_on_its_way_when_we_ended_a_call_is_tolerated() -> None:
    talk = Conversation()
    talk.send(talk.client.call(1, b"x", end=False))
    talk.served.streams[1].finish()
    talk.flush()
    frames = talk.send(
        talk.client.data(1, message(b"more")),
        h2.window_update(1, 100),
        talk.client.headers(1, [("a", "b")], end=True),
        h2.reset(1, ErrorCode.CANCEL),
    )
    assert frames == []
    assert talk.served.messages(1) == [b"x"]


def test_trailers_that_do_not_end_the_stream_are_a_stream_error() -> None:
    talk = Conversation()
    frames = talk.send(talk.client.call(1, end=False), talk.client.headers(1, [("a", "b")]))
    assert reset_code(frames, 1) == PROTOCOL


def test_a_window_update_of_nothing_or_too_much_resets_its_stream_only() -> None:
    talk = Conversation()
    talk.send(talk.client.call(1, end=False), talk.client.call(3, end=False))
    assert reset_code(talk.send(h2.window_update(1, 0)), 1) == PROTOCOL
    assert reset_code(talk.send(h2.window_update(3, h2.MAX_WINDOW)), 3) == FLOW
    assert not talk.is_over()


def test_frames_of_unknown_types_and_priorities_are_ignored() -> None:
    talk = Conversation()
    frames = talk.send(h2.frame(0xBE, 0xFF, 9, b"ORIGIN"), h2.frame(h2.PRIORITY, 0, 99, bytes(5)))
    assert frames == []
    talk.send(talk.client.call(1, b"x"))
    assert talk.served.messages(1) == [b"x"]


def test_ping_is_answered_with_its_own_bytes() -> None:
    talk = Conversation()
    frames = talk.send(h2.frame(h2.PING, 0, 0, b"12345678"))
    assert (frames[0].kind, frames[0].flags, frames[0].payload) == (h2.PING, h2.ACK, b"12345678")


def test_a_smaller_header_table_is_acknowledged_in_the_next_block() -> None:
    talk = Conversation(None, (h2.HEADER_TABLE_SIZE, 0))
    talk.client.decoder.max_allowed_table_size = 0
    talk.is_echoing = True
    frames = talk.send(talk.client.call(1, b"x"))
    assert frames[0].payload[0] == 0x20
    assert frames[-1].payload[0] != 0x20
    assert frames[-1].fields == {"grpc-status": "0"}


# -- ends -----------------------------------------------------------------------------------------------------------


def test_a_drain_announces_itself_lets_calls_finish_and_refuses_late_ones() -> None:
    talk = Conversation()
    talk.is_echoing = True
    talk.send(talk.client.call(1, b"x", end=False))
    talk.machine.drain(talk.now)
    frames = talk.flush()
    assert frames[0].goaway == (h2.MAX_WINDOW, ErrorCode.NO_ERROR)
    ping = frames[1]
    talk.send(talk.client.call(3, b"on its way"))
    assert talk.served.has("closed", 3)
    frames = talk.send(h2.frame(h2.PING, h2.ACK, 0, ping.payload))
    assert frames[-1].goaway == (3, ErrorCode.NO_ERROR)
    assert reset_code(talk.send(talk.client.call(5, b"late")), 5) == ErrorCode.REFUSED_STREAM
    assert not talk.is_over()
    talk.send(talk.client.data(1, b"", end=True))
    assert talk.is_over()


def test_a_drain_goes_on_without_the_answer_to_its_ping() -> None:
    talk = Conversation()
    talk.machine.drain(talk.now)
    talk.flush()
    frames = talk.wait(1.1)
    assert frames[0].goaway == (0, ErrorCode.NO_ERROR)
    assert talk.is_over()


def test_a_peer_that_says_goodbye_may_finish_its_calls() -> None:
    talk = Conversation()
    talk.is_echoing = True
    talk.send(talk.client.call(1, b"x", end=False), h2.goaway(0, ErrorCode.NO_ERROR))
    assert not talk.is_over()
    talk.send(talk.client.data(1, message(b"y"), end=True))
    assert talk.is_over()
    assert answer(talk.frames, 1) == message(b"x") + message(b"y")


def test_shutting_tells_every_call_that_we_are_unavailable() -> None:
    talk = Conversation()
    talk.send(talk.client.call(1, b"x", end=False), talk.client.call(3, b"x"))
    talk.machine.shut("bye")
    frames = talk.flush()
    trailers = of_kind(frames, h2.HEADERS)
    assert [found.fields["grpc-status"] for found in trailers] == ["14", "14"]
    assert only_goaway(frames) is ErrorCode.NO_ERROR
    assert talk.served.told[-2:] == [("closed", 1), ("closed", 3)]


def test_a_silent_connection_is_asked_and_then_closed() -> None:
    limits = TransportLimits(ping_interval_seconds=30, ping_timeout_seconds=20)
    talk = Conversation(limits)
    talk.send(talk.client.call(1, b"x", end=False))
    assert talk.wait(29) == []
    assert [found.kind for found in talk.wait(1)] == [h2.PING]
    talk.wait(19)
    assert not talk.is_over()
    talk.wait(1)
    assert talk.is_over()
    assert talk.served.told[-1] == ("closed", 1)
    assert talk.counters.connections_reaped == 1


def test_any_sign_of_life_counts_as_an_answer() -> None:
    talk = Conversation()
    talk.send(talk.client.call(1, end=False))
    for _ in range(10):
        assert [found.kind for found in talk.wait(30)] == [h2.PING]
        talk.send(h2.window_update(0, 1))
        assert talk.wait(25) == []
        talk.send(h2.window_update(0, 1))
    assert not talk.is_over()


def test_a_connection_without_calls_is_left_after_a_while() -> None:
    talk = Conversation(TransportLimits(idle_timeout_seconds=60, ping_interval_seconds=1000))
    talk.is_echoing = True
    talk.wait(59)
    talk.send(talk.client.call(1, b"x"))
    assert talk.wait(59) == []
    frames = talk.wait(1)
    assert frames[0].goaway == (h2.MAX_WINDOW, ErrorCode.NO_ERROR)
    talk.wait(1)
    assert talk.is_over()


@pytest.mark.parametrize("said", [b"", h2.PREFACE[:10], h2.PREFACE])
def test_whoever_does_not_introduce_himself_is_closed(said: bytes) -> None:
    talk = Conversation(TransportLimits(handshake_timeout_seconds=10), greet=False)
    talk.send(said)
    talk.wait(9)
    assert not talk.is_over()
    talk.wait(1)
    assert talk.is_over()
