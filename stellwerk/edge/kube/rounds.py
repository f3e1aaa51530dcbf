"""What the controller counts of its rounds, and how it looks on the metrics page."""

from collections.abc import Iterator, Mapping

from stellwerk.telemetry.render import Family, Histogram, counter

_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class RoundCounts:
    """Since the start; written by the controller."""

    def __init__(self) -> None:
        self.rounds = 0
        self.planned = 0
        """Rounds in which the plan was made anew."""
        self.failed = 0
        """Rounds after which something waits to be tried again."""
        self.bugs = 0
        self._seconds = Histogram(_BOUNDS)

    def took(self, seconds: float) -> None:
        """One round."""
        self.rounds += 1
        self._seconds.observe(seconds)

    def families(self) -> Iterator[Family]:
        """For the metrics page."""
        yield counter("stellwerk_controller_rounds_total", "Looks at everything.", self.rounds)
        yield counter("stellwerk_controller_plans_total", "Rounds with a new plan.", self.planned)
        help = "Rounds after which something waits to be tried again."
        yield counter("stellwerk_controller_failed_rounds_total", help, self.failed)
        yield counter("stellwerk_controller_bugs_total", "Rounds that ended in a bug.", self.bugs)
        yield Family("stellwerk_controller_round_seconds", "histogram", "One round.", (), (((), self._seconds),))


def writes(what: str, help: str, results: Mapping[str, int]) -> Family:
    """`stellwerk_controller_WHAT_writes_total` by result."""
    rows = tuple(((result,), count) for result, count in results.items())
    return Family(f"stellwerk_controller_{what}_writes_total", "counter", help, ("result",), rows)
