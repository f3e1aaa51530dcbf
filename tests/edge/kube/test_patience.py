"""Trying again, each by itself."""

from stellwerk.edge.kube.patience import Patience


def test_what_failed_waits_and_others_do_not() -> None:
    patience = Patience(10.0, 60.0)
    assert patience.wait() is None
    patience.failed("a")
    assert not patience.is_due("a")
    assert patience.is_due("b")
    wait = patience.wait()
    assert wait is not None
    assert 9.0 < wait <= 10.0
    patience.succeeded("a")
    assert patience.is_due("a")
    assert patience.wait() is None


def test_pauses_double_up_to_the_limit() -> None:
    patience, waits = Patience(1.0, 5.0), []
    for _ in range(5):
        patience.failed("a")
        waits.append(round(patience.wait() or 0.0))
    assert waits == [1, 2, 4, 5, 5]


def test_what_nobody_asks_for_any_more_is_forgotten() -> None:
    patience = Patience(10.0, 60.0)
    patience.failed("a")
    assert patience.wait() is not None
    assert patience.wait() is None
    assert patience.is_due("a")
