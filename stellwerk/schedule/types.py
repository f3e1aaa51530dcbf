"""Every plugin type by its name in YAML: those that work, those accepted without effect, those still to come."""

from collections.abc import Mapping
from typing import Any

from msgspec import field

from stellwerk.model.detector import ConcurrencyDetector, UtilizationDetector
from stellwerk.model.engines import ENGINE_LABEL, ENGINES, Engine, EngineRule
from stellwerk.schedule import filters, pickers, scorers
from stellwerk.schedule.affinity import ApproxPrefixCacheProducer
from stellwerk.schedule.load import InflightLoadProducer
from stellwerk.schedule.plugin import Inert

TYPES: dict[str, type] = {
    "label-selector-filter": filters.LabelSelectorFilter,
    "by-label-selector": filters.LabelSelectorFilter,
    "by-label": filters.ByLabelFilter,
    "decode-filter": filters.DecodeFilter,
    "prefill-filter": filters.PrefillFilter,
    "encode-filter": filters.EncodeFilter,
    "utilization-filter": filters.UtilizationFilter,
    "queue-scorer": scorers.QueueScorer,
    "kv-cache-utilization-scorer": scorers.KvCacheScorer,
    "prefix-cache-scorer": scorers.PrefixCacheScorer,
    "running-requests-size-scorer": scorers.RunningRequestsScorer,
    "lora-affinity-scorer": scorers.LoraAffinityScorer,
    "load-aware-scorer": scorers.LoadAwareScorer,
    "token-load-scorer": scorers.TokenLoadScorer,
    "active-request-scorer": scorers.ActiveRequestScorer,
    "least-requests-scorer": scorers.LeastRequestsScorer,
    "max-score-picker": pickers.MaxScorePicker,
    "random-picker": pickers.RandomPicker,
    "weighted-random-picker": pickers.WeightedRandomPicker,
    "round-robin-picker": pickers.RoundRobinPicker,
    "power-of-two-picker": pickers.PowerOfTwoPicker,
    "approx-prefix-cache-producer": ApproxPrefixCacheProducer,
    "inflight-load-producer": InflightLoadProducer,
    "utilization-detector": UtilizationDetector,
    "concurrency-detector": ConcurrencyDetector,
}


class MetricsDataSource(Inert, frozen=True):
    """Scraping is set up by flags (`--scrape-*`) and by the ModelServers' engine labels."""

    scheme: str = "http"
    path: str = "/metrics"
    port: int | None = None
    insecure_skip_verify: bool = True
    ca_cert_path: str = ""
    client_cert_path: str = ""
    client_key_path: str = ""
    interval: str = ""

    def __post_init__(self) -> None:
        if self.scheme != "http" or self.path != "/metrics" or self.port is not None:
            raise ValueError("scheme, path and port are not supported yet: pages are read from http://ADDRESS/metrics")


class CoreMetricsExtractor(Inert, frozen=True):
    """Metric names come with the engine's dialect; the engine of a server from its labels. Empty is the default."""

    engine_label_key: str = ENGINE_LABEL
    default_engine: str = Engine.VLLM.value
    engine_configs: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.default_engine and self.default_engine not in ENGINES:
            raise ValueError(f'defaultEngine "{self.default_engine[:80]}" is not one of {", ".join(ENGINES)}')
        if self.engine_configs:
            raise ValueError("engineConfigs is not supported yet: leave it out, the built-in dialects are used")

    @property
    def rule(self) -> EngineRule:
        """The same, for those who make endpoints."""
        default = Engine(self.default_engine) if self.default_engine else Engine.VLLM
        return EngineRule(self.engine_label_key or ENGINE_LABEL, default)


class ModelsDataSource(Inert, frozen=True):
    """`/v1/models` is read from every server anyway."""

    scheme: str = "http"
    path: str = "/v1/models"
    insecure_skip_verify: bool = True


class TokenProducer(Inert, frozen=True):
    """Token counts are estimated at four bytes to a token unless the client sends token ids."""

    estimate: Mapping[str, Any] = field(default_factory=dict)


class StaticUsageLimitPolicy(Inert, frozen=True):
    """Every priority may use the whole pool."""

    threshold: float = 1.0

    def __post_init__(self) -> None:
        if self.threshold != 1.0:
            raise ValueError("threshold is not supported yet: leave it out, or at 1.0")


METRICS_EXTRACTOR = "core-metrics-extractor"
INERT: dict[str, type[Inert]] = {
    "single-profile-handler": Inert,
    "header-based-testing-filter": Inert,
    "metrics-data-source": MetricsDataSource,
    METRICS_EXTRACTOR: CoreMetricsExtractor,
    "models-data-source": ModelsDataSource,
    "models-data-extractor": Inert,
    "token-producer": TokenProducer,
    "tokenizer": TokenProducer,
    "openai-parser": Inert,
    "anthropic-parser": Inert,
    "vllmhttp-parser": Inert,
    "passthrough-parser": Inert,
    "fcfs-ordering-policy": Inert,
    "global-strict-fairness-policy": Inert,
    "static-usage-limit-policy": StaticUsageLimitPolicy,
    "destination-endpoint-served-verifier": Inert,
}
"""Accepted so that an upstream configuration moves over: what they ask for happens anyway, or is only for tests."""

PLANNED = frozenset({
    "session-affinity-filter", "endpoint-attribute-filter", "topology-affinity-filter", "prefix-cache-affinity-filter",
    "slo-headroom-tier-filter", "context-length-aware", "multicluster-session-affinity-filter",
    "precise-prefix-cache-scorer", "no-hit-lru-scorer", "session-affinity-scorer", "header-label-affinity-scorer",
    "latency-scorer", "endpoint-attribute-scorer", "mm-embeddings-cache-scorer", "topology-affinity-scorer",
    "multicluster-queue-scorer", "multicluster-kv-cache-utilization-scorer", "multicluster-prefix-cache-scorer",
    "disagg-profile-handler", "pd-profile-handler", "disagg-headers-handler", "prefill-header-handler",
    "data-parallel-profile-handler", "header-profile-handler", "prefix-based-pd-decider", "always-disagg-pd-decider",
    "always-disagg-multimodal-decider", "precise-prefix-cache-producer", "predicted-latency-producer",
    "session-id-producer", "mm-embeddings-cache-producer", "burst-prefix-cache-producer", "p2p-source-producer",
    "multicluster-approx-prefix-cache-producer", "latency-slo-admitter", "probabilistic-admitter",
    "disaggregatedset-rollout-screener", "agent-identity", "request-attribute-reporter",
    "round-robin-fairness-policy", "program-aware-fairness", "edf-ordering-policy", "slo-deadline-ordering-policy",
    "priority-holdback-policy", "soft-reflective-ceiling-policy", "sheddable-eviction-filter",
    "priority-then-time-eviction-order-policy", "dcgm-data-source", "dcgm-extractor", "topology-extractor",
    "k8s-notification-source", "endpoint-notification-source", "multicluster-metrics-data-source",
    "multicluster-metrics-extractor", "file-discovery", "multicluster-file-discovery", "sglanghttp-parser",
    "vllmgrpc-parser", "vertexai-parser",
})  # fmt: skip
"""Known to upstream, not built yet."""
