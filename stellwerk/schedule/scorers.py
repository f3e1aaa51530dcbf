"""Scorers: columns in, a column of 0..1 out. Names, parameters and formulas are upstream's unless the docstring says
"ours" (llm-d-router, `pkg/epp/framework/plugins/scheduling/scorer`)."""

from typing import ClassVar

import numpy as np

from stellwerk.model.candidates import Candidates
from stellwerk.model.fleet import Floats
from stellwerk.schedule.plugin import Context, Reads, Scorer


class QueueScorer(Scorer, frozen=True):
    """Fewest waiting requests: (max - q) / (max - min), 1 if all are equal."""

    reads: ClassVar[Reads] = Reads.SIGNALS
    is_bounded: ClassVar[bool] = True

    def score(self, context: Context, candidates: Candidates) -> Floats:
        return least(candidates.waiting)


class RunningRequestsScorer(Scorer, frozen=True):
    """Fewest running requests: (max - r) / (max - min), 1 if all are equal."""

    reads: ClassVar[Reads] = Reads.SIGNALS
    is_bounded: ClassVar[bool] = True

    def score(self, context: Context, candidates: Candidates) -> Floats:
        return least(candidates.running)


class KvCacheScorer(Scorer, frozen=True):
    """Most free KV cache: 1 - use."""

    reads: ClassVar[Reads] = Reads.SIGNALS
    is_bounded: ClassVar[bool] = True

    def score(self, context: Context, candidates: Candidates) -> Floats:
        return 1.0 - candidates.kv_use


class LoadAwareScorer(Scorer, frozen=True):
    """Short queues against a fixed threshold: 0.5 when empty, falling to 0 at `threshold` waiting requests."""

    threshold: int = 128

    reads: ClassVar[Reads] = Reads.SIGNALS
    is_bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.threshold <= 0:
            raise ValueError("threshold must be greater than 0")

    def score(self, context: Context, candidates: Candidates) -> Floats:
        share: Floats = np.minimum(candidates.waiting, self.threshold) / self.threshold
        return 0.5 * (1.0 - share)


class LoraAffinityScorer(Scorer, frozen=True):
    """The adapter is there: 1 running, 0.8 a free adapter slot, 0.6 waiting for one, else 0."""

    reads: ClassVar[Reads] = Reads.ADAPTERS
    is_bounded: ClassVar[bool] = True

    def score(self, context: Context, candidates: Candidates) -> Floats:
        return candidates.adapter_affinity


class PrefixCacheScorer(Scorer, frozen=True):
    """The prompt's prefix is cached: w * min(1, matched tokens / scale)^2 + (1 - w) * matched / total blocks."""

    prefix_match_info_producer_name: str = ""
    match_length_weight: float = 0
    """w, 0..1."""
    match_length_scale_tokens: int = 8192

    is_bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.match_length_weight <= 1:
            raise ValueError("matchLengthWeight must be between 0 and 1")
        if self.match_length_scale_tokens <= 0:
            raise ValueError("matchLengthScaleTokens must be greater than 0")

    def score(self, context: Context, candidates: Candidates) -> Floats:
        if context.matched is None or not context.block_count:
            return candidates.zeros
        matched = context.matched_blocks(candidates)
        share: Floats = matched / context.block_count
        weight = self.match_length_weight
        if not weight:
            return share
        length: Floats = np.minimum(matched * (context.block_tokens / self.match_length_scale_tokens), 1.0) ** 2
        return weight * length + (1.0 - weight) * share


class TokenLoadScorer(Scorer, frozen=True):
    """Fewest tokens in flight: 1 - min(in flight + this request's uncached, T) / T."""

    queue_threshold_tokens: int = 4_194_304
    in_flight_load_producer_name: str = ""

    is_bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.queue_threshold_tokens <= 0:
            raise ValueError("queueThresholdTokens must be greater than 0")

    def score(self, context: Context, candidates: Candidates) -> Floats:
        threshold = float(self.queue_threshold_tokens)
        tokens = candidates.tokens + context.uncached_tokens(candidates)
        return 1.0 - np.minimum(tokens, threshold) / threshold


class ActiveRequestScorer(Scorer, frozen=True):
    """Fewest requests in flight here: 1 up to `idleThreshold`, else (max - c) / max * `maxBusyScore`."""

    idle_threshold: int = 0
    max_busy_score: float = 1.0
    """0..1."""
    request_timeout: str = ""
    """Accepted, without effect, as upstream."""
    in_flight_load_producer_name: str = ""

    is_bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.idle_threshold < 0:
            raise ValueError("idleThreshold must not be negative")
        if not 0 <= self.max_busy_score <= 1:
            raise ValueError("maxBusyScore must be between 0 and 1")

    def score(self, context: Context, candidates: Candidates) -> Floats:
        requests = candidates.requests
        most = requests.max(initial=0.0)
        if most <= self.idle_threshold:
            return candidates.zeros + 1.0
        busy: Floats = (most - requests) * (self.max_busy_score / most)
        return np.where(requests <= self.idle_threshold, 1.0, busy)


class LeastRequestsScorer(Scorer, frozen=True):
    """Ours: fewest requests anywhere: (max - n) / (max - min), 1 if all are equal, where n is what the server says it
    runs and queues, or what we have in flight to it, whichever is more."""

    is_bounded: ClassVar[bool] = True

    def score(self, context: Context, candidates: Candidates) -> Floats:
        return least(np.maximum(candidates.waiting + candidates.running, candidates.requests))


def least(column: Floats) -> Floats:
    """(max - x) / (max - min): 1 for the smallest, 0 for the largest, 1 for all if they are equal."""
    if not column.size:
        return column
    high = np.maximum.reduce(column)
    spread = high - np.minimum.reduce(column)
    if spread <= 0:
        return np.ones(len(column))
    score: Floats = (high - column) / spread
    return score
