"""Parameters of the saturation detectors, as upstream names them. The formulas are in `flow.saturation`."""

from enum import Enum

from msgspec import Struct

from stellwerk.model.duration import parse_duration


class ConcurrencyMode(Enum):
    """What `concurrency-detector` counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    HYBRID = "hybrid"


class UtilizationDetector(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Saturation by queue length and KV cache use; the default."""

    queue_depth_threshold: float = 5
    """Waiting requests at which a server counts as full, > 0."""
    kv_cache_util_threshold: float = 0.8
    """KV cache use at which a server counts as full, above 0, at most 1."""
    metrics_staleness_threshold: str = "200ms"
    """How overdue a reading may be before its server counts as full. Upstream polls every 50 ms and counts from the
    reading; here an idle server is read seldom, so it counts from the latest time the next reading was due."""
    headroom: float = 0
    """As a filter: share by which the thresholds may be exceeded."""

    def __post_init__(self) -> None:
        if not self.queue_depth_threshold > 0:
            raise ValueError("queueDepthThreshold must be greater than 0")
        if not 0 < self.kv_cache_util_threshold <= 1:
            raise ValueError("kvCacheUtilThreshold must be greater than 0 and at most 1")
        if not self.headroom >= 0:
            raise ValueError("headroom must not be negative")
        parse_duration(self.metrics_staleness_threshold)

    @property
    def overdue_seconds(self) -> float:
        """`metrics_staleness_threshold` in seconds."""
        return parse_duration(self.metrics_staleness_threshold)


class ConcurrencyDetector(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Saturation by what this gateway has in flight; needs no metrics page."""

    max_concurrency: int = 100
    """Requests in flight at which a server counts as full, > 0."""
    headroom: float = 0
    concurrency_mode: ConcurrencyMode = ConcurrencyMode.REQUESTS
    max_token_concurrency: int = 1_000_000
    """Tokens in flight at which a server counts as full, > 0."""

    def __post_init__(self) -> None:
        if self.max_concurrency <= 0:
            raise ValueError("maxConcurrency must be greater than 0")
        if self.max_token_concurrency <= 0:
            raise ValueError("maxTokenConcurrency must be greater than 0")
        if not self.headroom >= 0:
            raise ValueError("headroom must not be negative")


Detector = UtilizationDetector | ConcurrencyDetector
