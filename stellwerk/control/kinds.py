"""The objects as types: every field, default, bound and rule of every kind, once; `schema` checks against them.

Bounds and messages are those of the CustomResourceDefinitions (Gateway API Inference Extension v1.6 and v0.5, llm-d
router v0.10), so that what is right here is right in a cluster, and the other way round: what they accept without its
making sense is accepted too, and gets a remark from `reconcile`. `EndpointPickerConfig` stands in `picker`.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from stellwerk.control.fields import (
    LEGACY_GROUP,
    OWN_GROUP,
    POOL_GROUP,
    ROUTER_GROUP,
    Group,
    Int64,
    KindName,
    LabelKey,
    LabelValue,
    PortNumber,
    ReadObject,
    ReferentName,
    Weight,
)
from stellwerk.model.catalog import FailureMode
from stellwerk.model.engines import Engine


class Selector(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Labels that must all be there."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Meta(min_length=1, max_length=64)]


class Port(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A port of a picker or model server."""

    number: PortNumber


class AppProtocol(Enum):
    """What the model servers speak."""

    HTTP = "http"
    H2C = "kubernetes.io/h2c"


class EndpointPickerRef(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A picker in a cluster, named by an InferencePool v1. Only `failure_mode` matters to a picker of our own."""

    name: ReferentName
    group: Group = ""
    kind: KindName = "Service"
    port: Port | None = None
    failure_mode: FailureMode = FailureMode.CLOSE


class PoolSpec(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`spec` of InferencePool v1. Every selected server is one endpoint per target port."""

    selector: Selector
    target_ports: Annotated[
        tuple[Port, ...],
        Meta(min_length=1, max_length=8, extra_json_schema={"x-kubernetes-list-type": "atomic"}),
    ]
    app_protocol: AppProtocol = AppProtocol.HTTP
    endpoint_picker_ref: EndpointPickerRef | None = None


class InferencePool(ReadObject, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`inference.networking.k8s.io/v1` InferencePool."""

    spec: PoolSpec


class SelectedPool(InferencePool, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """A pool without an object, as flags describe it. An API server selects its servers by `expression`, which may say
    more than an InferencePool can; here it has all servers there are."""

    expression: str


class ExtensionRef(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A picker in a cluster, named by an InferencePool v1alpha2."""

    name: ReferentName
    group: Group = ""
    kind: KindName = "Service"
    port_number: PortNumber | None = None
    failure_mode: FailureMode = FailureMode.CLOSE


class OldPoolSpec(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`spec` of InferencePool v1alpha2: a plain map of labels and one port."""

    selector: dict[LabelKey, LabelValue]
    target_port_number: PortNumber
    extension_ref: ExtensionRef


class OldInferencePool(ReadObject, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`inference.networking.x-k8s.io/v1alpha2` InferencePool."""

    spec: OldPoolSpec


class OldPoolRef(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The pool of an InferenceModel, in its own namespace."""

    name: ReferentName
    group: Group = LEGACY_GROUP
    kind: KindName = "InferencePool"


class PoolRef(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The pool of an objective or rewrite, in its own namespace."""

    name: ReferentName
    group: Group = POOL_GROUP
    kind: KindName = "InferencePool"


class Criticality(Enum):
    """How much an InferenceModel matters."""

    CRITICAL = "Critical"
    STANDARD = "Standard"
    SHEDDABLE = "Sheddable"


class TargetModel(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A model or adapter as the servers name it, and its share of the sum of weights."""

    name: Annotated[str, Meta(max_length=253)]
    weight: Weight | None = None


class ModelSpec(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`spec` of InferenceModel. Without targets the servers know the model by its public name."""

    model_name: Annotated[str, Meta(max_length=256)]
    pool_ref: OldPoolRef
    criticality: Criticality | None = None
    target_models: Annotated[tuple[TargetModel, ...], Meta(max_length=10)] = ()


class InferenceModel(ReadObject, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`inference.networking.x-k8s.io/v1alpha2` InferenceModel."""

    spec: ModelSpec


class ObjectiveSpec(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`spec` of InferenceObjective. A priority that is not set is 0; a negative one may be shed."""

    pool_ref: PoolRef
    priority: Int64 | None = None


class InferenceObjective(ReadObject, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`llm-d.ai/v1alpha2` or `inference.networking.x-k8s.io/v1alpha2` InferenceObjective."""

    spec: ObjectiveSpec


class MatchType(Enum):
    """How a model name is compared."""

    EXACT = "Exact"


class ModelMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A model name as the client writes it."""

    value: Annotated[str, Meta(min_length=1)]
    type: MatchType = MatchType.EXACT


class Match(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One of the alternatives of a rule."""

    model: ModelMatch


class RewriteTarget(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The name that is written into the request, and its share of the sum of weights."""

    model_rewrite: str
    weight: Weight | None = None


class RewriteRule(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Matches are alternatives; a rule without any matches every model."""

    targets: Annotated[tuple[RewriteTarget, ...], Meta(min_length=1)] = ()
    matches: tuple[Match, ...] = ()


class RewriteSpec(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`spec` of InferenceModelRewrite."""

    pool_ref: PoolRef
    rules: tuple[RewriteRule, ...]


class InferenceModelRewrite(ReadObject, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`llm-d.ai/v1alpha2` or `inference.networking.x-k8s.io/v1alpha2` InferenceModelRewrite."""

    spec: RewriteSpec


class ServerSpec(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`spec` of ModelServer. Without ports those of the pool hold, without an engine that of its labels."""

    address: Annotated[str, Meta(min_length=1, max_length=253)]
    ports: Annotated[tuple[PortNumber, ...], Meta(min_length=1, max_length=8)] | None = None
    engine: Engine | None = None


class ModelServer(ReadObject, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """`stellwerk.dev/v1alpha1` ModelServer: stands in for a Pod where there are none."""

    spec: ServerSpec


class Unspecified(ReadObject, frozen=True, rename="camel", kw_only=True):
    """An object without `spec` of a kind whose definition upstream does not ask for one. It says nothing."""

    spec: Any = field(default=None)


class PoolImport(ReadObject, frozen=True, rename="camel", kw_only=True):
    """InferencePoolImport: known, and without effect here."""

    spec: Any = field(default=None)


Pool = InferencePool | OldInferencePool

KINDS: Mapping[tuple[str, str], type[ReadObject]] = {
    (f"{POOL_GROUP}/v1", "InferencePool"): InferencePool,
    (f"{LEGACY_GROUP}/v1alpha2", "InferencePool"): OldInferencePool,
    (f"{LEGACY_GROUP}/v1alpha2", "InferenceModel"): InferenceModel,
    (f"{ROUTER_GROUP}/v1alpha2", "InferenceObjective"): InferenceObjective,
    (f"{LEGACY_GROUP}/v1alpha2", "InferenceObjective"): InferenceObjective,
    (f"{ROUTER_GROUP}/v1alpha2", "InferenceModelRewrite"): InferenceModelRewrite,
    (f"{LEGACY_GROUP}/v1alpha2", "InferenceModelRewrite"): InferenceModelRewrite,
    (f"{OWN_GROUP}/v1alpha1", "ModelServer"): ModelServer,
    (f"{LEGACY_GROUP}/v1alpha1", "InferencePoolImport"): PoolImport,
}
"""By apiVersion and kind."""
MAY_BE_UNSPECIFIED = frozenset(
    {OldInferencePool, InferenceModel, InferenceObjective, InferenceModelRewrite},
)
"""Kinds of which an object may come without `spec`, as `Unspecified`."""
