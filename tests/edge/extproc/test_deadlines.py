"""One timer for many deadlines."""

from collections.abc import Callable

from stellwerk.edge.extproc.deadlines import Deadlines


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.due: dict[object, tuple[float, Callable[[], None]]] = {}
        self.armed = 0

    def call_later(self, seconds: float, callback: Callable[[], None]) -> "Handle":
        self.armed += 1
        handle = Handle(self)
        self.due[handle] = (self.now + seconds, callback)
        return handle

    def advance(self, now: float) -> None:
        self.now = now
        for handle, (at, callback) in list(self.due.items()):
            if at <= now and handle in self.due:
                del self.due[handle]
                callback()


class Handle:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def cancel(self) -> None:
        self._clock.due.pop(self, None)


class Waiter:
    def __init__(self) -> None:
        self.is_open = True
        self.expired: list[float] = []

    def expire(self, now: float) -> None:
        self.expired.append(now)


def test_deadlines_come_in_their_order_on_one_timer() -> None:
    clock = Clock()
    deadlines = Deadlines(lambda: clock.now, clock.call_later)
    late, early = Waiter(), Waiter()
    deadlines.add(2.0, late)
    deadlines.add(1.0, early)
    assert len(clock.due) == 1
    clock.advance(1.0)
    assert (early.expired, late.expired) == ([1.0], [])
    assert len(clock.due) == 1
    clock.advance(2.0)
    assert late.expired == [2.0]
    assert not clock.due


def test_who_has_left_is_not_called() -> None:
    clock = Clock()
    deadlines = Deadlines(lambda: clock.now, clock.call_later)
    waiter = Waiter()
    deadlines.add(1.0, waiter)
    waiter.is_open = False
    clock.advance(1.0)
    assert waiter.expired == []


def test_those_who_have_left_do_not_pile_up() -> None:
    clock = Clock()
    deadlines = Deadlines(lambda: clock.now, clock.call_later)
    for number in range(10_000):
        waiter = Waiter()
        deadlines.add(10.0 + number, waiter)
        waiter.is_open = False
    assert len(deadlines) <= 1025
    assert clock.armed == 1


def test_closing_forgets_all() -> None:
    clock = Clock()
    deadlines = Deadlines(lambda: clock.now, clock.call_later)
    waiter = Waiter()
    deadlines.add(1.0, waiter)
    deadlines.close()
    clock.advance(5.0)
    assert waiter.expired == []
