"""Clocks of a connection."""

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc.lifetime import Due, Lifetime

LIMITS = TransportLimits(
    handshake_timeout_seconds=10, ping_interval_seconds=30, ping_timeout_seconds=20, idle_timeout_seconds=100
)


def met() -> Lifetime:
    lifetime = Lifetime(LIMITS, 0.0)
    lifetime.greeted()
    lifetime.busy()
    return lifetime


def test_the_handshake_has_its_own_time() -> None:
    lifetime = Lifetime(LIMITS, 0.0)
    assert lifetime.next_at == 10
    assert lifetime.due(9.9) is Due.NOTHING
    assert lifetime.due(10) is Due.SILENT


def test_a_ping_and_its_answer_in_the_same_instant_count() -> None:
    lifetime = met()
    assert lifetime.due(30) is Due.PING
    lifetime.heard(30)
    assert lifetime.due(59) is Due.NOTHING
    assert lifetime.due(60) is Due.PING
    assert lifetime.due(79) is Due.NOTHING
    assert lifetime.due(80) is Due.SILENT


def test_deadlines_pass_in_order_whatever_order_they_came_in() -> None:
    lifetime = met()
    live = {1, 3, 5}
    for stream_id, deadline in ((1, 5.0), (3, 2.0), (5, 9.0)):
        lifetime.watch(stream_id, deadline, live, 3)
    assert lifetime.next_at == 2.0
    assert lifetime.expired(1.9) == []
    assert lifetime.expired(5.0) == [3, 1]
    assert lifetime.next_at == 9.0
    assert lifetime.expired(100) == [5]


def test_next_at_is_never_later_than_what_is_due() -> None:
    lifetime = met()
    lifetime.idle(5.0)
    now = 5.0
    seen: list[tuple[Due, float]] = []
    while len(seen) < 3:
        assert lifetime.next_at > now
        now = lifetime.next_at
        what = lifetime.due(now)
        if what is not Due.NOTHING:
            seen.append((what, now))
        if what is Due.PING:
            lifetime.heard(now)
    assert seen == [(Due.PING, 30.0), (Due.PING, 60.0), (Due.PING, 90.0)]
    assert lifetime.due(105) is Due.LEAVE
    assert lifetime.due(106) is Due.NOTHING
