"""CustomResourceDefinitions of all kinds that are read here and come from nowhere else.

The schemas are made from the types that check files (`kinds`, `rules`); this table adds what types cannot say: plurals,
short names, columns for `kubectl get`, the type of the status. `stellwerk crds` prints them.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from stellwerk.control.fields import LEGACY_GROUP, OWN_GROUP, POOL_GROUP, ROUTER_GROUP
from stellwerk.control.kinds import KINDS, MAY_BE_UNSPECIFIED
from stellwerk.control.openapi import Schema, schema_of
from stellwerk.control.rules import RULES
from stellwerk.control.schema import type_info
from stellwerk.control.statuses import AcceptedStatus, OldPoolStatus, PoolStatus, ReadyStatus

BUNDLE_VERSION = "inference.networking.k8s.io/bundle-version"
"""Upstream's release that a definition is equal to. A cluster has one: of the kinds that are in the current release."""
APPROVED = "api-approved.kubernetes.io"
"""API servers refuse definitions in groups under k8s.io without it; the value is the review of the API."""
_REVIEW = "https://github.com/kubernetes-sigs/gateway-api-inference-extension/pull/1173"


class Column(Struct, frozen=True):
    """A column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"


class Stored(Struct, frozen=True):
    """How an API server stores a kind."""

    plural: str
    status: type
    columns: tuple[Column, ...]
    short_names: tuple[str, ...] = ()
    annotations: Mapping[str, str] = {}


_POOL = Column("Inference Pool", ".spec.poolRef.name")
_AGE = Column("Age", ".metadata.creationTimestamp", "date")
_PRIORITY = Column("Priority", ".spec.priority")
_CRITICALITY = Column("Criticality", ".spec.criticality")
_MODEL = Column("Model Name", ".spec.modelName")

STORED: Mapping[tuple[str, str], Stored] = {
    (f"{POOL_GROUP}/v1", "InferencePool"): Stored(
        "inferencepools",
        PoolStatus,
        (
            Column("Ports", ".spec.targetPorts[*].number"),
            Column("Picker", ".spec.endpointPickerRef.name"),
            Column("Failure Mode", ".spec.endpointPickerRef.failureMode"),
            _AGE,
        ),
        ("infpool",),
        {APPROVED: _REVIEW, BUNDLE_VERSION: "v1.6.0"},
    ),
    (f"{LEGACY_GROUP}/v1alpha2", "InferencePool"): Stored(
        "inferencepools",
        OldPoolStatus,
        (Column("Port", ".spec.targetPortNumber", "integer"), Column("Picker", ".spec.extensionRef.name"), _AGE),
    ),
    (f"{LEGACY_GROUP}/v1alpha2", "InferenceModel"): Stored(
        "inferencemodels", ReadyStatus, (_MODEL, _POOL, _CRITICALITY, _AGE), ("infmodel",)
    ),
    (f"{ROUTER_GROUP}/v1alpha2", "InferenceObjective"): Stored(
        "inferenceobjectives", ReadyStatus, (_POOL, _PRIORITY, _AGE), ("infobj",)
    ),
    (f"{LEGACY_GROUP}/v1alpha2", "InferenceObjective"): Stored(
        "inferenceobjectives", ReadyStatus, (_POOL, _PRIORITY, _AGE)
    ),
    (f"{ROUTER_GROUP}/v1alpha2", "InferenceModelRewrite"): Stored(
        "inferencemodelrewrites", AcceptedStatus, (_POOL, _AGE), ("infrewrite",)
    ),
    (f"{LEGACY_GROUP}/v1alpha2", "InferenceModelRewrite"): Stored(
        "inferencemodelrewrites", AcceptedStatus, (_POOL, _AGE)
    ),
    (f"{OWN_GROUP}/v1alpha1", "ModelServer"): Stored(
        "modelservers",
        AcceptedStatus,
        (
            Column("Address", ".spec.address"),
            Column("Ports", ".spec.ports"),
            Column("Engine", ".spec.engine"),
            _AGE,
        ),
        ("modelsrv",),
    ),
}
"""By apiVersion and kind. A short name belongs to the newer of two groups."""


def definitions() -> list[dict[str, Any]]:
    """Every CustomResourceDefinition, ready to be applied."""
    return [_definition(*key, stored) for key, stored in STORED.items()]


def _definition(api_version: str, kind: str, stored: Stored) -> dict[str, Any]:
    group, _, version = api_version.partition("/")
    names: dict[str, Any] = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": stored.plural,
        "singular": kind.lower(),
    }
    if stored.short_names:
        names["shortNames"] = list(stored.short_names)
    metadata: dict[str, Any] = {"name": f"{stored.plural}.{group}"}
    if stored.annotations:
        metadata["annotations"] = dict(stored.annotations)
    columns = [{"name": column.name, "type": column.type, "jsonPath": column.path} for column in stored.columns]
    served = {
        "name": version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": _whole(api_version, kind, stored)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": [served]},
    }


def _whole(api_version: str, kind: str, stored: Stored) -> Schema:
    """The schema of a whole object. Its metadata is the API server's business."""
    spec = _spec_type(api_version, kind)
    return {
        "type": "object",
        "description": f"{kind} of {api_version}.",
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of this API."},
            "kind": {"type": "string", "description": "The kind of this object."},
            "metadata": {"type": "object"},
            "spec": schema_of(spec, RULES),
            "status": schema_of(stored.status, {}),
        },
        **({} if KINDS[api_version, kind] in MAY_BE_UNSPECIFIED else {"required": ["spec"]}),
    }


def _spec_type(api_version: str, kind: str) -> type:
    info: Any = type_info(KINDS[api_version, kind])
    (spec,) = (field.type.cls for field in info.fields if field.name == "spec")
    assert isinstance(spec, type)
    return spec
