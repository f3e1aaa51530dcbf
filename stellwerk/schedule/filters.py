"""Filters: keep those that may serve the request. Names and parameters are upstream's
(llm-d-router, `pkg/epp/framework/plugins/scheduling/filter`)."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import ClassVar

import numpy as np
from msgspec import Struct, field

from stellwerk.model.candidates import Candidates
from stellwerk.model.detector import ConcurrencyDetector, ConcurrencyMode, UtilizationDetector
from stellwerk.model.fleet import Floats
from stellwerk.schedule.plugin import Context, Filter, Mask, Reads

ROLE_LABEL = "llm-d.ai/role"


class LabelOperator(Enum):
    """Of a Kubernetes label selector."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelExpression(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of `matchExpressions`."""

    key: str
    operator: LabelOperator
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wants_values = self.operator in (LabelOperator.IN, LabelOperator.NOT_IN)
        if wants_values != bool(self.values):
            raise ValueError(f"operator {self.operator.value} {'needs' if wants_values else 'takes no'} values")

    def holds(self, labels: Mapping[str, str]) -> bool:
        """As Kubernetes evaluates it: NotIn and DoesNotExist hold for a missing key."""
        match self.operator:
            case LabelOperator.IN:
                return labels.get(self.key) in self.values
            case LabelOperator.NOT_IN:
                return labels.get(self.key) not in self.values
            case LabelOperator.EXISTS:
                return self.key in labels
            case LabelOperator.DOES_NOT_EXIST:
                return self.key not in labels


class LabelFilter(Filter, frozen=True):
    """What all filters by label share."""

    reads: ClassVar[Reads] = Reads.LABELS

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether an endpoint with these labels stays."""
        raise NotImplementedError

    def keep(self, context: Context, candidates: Candidates) -> Mask:
        return _each(candidates, self.holds)


class LabelSelectorFilter(LabelFilter, frozen=True):
    """Keeps endpoints that a Kubernetes label selector matches."""

    match_labels: Mapping[str, str] = field(default_factory=dict)
    match_expressions: tuple[LabelExpression, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            expression.holds(labels) for expression in self.match_expressions
        )


class ByLabelFilter(LabelFilter, frozen=True):
    """Keeps endpoints whose label has one of some values (upstream: deprecated)."""

    label: str
    valid_values: tuple[str, ...] = ()
    allows_no_label: bool = False

    def holds(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.label)
        return self.allows_no_label if value is None else value in self.valid_values


class DecodeFilter(LabelFilter, frozen=True):
    """Keeps endpoints that decode: label `llm-d.ai/role` missing, `decode`, or a role that includes it."""

    def holds(self, labels: Mapping[str, str]) -> bool:
        return labels.get(ROLE_LABEL, "both") in ("decode", "prefill-decode", "both", "encode-prefill-decode")


class PrefillFilter(LabelFilter, frozen=True):
    """Keeps endpoints whose label `llm-d.ai/role` includes prefill."""

    def holds(self, labels: Mapping[str, str]) -> bool:
        roles = ("prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode")
        return labels.get(ROLE_LABEL) in roles


class EncodeFilter(LabelFilter, frozen=True):
    """Keeps endpoints whose label `llm-d.ai/role` includes encode."""

    def holds(self, labels: Mapping[str, str]) -> bool:
        return labels.get(ROLE_LABEL) in ("encode", "encode-prefill", "encode-prefill-decode")


class Metric(Enum):
    """What `utilization-filter` can cap."""

    ACTIVE_REQUESTS = "active-requests"
    RUNNING_REQUESTS = "running-requests"
    WAITING_QUEUE = "waiting-queue"
    KV_CACHE = "kv-cache-utilization"


class Cap(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One entry of `conditions`."""

    metric: Metric
    max_value: float


_METRICS: dict[Metric, Callable[[Candidates], Floats]] = {
    Metric.ACTIVE_REQUESTS: lambda candidates: candidates.requests,
    Metric.RUNNING_REQUESTS: lambda candidates: candidates.running,
    Metric.WAITING_QUEUE: lambda candidates: candidates.waiting,
    Metric.KV_CACHE: lambda candidates: candidates.kv_use,
}


class UtilizationFilter(Filter, frozen=True):
    """Drops endpoints above any of some caps."""

    conditions: tuple[Cap, ...]
    fallback_on_empty: bool = False
    """Whether all stay if none would."""
    in_flight_load_producer_name: str = ""

    is_load: ClassVar[bool] = True

    def keep(self, context: Context, candidates: Candidates) -> Mask:
        mask = np.ones(len(candidates), dtype=np.bool_)
        for cap in self.conditions:
            mask &= _METRICS[cap.metric](candidates) <= cap.max_value
        return _or_all(mask) if self.fallback_on_empty else mask


class UtilizationDetectorFilter(Filter, frozen=True):
    """`utilization-detector` named in a profile: keeps endpoints below both thresholds; all, if there is none."""

    detector: UtilizationDetector
    is_load: ClassVar[bool] = True

    def keep(self, context: Context, candidates: Candidates) -> Mask:
        detector, slack = self.detector, 1.0 + self.detector.headroom
        overdue = detector.overdue_seconds + candidates.fleet.lost_after_seconds
        mask: Mask = candidates.waiting < detector.queue_depth_threshold * slack
        mask &= candidates.kv_use < detector.kv_cache_util_threshold * slack
        mask &= candidates.ages(context.now) <= overdue
        return _or_all(mask)


class ConcurrencyDetectorFilter(Filter, frozen=True):
    """`concurrency-detector` named in a profile: keeps endpoints with room; none, if there is none."""

    detector: ConcurrencyDetector
    is_load: ClassVar[bool] = True

    def keep(self, context: Context, candidates: Candidates) -> Mask:
        detector, slack = self.detector, 1.0 + self.detector.headroom
        mask = np.ones(len(candidates), dtype=np.bool_)
        if detector.concurrency_mode is not ConcurrencyMode.TOKENS:
            mask &= candidates.requests < detector.max_concurrency * slack
        if detector.concurrency_mode is not ConcurrencyMode.REQUESTS:
            mask &= candidates.tokens < detector.max_token_concurrency * slack
        return mask


def _each(candidates: Candidates, holds: Callable[[Mapping[str, str]], bool]) -> Mask:
    flags = (holds(member.endpoint.labels) for member in candidates.members)
    return np.fromiter(flags, dtype=np.bool_, count=len(candidates))


def _or_all(mask: Mask) -> Mask:
    return mask if mask.any() else np.ones_like(mask)
