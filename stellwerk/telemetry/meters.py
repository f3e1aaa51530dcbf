"""Plain counters of the request path; a collector at the edge turns them into exposition text.

Owner: the engine (it alone writes). Placeholder of the interface; see the methods.
"""

from stellwerk.model.report import Report
from stellwerk.model.trace import Trace


class Meters:
    """Counts what happens. Label values are bounded in length and count; beyond the bound they become `other`."""

    def decided(self, trace: Trace, *, request_bytes: int, fairness_id: str | None) -> None:
        """One decision, picked or refused."""

    def released(self, trace: Trace, *, fairness_id: str | None) -> None:
        """One picked exchange ended."""

    def finished(self, trace: Trace, report: Report, *, fairness_id: str | None) -> None:
        """One exchange was reported on."""
