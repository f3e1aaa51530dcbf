from math import inf

from stellwerk.flow.waiting import WaitingRoom
from stellwerk.model.event import Ask
from tests.kit.fleet import request


def ask(ticket: int, size: int = 10) -> Ask:
    return Ask(ticket, request(size_bytes=size))


def test_who_came_first_is_first_and_who_leaves_is_gone() -> None:
    room = WaitingRoom()
    assert all(room.enter(ask(ticket), 5.0 + ticket) for ticket in (3, 1, 2))
    assert [waiting.ask.ticket for waiting in room.all()] == [3, 1, 2]
    assert room.next_deadline() == 6.0
    assert room.leave(1)
    assert not room.leave(1)
    assert [waiting.ask.ticket for waiting in room.all()] == [3, 2]
    assert room.next_deadline() == 7.0


def test_the_room_is_bounded_in_requests_and_bytes() -> None:
    room = WaitingRoom(max_requests=2, max_bytes=100)
    assert room.enter(ask(1, 90), 1.0)
    assert not room.enter(ask(2, 11), 1.0)
    assert room.enter(ask(3, 10), 1.0)
    assert not room.enter(ask(4, 0), 1.0)
    room.leave(1)
    assert room.enter(ask(5, 90), 1.0)


def test_an_empty_room_has_no_deadline() -> None:
    assert WaitingRoom().next_deadline() == inf
