"""`status` of the kinds, as controllers write it. Files never carry one that is read; only `crds` needs the types."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any

from msgspec import Meta, Struct

from stellwerk.control.fields import SUBDOMAIN, KindName, ReferentName

ParentGroup = Annotated[str, Meta(max_length=253, pattern=rf"^$|{SUBDOMAIN}")]
NamespaceName = Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


class ConditionStatus(Enum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class StatusCondition(Struct, frozen=True, rename="camel"):
    """One aspect of the current state, as in every Kubernetes API."""

    last_transition_time: datetime
    message: Annotated[str, Meta(max_length=32768)]
    reason: Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    status: ConditionStatus
    type: Annotated[
        str,
        Meta(
            max_length=316,
            pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
            r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
        ),
    ]
    observed_generation: Annotated[int, Meta(ge=0)] | None = None


def _until_known(type_: str) -> dict[str, Any]:
    """Conditions keyed by type; before a controller has spoken, one that says so."""
    first = {
        "type": type_,
        "status": "Unknown",
        "reason": "Pending",
        "message": "Waiting for controller",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }
    return {**_BY_TYPE, "default": [first]}


_BY_TYPE = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
Conditions = Annotated[tuple[StatusCondition, ...], Meta(max_length=8, extra_json_schema=_BY_TYPE)]
ReadyConditions = Annotated[tuple[StatusCondition, ...], Meta(max_length=8, extra_json_schema=_until_known("Ready"))]
AcceptedConditions = Annotated[
    tuple[StatusCondition, ...], Meta(max_length=8, extra_json_schema=_until_known("Accepted"))
]


class ParentReference(Struct, frozen=True, rename="camel"):
    """The parent that an entry is about, mostly a Gateway."""

    name: ReferentName
    group: ParentGroup = "gateway.networking.k8s.io"
    kind: KindName = "Gateway"
    namespace: NamespaceName | None = None


class ParentStatus(Struct, frozen=True, rename="camel"):
    """What one controller says about the pool for one parent."""

    parent_ref: ParentReference
    conditions: Conditions = ()
    controller_name: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=253,
                pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/"
                r"[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$",
            ),
        ]
        | None
    ) = None


class PoolStatus(Struct, frozen=True, rename="camel"):
    """One entry per parent that the pool is reached through."""

    parents: Annotated[
        tuple[ParentStatus, ...], Meta(max_length=32, extra_json_schema={"x-kubernetes-list-type": "atomic"})
    ] = ()


class ObjectReference(Struct, frozen=True, rename="camel"):
    """A reference as core Kubernetes writes it."""

    api_version: str | None = None
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    field_path: str | None = None


class OldParentStatus(Struct, frozen=True, rename="camel"):
    """What is said about a v1alpha2 pool for one Gateway."""

    parent_ref: Annotated[ObjectReference, Meta(extra_json_schema={"x-kubernetes-map-type": "atomic"})]
    conditions: AcceptedConditions = ()


class OldPoolStatus(Struct, frozen=True, rename="camel"):
    """One entry per Gateway."""

    parent: Annotated[tuple[OldParentStatus, ...], Meta(max_length=32)] = ()


class ReadyStatus(Struct, frozen=True, rename="camel"):
    """Conditions of an InferenceModel or InferenceObjective; `Accepted` says whether it is in effect."""

    conditions: ReadyConditions = ()


class AcceptedStatus(Struct, frozen=True, rename="camel"):
    """Conditions of an InferenceModelRewrite or ModelServer."""

    conditions: AcceptedConditions = ()
