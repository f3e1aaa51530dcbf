"""EndpointPickerConfig: its document as types, and the way from there to what scheduling and flow control build from.

Field for field that of the llm-d router v0.10, strict like it. What has no effect here yet is named in a warning.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from stellwerk.control.fields import LEGACY_GROUP, ROUTER_GROUP
from stellwerk.control.finding import Path, shown
from stellwerk.model.picker_config import PickerConfig, PluginRef, PluginSpec, Problem, ProfileSpec

KIND = "EndpointPickerConfig"
API_VERSIONS = (f"{ROUTER_GROUP}/v1alpha1", f"{LEGACY_GROUP}/v1alpha1")

DURATION = r"^[-+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"
"""As Go reads durations."""
QUANTITY = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][-+]?[0-9]{1,2})?$"
"""As Kubernetes reads quantities, negative ones left out."""

Duration = Annotated[
    str,
    Meta(pattern=DURATION, extra={"is": "a duration: write it like 500ms, 60s or 1m30s", "has_unit": True}),
]
QuantityText = Annotated[str, Meta(pattern=QUANTITY, extra={"is": "a quantity: write it like 5000, 5k, 1G or 1Gi"})]
Quantity = QuantityText | Annotated[int, Meta(ge=0)]
PluginName = Annotated[str, Meta(min_length=1)]


class Plugin(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One instance of a plugin; its name is its type unless given."""

    type: PluginName
    name: str = ""
    parameters: dict[str, Any] | None = None


class Reference(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A plugin by name."""

    plugin_ref: PluginName


class WeightedReference(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A plugin of a profile; weights are for scorers."""

    plugin_ref: PluginName
    weight: float | None = None


class OptionalReference(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A plugin by name, or the default one."""

    plugin_ref: str | None = None


class Profile(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Filters, scorers and a picker that work together."""

    name: PluginName
    plugins: tuple[WeightedReference, ...] = ()


class DataSource(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Where signals come from."""

    plugin_ref: PluginName
    extractors: tuple[Reference, ...] = ()


class DataLayer(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Sources of signals."""

    inject_defaults: bool | None = None
    sources: tuple[DataSource, ...] | None = None
    discovery: Reference | None = None
    peer_discovery: Reference | None = None
    cross_replica_syncer_plugin_ref: str | None = None
    cross_replica_sync_interval: Duration | None = None


class Band(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Bounds and policies of one priority."""

    priority: int = 0
    max_bytes: Quantity | None = None
    max_requests: Quantity | None = None
    fairness_policy_ref: str | None = None
    ordering_policy_ref: str | None = None


class FlowControl(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Queues and their bounds."""

    max_bytes: Quantity | None = None
    max_requests: Quantity | None = None
    default_request_ttl: Duration | None = field(default=None, name="defaultRequestTTL")
    no_endpoint_request_ttl: Duration | None = field(default=None, name="noEndpointRequestTTL")
    default_priority_band: Band | None = None
    default_negative_priority_band: Band | None = None
    priority_bands: tuple[Band, ...] | None = None
    usage_limit_policy_plugin_ref: str | None = None
    saturation_detector: OptionalReference | None = None
    enable_eviction: bool | None = None


class RequestHandler(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Parsers of request bodies."""

    parsers: tuple[Reference, ...] | None = None


class EndpointPickerConfig(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The document. The reference has no `metadata` here; it is accepted, because every other object has it."""

    api_version: str
    kind: str
    metadata: Any = None
    feature_gates: tuple[str, ...] = ()
    plugins: tuple[Plugin, ...] = ()
    scheduling_profiles: tuple[Profile, ...] = ()
    data_layer: DataLayer | None = None
    flow_control: FlowControl | None = None
    request_handler: RequestHandler | None = None
    saturation_detector: OptionalReference | None = None
    parser: Reference | None = None

    def spelled(self, path: Path) -> Path:
        """`path` as this document spells it: the saturation detector may stand in either of two places."""
        if path[:1] == ("saturationDetector",) and self.flow_control and self.flow_control.saturation_detector:
            return ("flowControl", *path)
        return path


WITHOUT_EFFECT: Mapping[Path, str] = {
    ("dataLayer", "injectDefaults"): "metrics are always scraped",
    ("dataLayer", "sources"): "metrics are always scraped, in the dialect of each server's engine",
    ("dataLayer", "discovery"): "endpoints come from ModelServer objects, or from a cluster",
    ("dataLayer", "peerDiscovery"): "replicas do not share state",
    ("dataLayer", "crossReplicaSyncerPluginRef"): "replicas do not share state",
    ("dataLayer", "crossReplicaSyncInterval"): "replicas do not share state",
    ("flowControl", "maxBytes"): "the built-in bounds hold",
    ("flowControl", "maxRequests"): "the built-in bounds hold",
    ("flowControl", "defaultRequestTTL"): "the built-in time to live holds",
    ("flowControl", "noEndpointRequestTTL"): "the built-in time to live holds",
    ("flowControl", "defaultPriorityBand"): "the built-in bounds hold",
    ("flowControl", "defaultNegativePriorityBand"): "the built-in bounds hold",
    ("flowControl", "priorityBands"): "the built-in bounds hold",
    ("flowControl", "usageLimitPolicyPluginRef"): "no usage limit applies",
    ("flowControl", "enableEviction"): "running requests are never evicted",
    ("requestHandler", "parsers"): "every OpenAI and Anthropic path is parsed",
    ("parser",): "every OpenAI and Anthropic path is parsed",
    ("metadata",): "the llm-d router refuses this field",
}
"""Fields that are read, and checked, and then change nothing."""


def picker_config(document: EndpointPickerConfig) -> PickerConfig:
    """What the engine builds from. Paths count from the root of `document`."""
    flow = document.flow_control
    chosen = (flow and flow.saturation_detector) or document.saturation_detector
    return PickerConfig(
        plugins=tuple(
            PluginSpec(plugin.name or plugin.type, plugin.type, plugin.parameters or {}, ("plugins", index))
            for index, plugin in enumerate(document.plugins)
        ),
        profiles=tuple(_profile(profile, index) for index, profile in enumerate(document.scheduling_profiles)),
        saturation_detector=chosen.plugin_ref if chosen else None,
        feature_gates=dict(_gate(text) for text in document.feature_gates),
    )


def _profile(profile: Profile, index: int) -> ProfileSpec:
    path: Path = ("schedulingProfiles", index)
    references = tuple(
        PluginRef(reference.plugin_ref, reference.weight, (*path, "plugins", at))
        for at, reference in enumerate(profile.plugins)
    )
    return ProfileSpec(profile.name, references, path)


def _gate(text: str) -> tuple[str, bool]:
    name, _, switch = text.partition("=")
    return name, switch != "false"


def gate_problems(document: EndpointPickerConfig) -> Iterator[Problem]:
    """Feature gates that are neither on nor off. Whether they exist is for those who know what they switch."""
    for index, text in enumerate(document.feature_gates):
        name, separator, switch = text.partition("=")
        if separator and switch not in ("true", "false"):
            yield Problem(("featureGates", index), f'"{shown(text)}" is neither {name}=true nor {name}=false')


def remarks(document: Mapping[str, Any]) -> Iterator[Problem]:
    """What the plain `document` says without effect."""
    for path, reason in WITHOUT_EFFECT.items():
        node: Any = document
        for part in path:
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is not None:
            yield Problem(path, f"has no effect here: {reason}")
    if document.get("saturationDetector") is not None:
        yield Problem(("saturationDetector",), "is deprecated: write flowControl.saturationDetector")
