"""How full a set of endpoints is: 1.0 means that more would only queue. May exceed 1.

Formulas: llm-d-router, `pkg/epp/framework/plugins/flowcontrol/saturationdetector`. Ours is fed by the ledger as well,
so that a burst counts before the next metrics page tells of it.
"""

import numpy as np
from msgspec import Struct

from stellwerk.model.candidates import Candidates
from stellwerk.model.detector import ConcurrencyDetector, ConcurrencyMode, Detector, UtilizationDetector
from stellwerk.model.fleet import Floats

FULL = 1.0


class Saturation(Struct, frozen=True, gc=False):
    """The number, and what made it: how many endpoints are full for each reason (an endpoint may be in several)."""

    value: float
    endpoint_count: int = 0
    overdue_count: int = 0
    full_queue_count: int = 0
    full_cache_count: int = 0
    busy_count: int = 0

    @property
    def cause(self) -> str:
        """One line for people."""
        parts = (
            (self.overdue_count, "metrics overdue"),
            (self.full_queue_count, "queue full"),
            (self.full_cache_count, "KV cache full"),
            (self.busy_count, "enough in flight"),
        )
        told = ", ".join(f"{text}: {count} of {self.endpoint_count}" for count, text in parts if count)
        return f"saturation {self.value:.2f}" + (f" ({told})" if told else "")


def saturation(detector: Detector, candidates: Candidates, now: float) -> Saturation:
    """Of these candidates; 1.0 if there are none."""
    if not len(candidates):
        return Saturation(FULL)
    if isinstance(detector, UtilizationDetector):
        return _utilization(detector, candidates, now)
    return _concurrency(detector, candidates)


def queued(candidates: Candidates) -> Floats:
    """Waiting requests per candidate: what the page says, or more if what we sent since exceeds what the server is
    known to run at once."""
    fleet, rows = candidates.fleet, candidates.rows
    sent: Floats = np.maximum(fleet.requests[rows] - fleet.seen_requests[rows], 0.0)
    present = candidates.waiting + candidates.running + sent
    return np.maximum(candidates.waiting, present - fleet.capacity[rows])


def _utilization(detector: UtilizationDetector, candidates: Candidates, now: float) -> Saturation:
    """Mean over endpoints of max(queue / threshold, KV use / threshold); one whose page is overdue counts 1."""
    candidates.refresh()
    fleet, rows = candidates.fleet, candidates.rows
    overdue = candidates.ages(now) > fleet.lost_after_seconds + detector.overdue_seconds
    queue = queued(candidates) / detector.queue_depth_threshold
    cache = np.nan_to_num(fleet.kv_use[rows]) / detector.kv_cache_util_threshold
    share = np.where(overdue, FULL, np.maximum(queue, cache))
    return Saturation(
        value=float(share.mean()),
        endpoint_count=len(candidates),
        overdue_count=int(np.count_nonzero(overdue)),
        full_queue_count=int(np.count_nonzero(~overdue & (queue >= FULL))),
        full_cache_count=int(np.count_nonzero(~overdue & (cache >= FULL))),
    )


def _concurrency(detector: ConcurrencyDetector, candidates: Candidates) -> Saturation:
    """Sum of what is in flight over sum of capacities; hybrid: mean over endpoints of the larger ratio."""
    requests = candidates.requests / detector.max_concurrency
    tokens = candidates.tokens / detector.max_token_concurrency
    match detector.concurrency_mode:
        case ConcurrencyMode.REQUESTS:
            share = requests
        case ConcurrencyMode.TOKENS:
            share = tokens
        case ConcurrencyMode.HYBRID:
            share = np.maximum(requests, tokens)
    busy = int(np.count_nonzero(share >= FULL))
    return Saturation(value=float(share.mean()), endpoint_count=len(candidates), busy_count=busy)
