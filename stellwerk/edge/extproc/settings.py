"""What the ext_proc service is told, and what it counts."""

from msgspec import Struct, field

from stellwerk.config import Timeouts
from stellwerk.edge.grpc.status import Status
from stellwerk.exchange.limits import BodyLimits
from stellwerk.exchange.settings import ExchangeSettings
from stellwerk.telemetry import buckets
from stellwerk.telemetry.render import Histogram


class ExtProcSettings(Struct, frozen=True):
    """What the service needs of the configuration. `epoch` names this process's life in tickets."""

    is_own_proxy: bool
    epoch: str
    limits: BodyLimits = BodyLimits()
    timeouts: Timeouts = Timeouts()
    pool_hint: str | None = None
    is_routed: bool = False
    """Whether the proxy's routes choose the pool, and say so in the call's metadata."""
    ignores_subset: bool = False
    """Whether the proxy's subset hint has no effect."""
    accepts_steering: bool = False
    names_served: bool = False
    reports: bool | None = None
    """None: where the proxy is not ours, for there no access log comes."""
    max_buffered_bytes: int = 1024 * 1024 * 1024
    """Bodies held over all exchanges; beyond it, uploads are paused."""
    max_unsent_bytes: int = 1024 * 1024
    """Of one exchange's output; beyond it, its input is paused."""

    def for_exchange(self) -> ExchangeSettings:
        """The part that the state machine reads."""
        return ExchangeSettings(
            is_own_proxy=self.is_own_proxy,
            limits=self.limits,
            decision_seconds=self.timeouts.decision_seconds,
            max_override_seconds=self.timeouts.max_override_seconds,
            upload_idle_seconds=self.timeouts.request_headers_seconds,
            pool_hint=self.pool_hint,
            accepts_steering=self.accepts_steering,
            names_served=self.names_served,
            reports=not self.is_own_proxy if self.reports is None else self.reports,
        )


class Counts(Struct):
    """What happened here, for metrics; only ever grows, but `open` and `buffered_bytes`."""

    conversations: int = 0
    open: int = 0
    buffered_bytes: int = 0
    replies: int = 0
    """Answers given by ourselves: refusals, model lists."""
    undecodable: int = 0
    out_of_order: int = 0
    unsupported: int = 0
    failures: int = 0
    """Bugs. Each is in the log."""
    pauses: int = 0
    ended: dict[Status, int] = field(default_factory=dict)
    """Calls that are over, by how: CANCELLED where the proxy ended them before us."""
    stream_seconds: Histogram = field(default_factory=lambda: Histogram(buckets.STREAM))
    """How long calls were open."""
    scheduling_seconds: Histogram = field(default_factory=lambda: Histogram(buckets.SCHEDULING))
    """The engine's work on one request."""
    request_seconds: Histogram = field(default_factory=lambda: Histogram(buckets.REQUEST_PROCESSING))
    """From the beginning of a call to the decision, or to the answer that we give ourselves."""
    answer_seconds: Histogram = field(default_factory=lambda: Histogram(buckets.RESPONSE_PROCESSING))
    """Our work on one answer, summed up over its messages; of answers that pass by here."""
