"""Keeps a World up to date from single changes: what did not change is not read again."""

from collections.abc import Mapping
from typing import Any

import msgspec

from stellwerk.control.finding import Finding
from stellwerk.control.gateway import kinds
from stellwerk.control.gateway.resources import (
    CONFIG_MAPS,
    GATEWAY_CLASSES,
    GATEWAYS,
    HTTP_ROUTES,
    REFERENCE_GRANTS,
)
from stellwerk.control.gateway.world import World, read
from stellwerk.control.kube.resource import ENDPOINT_SLICES, NAMESPACES, POOLS, SECRETS, SERVICES, Key, Resource

FIELDS: Mapping[Resource, tuple[str, type[kinds.Item]]] = {
    GATEWAY_CLASSES: ("classes", kinds.GatewayClass),
    GATEWAYS: ("gateways", kinds.Gateway),
    HTTP_ROUTES: ("routes", kinds.HTTPRoute),
    REFERENCE_GRANTS: ("grants", kinds.ReferenceGrant),
    POOLS: ("pools", kinds.InferencePool),
    SERVICES: ("services", kinds.Service),
    SECRETS: ("secrets", kinds.Secret),
    NAMESPACES: ("namespaces", kinds.Namespace),
    CONFIG_MAPS: ("config_maps", kinds.ConfigMap),
    ENDPOINT_SLICES: ("slices", kinds.EndpointSlice),
}
"""What of a World is followed: by the controller all but EndpointSlices, by a gateway all but ConfigMaps."""


class Assembly:
    """Owner of the world of one process."""

    def __init__(self) -> None:
        self.world = World()
        self._problems: dict[tuple[str, str], Finding] = {}
        """By field of the world and full name."""
        self._items: dict[str, dict[str, kinds.Item]] = {name: {} for name, _ in FIELDS.values()}
        self._changed: set[str] = set()

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Objects that cannot be read: they stay as they were read last, and count as absent where they never were."""
        return tuple(self._problems[key] for key in sorted(self._problems))

    def unreadable(self, resource: Resource) -> frozenset[Key]:
        """Objects of a kind that are there and cannot be read."""
        field, _ = FIELDS[resource]
        names = [name.partition("/") for of, name in self._problems if of == field]
        return frozenset((namespace, name) for namespace, _, name in names)

    def put(self, resource: Resource, key: Key, value: Mapping[str, Any] | None) -> None:
        """Object `key` as it is now; None: it is gone."""
        field, kind = FIELDS[resource]
        name = f"{key[0]}/{key[1]}"
        items = self._items[field]
        before = items.pop(name, None)
        self._problems.pop((field, name), None)
        if value is not None:
            try:
                items[name] = read(value, kind)
            except msgspec.ValidationError as problem:
                self._problems[field, name] = Finding(f"{resource.kind} {name}", 0, 0, "", str(problem))
                if before is not None:
                    items[name] = before
        if items.get(name) != before:
            self._changed.add(field)

    def settle(self) -> bool:
        """Take in what was put; True if the world is another one now."""
        if not self._changed:
            return False
        fresh = {field: dict(sorted(self._items[field].items())) for field in self._changed}
        self.world = msgspec.structs.replace(self.world, **fresh)
        self._changed.clear()
        return True
