"""How often a server is asked."""

import math
import random

import pytest

from stellwerk.telemetry.pace import Budget, Limits, Pace

LIMITS = Limits(busy_seconds=0.05, idle_seconds=5.0)
CHEAP = {"cost_seconds": 1e-6, "took_seconds": 0.001}


class Middle(random.Random):
    """Draws the middle: no jitter."""

    def random(self) -> float:
        return 0.5


def pace(budget: Budget | None = None) -> Pace:
    return Pace(LIMITS, budget or Budget(), Middle())


def test_a_working_server_is_asked_at_the_floor() -> None:
    assert pace().after_page(is_busy=True, **CHEAP) == pytest.approx(0.05)


def test_the_interval_of_a_resting_server_doubles_up_to_the_bound() -> None:
    resting = pace()
    intervals = [resting.after_page(is_busy=False, **CHEAP) for _ in range(9)]
    assert intervals == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])
    assert resting.when_busy() == pytest.approx(0.05)
    assert resting.after_page(is_busy=True, **CHEAP) == pytest.approx(0.05)


def test_a_server_spends_at_most_a_tenth_of_its_time_on_its_page() -> None:
    slow = pace()
    assert slow.after_page(is_busy=True, cost_seconds=1e-6, took_seconds=0.04) == pytest.approx(0.4)
    assert pace().after_page(is_busy=True, cost_seconds=1e-6, took_seconds=0.9) == pytest.approx(5.0)


def test_all_working_servers_together_stay_within_the_budget() -> None:
    budget = Budget(share=0.05)
    cost = 200e-6
    servers = [pace(budget) for _ in range(100)]
    for _ in range(3):
        intervals = [server.after_page(is_busy=True, cost_seconds=cost, took_seconds=0.001) for server in servers]
    assert sum(cost / interval for interval in intervals) == pytest.approx(0.05)
    assert budget.stretch == pytest.approx(8.0)
    for server in servers:
        server.close()
    assert budget.demand == pytest.approx(0.0, abs=1e-9)


def test_one_server_costs_at_most_a_hundredth_of_a_core_however_odd_its_page() -> None:
    assert pace(Budget(10.0)).after_page(is_busy=True, cost_seconds=0.3, took_seconds=0.001) == pytest.approx(30.0)


def test_the_budget_never_makes_signals_older_than_the_idle_bound() -> None:
    budget = Budget(share=1e-6)
    assert pace(budget).after_page(is_busy=True, cost_seconds=0.001, took_seconds=0.001) == pytest.approx(5.0)


def test_a_failing_server_is_tried_soon_and_then_ever_more_seldom() -> None:
    failing = pace()
    intervals = [failing.after_failure() for _ in range(9)]
    assert intervals == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert math.isinf(failing.when_busy())
    assert failing.after_page(is_busy=True, **CHEAP) == pytest.approx(0.05)
    assert failing.after_failure() == pytest.approx(0.05)


def test_intervals_are_jittered_by_a_tenth() -> None:
    server = Pace(LIMITS, Budget(), random.Random(3))
    intervals = [server.after_page(is_busy=True, **CHEAP) for _ in range(200)]
    assert 0.045 <= min(intervals) < 0.047
    assert 0.053 < max(intervals) <= 0.055
