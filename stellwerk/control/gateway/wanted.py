"""From a plan to writes: for every object whose status is ours to keep, the status as it is to that as it should be.

A write is asked for only where the copy at hand differs, so a round in which nothing changed asks for none.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from stellwerk.control.gateway.deployment import Observed
from stellwerk.control.gateway.entries import ParentEntry, merged_conditions, merged_parents
from stellwerk.control.gateway.plan import Plan
from stellwerk.control.gateway.resources import GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES
from stellwerk.control.gateway.status import (
    SUPPORTED_FEATURES,
    class_conditions,
    gateway_conditions,
    listener_statuses,
    pool_parents,
    route_parents,
)
from stellwerk.control.kube.resource import POOLS, Key, Resource
from stellwerk.control.remark import Condition

Object = dict[str, Any]
Change = Callable[[Object], Object]
Copies = Mapping[Key, Object]

MAX_PARENTS = 32
"""Entries in a list of parents."""
_RETIRED = frozenset({"Conflicted", "ResolvedRefs", "Programmed", "OverlappingTLSConfig"})


class StatusChange(Struct, frozen=True):
    """A write that is due: `change` makes the new status from whatever is there at that time."""

    resource: Resource
    value: Object
    change: Change


class Invalid(Struct, frozen=True):
    """What is wrong with parameters: by class name, and by full name of the Gateway."""

    classes: Mapping[str, str]
    gateways: Mapping[str, str]


def status_changes(
    plan: Plan,
    controller: str,
    copies: Callable[[Resource], Copies],
    observed: Mapping[str, Observed],
    invalid: Invalid,
    now: str,
) -> Iterator[StatusChange]:
    """The writes that bring classes, Gateways, routes and pools to what `plan` says. `now` is RFC 3339."""
    yield from _classes(plan, copies(GATEWAY_CLASSES), invalid, now)
    yield from _gateways(plan, copies(GATEWAYS), observed, invalid, now)
    yield from _children(HTTP_ROUTES, copies(HTTP_ROUTES), route_parents(plan), controller, now)
    yield from _children(POOLS, copies(POOLS), pool_parents(plan), controller, now)


def condition_change(resource: Resource, value: Object, conditions: Iterable[Condition], now: str) -> Change | None:
    """The change of an object that has conditions and nothing else of ours; None: there is none."""
    told, generation = tuple(conditions), _generation(value)

    def change(old: Object) -> Object:
        return {**old, "conditions": merged_conditions(old.get("conditions"), told, generation, now)}

    return change if _differs(value, change) else None


def _differs(value: Object, change: Change) -> bool:
    status = value.get("status") or {}
    return change(status) != status


def _classes(plan: Plan, copies: Copies, invalid: Invalid, now: str) -> Iterator[StatusChange]:
    features = [{"name": name} for name in sorted(SUPPORTED_FEATURES)]
    for each in plan.classes:
        value = copies.get(("", each.metadata.name))
        if value is None:
            continue
        conditions = class_conditions(invalid.classes.get(each.metadata.name))

        def change(
            old: Object, conditions: tuple[Condition, ...] = conditions, generation: int = each.metadata.generation
        ) -> Object:
            merged = merged_conditions(old.get("conditions"), conditions, generation, now)
            return {**old, "conditions": merged, "supportedFeatures": features}

        if _differs(value, change):
            yield StatusChange(GATEWAY_CLASSES, value, change)


def _gateways(
    plan: Plan, copies: Copies, observed: Mapping[str, Observed], invalid: Invalid, now: str
) -> Iterator[StatusChange]:
    for name, planned in plan.gateways.items():
        meta = planned.gateway.metadata
        value = copies.get((meta.namespace, meta.name))
        if value is None:
            continue
        found = observed.get(name, Observed(message="its workload is not there yet"))
        problem = invalid.gateways.get(name) or invalid.classes.get(planned.gateway.spec.gateway_class_name)
        wanted = _GatewayStatus(
            conditions=gateway_conditions(planned, found, problem),
            addresses=[{"type": kind, "value": address} for kind, address in found.addresses],
            listeners=[
                (
                    {
                        "name": each.name,
                        "supportedKinds": [{"group": kind.group, "kind": kind.kind} for kind in each.supported],
                        "attachedRoutes": each.attached,
                    },
                    each.conditions,
                )
                for each in listener_statuses(planned)
            ],
            generation=meta.generation,
            now=now,
        )
        if _differs(value, wanted.over):
            yield StatusChange(GATEWAYS, value, wanted.over)


class _GatewayStatus(Struct, frozen=True):
    """The parts of a Gateway's status that are ours."""

    conditions: tuple[Condition, ...]
    addresses: list[Object]
    listeners: list[tuple[Object, tuple[Condition, ...]]]
    generation: int
    now: str

    def over(self, old: Object) -> Object:
        before = {entry.get("name"): entry.get("conditions") for entry in old.get("listeners") or ()}
        listeners = [
            {
                **facts,
                "conditions": merged_conditions(
                    before.get(facts["name"]), conditions, self.generation, self.now, _RETIRED
                ),
            }
            for facts, conditions in self.listeners
        ]
        new = {
            **old,
            "conditions": merged_conditions(old.get("conditions"), self.conditions, self.generation, self.now),
            "listeners": listeners,
        }
        if self.addresses or old.get("addresses"):
            new["addresses"] = self.addresses
        return new


def _children(
    resource: Resource, copies: Copies, wanted: Mapping[str, tuple[ParentEntry, ...]], controller: str, now: str
) -> Iterator[StatusChange]:
    """Objects with entries per parent, those too that have none of ours any more."""
    for (namespace, name), value in copies.items():
        entries = wanted.get(f"{namespace}/{name}", ())
        if not entries and not _has_ours(value, controller):
            continue
        generation = _generation(value)

        def change(old: Object, entries: tuple[ParentEntry, ...] = entries, generation: int = generation) -> Object:
            merged = merged_parents(old.get("parents"), controller, entries, generation, now)
            return {**old, "parents": merged[:MAX_PARENTS]}

        if _differs(value, change):
            yield StatusChange(resource, value, change)


def _has_ours(value: Object, controller: str) -> bool:
    parents = (value.get("status") or {}).get("parents") or ()
    return any(entry.get("controllerName") == controller for entry in parents)


def _generation(value: Object) -> int:
    generation = value["metadata"].get("generation")
    return generation if isinstance(generation, int) else 0
