"""When to ask a server again: often while it works, seldom while it rests, and never at the expense of the picker.

The interval of a working server is the longest of: the floor from the settings; ten times what its page takes it (the
page is made on the CPU that serves requests); a hundred times what the page costs us, so that no single server, however
odd its page, takes more than a hundredth of a core. A shared budget of our CPU stretches all of them alike.
"""

from msgspec import Struct

from stellwerk.model.chance import Chance

BUDGET_SHARE = 0.05
"""Of one core, for reading the pages of all servers that work."""

_MAX_SERVER_SHARE = 0.1
_MAX_OWN_SHARE = 0.01
_SMOOTHING = 0.2
_JITTER = 0.1
_GROWTH = 2.0


class Limits(Struct, frozen=True):
    """The bounds of the interval, in seconds."""

    busy_seconds: float
    idle_seconds: float


class Budget:
    """CPU that reading costs, over all servers. Each `Pace` keeps its own share of `demand` up to date."""

    def __init__(self, share: float = BUDGET_SHARE) -> None:
        self.share = share
        self.demand = 0.0
        """CPU seconds per second, if every server were asked as often as it would like."""

    @property
    def stretch(self) -> float:
        """Factor on intervals, >= 1, that keeps the cost within the share."""
        return max(1.0, self.demand / self.share)


class Pace:
    """The rhythm of one server. Intervals are seconds from the end of one reading to the start of the next."""

    def __init__(self, limits: Limits, budget: Budget, chance: Chance) -> None:
        self._limits = limits
        self._budget = budget
        self._chance = chance
        self._cost_seconds = 0.0
        self._took_seconds = 0.0
        self._failures = 0
        self._interval = limits.busy_seconds
        self._demand = 0.0

    def after_page(self, *, is_busy: bool, cost_seconds: float, took_seconds: float) -> float:
        """The page was read: at `cost_seconds` of our CPU, `took_seconds` after it was asked for.

        The interval of a server that rests doubles with each page, up to the idle bound.
        """
        is_first = self._cost_seconds == 0.0
        weight = 1.0 if is_first else _SMOOTHING
        self._cost_seconds += weight * (cost_seconds - self._cost_seconds)
        self._took_seconds += weight * (took_seconds - self._took_seconds)
        self._failures = 0
        wanted = self._busy_interval()
        if not is_busy:
            wanted = max(wanted, min(self._interval * _GROWTH, self._limits.idle_seconds))
        self._interval = wanted
        self._ask_for(self._cost_seconds / wanted)
        return self._jittered(self._affordable(wanted))

    def after_failure(self) -> float:
        """The page could not be read: soon again at first, then doubling up to the idle bound."""
        self._ask_for(0.0)
        self._interval = self._limits.busy_seconds
        wanted = min(self._limits.busy_seconds * _GROWTH ** min(self._failures, 32), self._limits.idle_seconds)
        self._failures += 1
        return self._jittered(max(wanted, self._busy_interval()))

    def when_busy(self) -> float:
        """The interval to keep when a request was just sent there. Failing servers keep their own: infinite."""
        if self._failures:
            return float("inf")
        self._interval = self._busy_interval()
        return self._affordable(self._interval)

    @property
    def is_failing(self) -> bool:
        """Whether the last reading failed."""
        return self._failures > 0

    def close(self) -> None:
        """The server left: its share of the budget is free."""
        self._ask_for(0.0)

    def _busy_interval(self) -> float:
        theirs = min(self._took_seconds / _MAX_SERVER_SHARE, self._limits.idle_seconds)
        return max(self._limits.busy_seconds, theirs, self._cost_seconds / _MAX_OWN_SHARE)

    def _affordable(self, wanted: float) -> float:
        """Stretched by the budget, but never beyond the idle bound: a signal older than that is worth little."""
        return max(wanted, min(wanted * self._budget.stretch, self._limits.idle_seconds))

    def _ask_for(self, demand: float) -> None:
        self._budget.demand = max(0.0, self._budget.demand + demand - self._demand)
        self._demand = demand

    def _jittered(self, seconds: float) -> float:
        return seconds * (1.0 + _JITTER * (2.0 * self._chance.random() - 1.0))
