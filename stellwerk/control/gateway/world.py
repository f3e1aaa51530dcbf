"""All objects that a plan depends on, by kind and name."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from stellwerk.control.finding import Finding
from stellwerk.control.gateway.kinds import (
    KINDS,
    ConfigMap,
    EndpointSlice,
    Gateway,
    GatewayClass,
    GatewayClassSpec,
    HTTPRoute,
    InferencePool,
    Item,
    Metadata,
    Namespace,
    ReferenceGrant,
    Secret,
    Service,
)

Kind = TypeVar("Kind", bound=Item)
Named = Mapping[str, Kind]
"""By `namespace/name`; of a cluster-wide kind, by `/name`."""


class World(Struct, frozen=True):
    """Read-only. Two worlds of the same objects are equal."""

    classes: Named[GatewayClass] = field(default_factory=dict)
    gateways: Named[Gateway] = field(default_factory=dict)
    routes: Named[HTTPRoute] = field(default_factory=dict)
    grants: Named[ReferenceGrant] = field(default_factory=dict)
    pools: Named[InferencePool] = field(default_factory=dict)
    services: Named[Service] = field(default_factory=dict)
    slices: Named[EndpointSlice] = field(default_factory=dict)
    secrets: Named[Secret] = field(default_factory=dict)
    namespaces: Named[Namespace] = field(default_factory=dict)
    config_maps: Named[ConfigMap] = field(default_factory=dict)


_FIELDS: dict[type[Item], str] = {
    GatewayClass: "classes",
    Gateway: "gateways",
    HTTPRoute: "routes",
    ReferenceGrant: "grants",
    InferencePool: "pools",
    Service: "services",
    EndpointSlice: "slices",
    Secret: "secrets",
    Namespace: "namespaces",
    ConfigMap: "config_maps",
}


def world(objects: Iterable[Mapping[str, Any]]) -> tuple[World, tuple[Finding, ...]]:
    """The world of `objects` as an API server sends them, in any order. Kinds that do not matter are passed over; an
    object that cannot be read is left out and told of."""
    found: dict[str, dict[str, Any]] = {name: {} for name in _FIELDS.values()}
    problems = []
    for value in objects:
        kind = kind_of(value)
        if kind is None:
            continue
        try:
            item = read(value, kind)
        except msgspec.ValidationError as problem:
            metadata = value.get("metadata")
            name = f"{metadata.get('namespace', '')}/{metadata.get('name')}" if isinstance(metadata, Mapping) else "?"
            problems.append(Finding(f"{value.get('kind')} {name}", 0, 0, "", str(problem)))
        else:
            found[_FIELDS[kind]][item.full_name] = item
    return World(**{name: dict(sorted(items.items())) for name, items in found.items()}), tuple(problems)


def lost_gateways(found: World) -> frozenset[str]:
    """Full names of Gateways whose class does not exist."""
    present = {each.metadata.name for each in found.classes.values()}
    return frozenset(name for name, each in found.gateways.items() if each.spec.gateway_class_name not in present)


def with_lost_classes(found: World, controller: str, gateways: Collection[str]) -> World:
    """`found` as if the classes that do not exist were `controller`'s, for those of `gateways` (full names) that have
    one; other Gateways of such classes are left out. A class that was deleted by mistake must take no traffic along,
    and nobody else can claim its Gateways meanwhile."""
    lost = lost_gateways(found)
    if not lost:
        return found
    names = sorted({found.gateways[name].spec.gateway_class_name for name in lost.intersection(gateways)})
    spec = GatewayClassSpec(controller)
    classes = {f"/{name}": GatewayClass(metadata=Metadata(name), spec=spec) for name in names}
    kept = {name: each for name, each in found.gateways.items() if name not in lost or name in gateways}
    return msgspec.structs.replace(found, classes={**found.classes, **classes}, gateways=kept)


def kind_of(value: Mapping[str, Any]) -> type[Item] | None:
    """The type for an object; None if its kind does not matter here."""
    version, kind = value.get("apiVersion"), value.get("kind")
    return KINDS.get((version, kind)) if isinstance(version, str) and isinstance(kind, str) else None


def read(value: Mapping[str, Any], kind: type[Kind]) -> Kind:
    """One object. Raises msgspec.ValidationError."""
    item = msgspec.convert(value, kind)
    if item.metadata.namespace or kind in (GatewayClass, Namespace):
        return item
    return msgspec.structs.replace(item, metadata=msgspec.structs.replace(item.metadata, namespace="default"))
