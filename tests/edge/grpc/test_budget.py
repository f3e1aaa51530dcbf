"""The bucket against floods."""

import pytest

from stellwerk.edge.grpc.budget import Budget, Flood
from stellwerk.edge.grpc.frames import ErrorCode


def spend(budget: Budget, times: int, now: float) -> None:
    for _ in range(times):
        budget.spend(1, now, "frames")


def test_one_second_and_one_house_of_streams_may_be_spent_at_once() -> None:
    budget = Budget(10, 5, 0.0)
    spend(budget, 15, 0.0)
    with pytest.raises(Flood) as caught:
        spend(budget, 1, 0.0)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM
    assert caught.value.reason == "too many frames"


def test_time_refills_but_never_beyond_the_bucket() -> None:
    budget = Budget(10, 0, 0.0)
    spend(budget, 10, 0.0)
    spend(budget, 10, 1.0)
    spend(budget, 11, 1_000.0)
    with pytest.raises(Flood):
        spend(budget, 10, 1_000.0)


def test_answers_earn_tokens() -> None:
    budget = Budget(10, 0, 0.0)
    for _ in range(100):
        budget.earned += 4
        spend(budget, 4, 0.0)
    with pytest.raises(Flood):
        spend(budget, 11, 0.0)
