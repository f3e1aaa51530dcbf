import numpy as np
import pytest

from stellwerk.schedule import scores as module
from stellwerk.schedule.pipeline import Selection
from stellwerk.schedule.scores import scores
from tests.kit.fleet import candidates, sample


def selection(totals: list[float], *order: int) -> Selection:
    return Selection(list(order), candidates(*[sample() for _ in totals]), np.array(totals))


def test_everybody_who_passed_the_filters_has_a_score() -> None:
    some = selection([0.5, 2.25, 0.0], 1)
    found = scores(some)
    assert found.addresses == tuple(member.address for member in some.candidates.members)
    assert found.totals.tolist() == [0.5, 2.25, 0.0]


def test_of_too_many_the_picked_and_the_best_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SCORES", 3)
    some = selection([0.5, 2.0, 0.0, 1.0, 3.0], 2, 0)
    found = scores(some)
    addresses = [member.address for member in some.candidates.members]
    assert dict(zip(found.addresses, found.totals, strict=True)) == {
        addresses[2]: 0.0,
        addresses[0]: 0.5,
        addresses[4]: 3.0,
    }
    assert some.totals.tolist() == [0.5, 2.0, 0.0, 1.0, 3.0]


def test_what_the_trace_keeps_is_not_shared() -> None:
    some = selection([0.5], 0)
    found = scores(some)
    some.totals[0] = 7.0
    assert found.totals.tolist() == [0.5]
