"""Randomness as an argument: the core draws from what it is given, so a seeded run repeats exactly."""

from collections.abc import MutableSequence
from typing import Any, Protocol


class Chance(Protocol):
    """The part of `random.Random` that the core uses."""

    def random(self) -> float:
        """A float in [0, 1)."""

    def randrange(self, stop: int, /) -> int:
        """An int in [0, stop)."""

    def shuffle(self, x: MutableSequence[Any], /) -> None:
        """Shuffle in place, uniformly."""
