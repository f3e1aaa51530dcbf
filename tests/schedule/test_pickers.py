import random
from collections import Counter

import numpy as np
import pytest

from stellwerk.schedule.pickers import (
    SMALL,
    MaxScorePicker,
    PowerOfTwoPicker,
    RandomPicker,
    RoundRobinPicker,
    WeightedRandomPicker,
)
from stellwerk.schedule.plugin import Context, Picker
from tests.kit.fleet import context

SIZES = (1, 2, 5, SMALL, SMALL + 1, 300)
PICKERS = (MaxScorePicker(), RandomPicker(), WeightedRandomPicker(), RoundRobinPicker(), PowerOfTwoPicker())


@pytest.fixture
def asked() -> Context:
    return context()


@pytest.mark.parametrize("picker", PICKERS, ids=lambda picker: type(picker).__name__)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_every_picker_names_each_endpoint_at_most_once_and_as_many_as_asked(
    picker: Picker, size: int, count: int, asked: Context
) -> None:
    for totals in (np.zeros(size), np.arange(size, dtype=np.float64), np.arange(size, dtype=np.float64) % 3):
        order = picker.order(asked, totals, count)
        assert len(order) == len(set(order)) == min(size, count)
        assert set(order) <= set(range(size))


@pytest.mark.parametrize("size", [5, 300])
def test_the_highest_score_comes_first_and_the_rest_follow_in_order(size: int, asked: Context) -> None:
    totals = np.random.default_rng(1).permutation(size).astype(np.float64)
    order = MaxScorePicker().order(asked, totals, 4)
    assert [totals[position] for position in order] == [size - 1, size - 2, size - 3, size - 4]


@pytest.mark.parametrize("size", [4, 300])
def test_ties_are_broken_at_random_and_evenly(size: int, asked: Context) -> None:
    totals = np.zeros(size)
    totals[[1, 3]] = 5.0
    firsts = Counter(MaxScorePicker().order(asked, totals, 1)[0] for _ in range(2000))
    assert set(firsts) == {1, 3}
    assert abs(firsts[1] - 1000) < 150


def test_fallbacks_are_drawn_from_the_ties_too(asked: Context) -> None:
    totals = np.array([1.0, 5.0, 5.0, 1.0])
    orders = Counter(tuple(MaxScorePicker().order(asked, totals, 3)) for _ in range(800))
    assert set(orders) == {(1, 2, 0), (1, 2, 3), (2, 1, 0), (2, 1, 3)}
    assert min(orders.values()) > 130


def test_the_weighted_picker_draws_in_proportion_to_the_scores(asked: Context) -> None:
    totals = np.array([1.0, 3.0, 0.0])
    firsts = Counter(WeightedRandomPicker().order(asked, totals, 1)[0] for _ in range(4000))
    assert firsts[2] == 0
    assert firsts[1] / 4000 == pytest.approx(0.75, abs=0.03)


def test_the_random_picker_does_not_look_at_scores(asked: Context) -> None:
    firsts = Counter(RandomPicker().order(asked, np.array([9.0, 0.0, 0.0]), 1)[0] for _ in range(3000))
    assert min(firsts.values()) > 850


def test_round_robin_goes_by_turn() -> None:
    turns = [Context(context().request, random.Random(1), 0.0, turn=turn) for turn in range(4)]
    assert [RoundRobinPicker().order(each, np.zeros(3), 2) for each in turns] == [[0, 1], [1, 2], [2, 0], [0, 1]]


def test_power_of_two_never_takes_the_worst_of_all_first(asked: Context) -> None:
    totals = np.array([3.0, 2.0, 1.0])
    assert 2 not in {PowerOfTwoPicker().order(asked, totals, 1)[0] for _ in range(500)}
