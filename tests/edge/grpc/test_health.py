"""The health service, by its methods."""

import pytest

from stellwerk.edge.grpc.health import CHECK, LIST, WATCH, Health
from stellwerk.edge.grpc.service import Handler
from stellwerk.edge.grpc.status import GrpcError, Status
from tests.kit.health import listed_states


class FakeCall:
    """Remembers what a handler does."""

    path = ""
    metadata = ()

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.ended: Status | None = None
        self.unsent_bytes = 0

    def send(self, *messages: bytes) -> None:
        self.sent += messages

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        self.ended = status

    def pause(self) -> None: ...

    def resume(self) -> None: ...


def begin(health: Health, path: str) -> tuple[FakeCall, Handler]:
    call = FakeCall()
    return call, health.services()[path](call)


def request(name: bytes) -> bytes:
    return b"\x0a" + bytes((len(name),)) + name


def test_check_tells_what_was_set() -> None:
    health = Health()
    health.set("a", True)
    health.set("b", False)
    for name, state in ((b"a", b"\x08\x01"), (b"b", b"\x08\x02")):
        call, handler = begin(health, CHECK)
        handler.on_message(request(name))
        assert call.sent == [state]
        assert call.ended is Status.OK


def test_check_of_an_unknown_service_is_not_found() -> None:
    health = Health()
    health.set("a", True)
    for message in (b"", request(b"b")):
        _, handler = begin(health, CHECK)
        with pytest.raises(GrpcError) as caught:
            handler.on_message(message)
        assert caught.value.status is Status.NOT_FOUND


def test_list_tells_every_service_that_something_was_said_about() -> None:
    health = Health()
    wanted: dict[str, int] = {}
    for number, name in enumerate(("", "a", "größer", "long." * 50)):
        call, handler = begin(health, LIST)
        handler.on_message(b"\x10\x96\x01" + request(b"\xff"))
        assert listed_states(b"".join(call.sent)) == wanted
        assert len(call.sent) == 1
        assert call.ended is Status.OK
        health.set(name, number % 2 == 0)
        wanted[name] = 1 + number % 2
    health.set("a", True)
    call, handler = begin(health, LIST)
    handler.on_message(b"")
    assert listed_states(call.sent[0]) == {**wanted, "a": 1}


def test_services_that_are_only_watched_are_not_listed() -> None:
    health = Health()
    begin(health, WATCH)[1].on_message(request(b"a"))
    call, handler = begin(health, LIST)
    handler.on_message(b"")
    assert call.sent == [b""]


@pytest.mark.parametrize("path", [CHECK, WATCH, LIST])
def test_a_call_without_a_request_is_an_internal_error(path: str) -> None:
    with pytest.raises(GrpcError) as caught:
        begin(Health(), path)[1].on_half_close()
    assert caught.value.status is Status.INTERNAL


def test_watch_tells_changes_once_and_stops_when_the_call_is_over() -> None:
    health = Health()
    call, handler = begin(health, WATCH)
    handler.on_message(request(b"a"))
    handler.on_half_close()
    health.set("a", True)
    health.set("a", True)
    health.set("b", True)
    health.set("a", False)
    assert call.sent == [b"\x08\x03", b"\x08\x01", b"\x08\x02"]
    handler.on_closed()
    health.set("a", True)
    assert len(call.sent) == 3
    assert health._watchers == {}


def test_a_watcher_that_does_not_read_is_ended() -> None:
    health = Health()
    call, handler = begin(health, WATCH)
    handler.on_message(b"")
    call.unsent_bytes = 5_000
    health.set("", True)
    assert call.ended is Status.RESOURCE_EXHAUSTED


UNREADABLE_NAMES = [b"\x0a\x01\xff", b"\x0a\xac\x02" + b"y" * 300]
UNREADABLE = [
    *UNREADABLE_NAMES,
    b"\x0a",
    b"\x0a\x05abc",
    b"\xff" * 11,
    b"\x0b",
    b"\x02\x00",
    b"\x09abc",
    b"\x0d\x00",
]


@pytest.mark.parametrize("message", UNREADABLE)
def test_unreadable_requests_are_invalid_arguments(message: bytes) -> None:
    is_for_any_method = message not in UNREADABLE_NAMES
    for path in (CHECK, WATCH, LIST) if is_for_any_method else (CHECK, WATCH):
        _, handler = begin(Health(), path)
        with pytest.raises(GrpcError) as caught:
            handler.on_message(message)
        assert caught.value.status is Status.INVALID_ARGUMENT


def test_unknown_fields_are_skipped_and_the_last_name_counts() -> None:
    health = Health()
    health.set("real", True)
    call, handler = begin(health, CHECK)
    skipped = b"\x10\x96\x01" + b"\x19" + bytes(8) + b"\x25" + bytes(4) + b"\x2a\x02hi"
    handler.on_message(request(b"other") + skipped + request(b"real"))
    assert call.sent == [b"\x08\x01"]
