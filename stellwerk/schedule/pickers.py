"""Pickers: from total scores to an ordered list, the pick first and what the proxy may fall back to after it."""

from math import inf
from typing import ClassVar

import numpy as np

from stellwerk.model.chance import Chance
from stellwerk.model.fleet import Floats
from stellwerk.schedule.plugin import Context, Picker

SMALL = 64
"""Up to so many candidates plain lists are faster than numpy calls."""


class MaxScorePicker(Picker, frozen=True):
    """Highest total first; ties at random."""

    def order(self, context: Context, totals: Floats, count: int) -> list[int]:
        if len(totals) <= SMALL:
            return _best_of_few(totals.tolist(), count, context.chance)
        return _best_of_many(totals, count, context.chance)


class RandomPicker(Picker, frozen=True):
    """Any, uniformly."""

    def order(self, context: Context, totals: Floats, count: int) -> list[int]:
        return draw(list(range(len(totals))), count, context.chance)


class WeightedRandomPicker(Picker, frozen=True):
    """With probability in proportion to the total (A-Res: the largest of U^(1/score)); if all are 0, uniformly."""

    def order(self, context: Context, totals: Floats, count: int) -> list[int]:
        random = context.chance.random
        scores = totals.tolist()
        if max(scores, default=0.0) <= 0:
            return draw(list(range(len(scores))), count, context.chance)
        keys = [random() ** (1.0 / score) if score > 0 else 0.0 for score in scores]
        return _best_of_few(keys, count, context.chance)


class RoundRobinPicker(Picker, frozen=True):
    """Ours: one after the other in the order of the pool, whatever the scores."""

    def order(self, context: Context, totals: Floats, count: int) -> list[int]:
        size = len(totals)
        return [(context.turn + step) % size for step in range(min(count, size))]


class PowerOfTwoPicker(Picker, frozen=True):
    """Ours: the better of two drawn at random (Mitzenmacher 2001); ties are kept as drawn."""

    is_ours: ClassVar[bool] = True

    def order(self, context: Context, totals: Floats, count: int) -> list[int]:
        drawn = draw(list(range(len(totals))), max(2, count), context.chance)
        if len(drawn) > 1 and totals[drawn[1]] > totals[drawn[0]]:
            drawn[0], drawn[1] = drawn[1], drawn[0]
        return drawn[:count]


def draw(positions: list[int], count: int, chance: Chance) -> list[int]:
    """`count` of them (or all), without replacement, every order equally likely. Reorders the list it is given."""
    size = len(positions)
    random = chance.random
    for place in range(min(count, size - 1)):
        other = place + int(random() * (size - place))
        positions[place], positions[other] = positions[other], positions[place]
    return positions[:count]


def _best_of_few(scores: list[float], count: int, chance: Chance) -> list[int]:
    picked: list[int] = []
    if len(scores) == 1:
        return [0]
    count = min(count, len(scores))
    while len(picked) < count:
        best = max(scores)
        if scores.count(best) == 1:
            ties = [scores.index(best)]
        else:
            ties = draw([i for i, score in enumerate(scores) if score == best], count - len(picked), chance)
        picked += ties
        for tie in ties:
            scores[tie] = -inf
    return picked


def _best_of_many(totals: Floats, count: int, chance: Chance) -> list[int]:
    picked: list[int] = []
    count = min(count, len(totals))
    left = totals
    while True:
        best = np.maximum.reduce(left)
        picked += _some((left == best).nonzero()[0], count - len(picked), chance)
        if len(picked) >= count:
            return picked
        if left is totals:
            left = totals.copy()
        left[picked] = -inf


def _some(ties: np.ndarray[tuple[int], np.dtype[np.intp]], count: int, chance: Chance) -> list[int]:
    """`count` of many without listing them all."""
    size = len(ties)
    if size <= 4 * count:
        return draw(ties.tolist(), count, chance)
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        drawn[int(chance.random() * size)] = None
    return [int(ties[place]) for place in drawn]
