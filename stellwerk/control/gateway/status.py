"""What every object is told: conditions with the Gateway API's types and reasons, out of the same plan that routes.

Generations, times and the entries of other controllers are the writer's business (`entries`).
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from stellwerk.control.gateway.backend import PoolTarget, Unresolved
from stellwerk.control.gateway.deployment import Observed
from stellwerk.control.gateway.entries import ParentEntry
from stellwerk.control.gateway.kinds import GATEWAY_GROUP, ParentRef, RouteKind
from stellwerk.control.gateway.plan import GatewayPlan, Plan, PlannedListener
from stellwerk.control.remark import Condition, accepted, refused

SUPPORTED_FEATURES = (
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayInfrastructurePropagation",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
)
"""Of the Gateway API, for `GatewayClass.status.supportedFeatures`. Each has a conformance test."""

ADDRESS_TYPES = ("IPAddress", "Hostname")
"""What a Gateway may ask for; whether it is given is for the load balancer to say."""


class ListenerStatus(Struct, frozen=True):
    """One entry of `Gateway.status.listeners`."""

    name: str
    supported: tuple[RouteKind, ...]
    attached: int
    conditions: tuple[Condition, ...]


def class_conditions(invalid: str | None = None) -> tuple[Condition, ...]:
    """Of a class of ours. `invalid`: what is wrong with its parameters."""
    return (accepted() if invalid is None else refused("InvalidParameters", invalid),)


def gateway_conditions(planned: GatewayPlan, found: Observed, invalid: str | None = None) -> tuple[Condition, ...]:
    """Of a Gateway whose workload stands as `found`. `invalid`: what is wrong with its parameters."""
    good = [each for each in planned.listeners if each.checked.can_serve]
    bad = [each.name for each in planned.listeners if not each.checked.can_serve]
    message = f"listeners that cannot serve: {', '.join(bad)}" if bad else ""
    asked = planned.gateway.spec.addresses
    strange = sorted({each.type for each in asked if each.type not in ADDRESS_TYPES})
    missing = [each.value for each in asked if each.value and each.value not in {value for _, value in found.addresses}]
    if invalid is not None:
        acceptance = refused("InvalidParameters", invalid)
    elif strange:
        types = " and ".join(ADDRESS_TYPES)
        acceptance = refused(
            "UnsupportedAddress", f"addresses of type {', '.join(strange)} are not supported: use {types}"
        )
    elif bad:
        acceptance = Condition("Accepted", "True" if good else "False", "ListenersNotValid", message)
    else:
        acceptance = accepted()
    if acceptance.status == "False":
        programmed = Condition("Programmed", "False", "Invalid", acceptance.message)
    elif found.taken:
        programmed = Condition("Programmed", "False", "NoResources", found.taken)
    elif not found.addresses:
        programmed = Condition("Programmed", "False", "AddressNotAssigned", found.message)
    elif missing:
        why = f"the Service did not get the addresses {', '.join(missing)}"
        programmed = Condition("Programmed", "False", "AddressNotUsable", why)
    elif not found.is_programmed:
        programmed = Condition("Programmed", "False", "NoResources", found.message)
    else:
        programmed = Condition("Programmed", "True", "Programmed", "")
    return (acceptance, programmed)


def listener_statuses(planned: GatewayPlan) -> tuple[ListenerStatus, ...]:
    """In the order of the Gateway."""
    return tuple(
        ListenerStatus(each.name, each.checked.supported, each.attached, _listener_conditions(each))
        for each in planned.listeners
    )


def _listener_conditions(planned: PlannedListener) -> tuple[Condition, ...]:
    checked = planned.checked
    conflicted = checked.conflicted or Condition("Conflicted", "False", "NoConflicts", "")
    resolved = checked.unresolved or Condition("ResolvedRefs", "True", "ResolvedRefs", "")
    acceptance = checked.not_accepted or accepted()
    if checked.conflicted is not None and checked.not_accepted is None:
        acceptance = refused(conflicted.reason, conflicted.message)
    programmed = Condition("Programmed", "True", "Programmed", "")
    if not checked.can_serve:
        why = next(one for one in (checked.not_accepted, checked.conflicted, checked.unresolved) if one is not None)
        programmed = Condition("Programmed", "False", "Invalid", why.message)
    return (acceptance, programmed, resolved, conflicted)


def route_parents(plan: Plan) -> dict[str, tuple[ParentEntry, ...]]:
    """Our entries of `HTTPRoute.status.parents`, by route. A route that is not in here has none."""
    found: dict[str, list[ParentEntry]] = {}
    for each in plan.attachments:
        conditions = (each.accepted, each.resolved, *((each.partly,) if each.partly is not None else ()))
        found.setdefault(each.route.full_name, []).append(ParentEntry(_reference(each.parent), conditions))
    return {name: tuple(entries) for name, entries in found.items()}


def pool_parents(plan: Plan) -> dict[str, tuple[ParentEntry, ...]]:
    """Our entries of `InferencePool.status.parents`, by pool: one for each Gateway that has a route to it."""
    reached: dict[tuple[str, str], tuple[PoolTarget, bool]] = {}
    for each in plan.attachments:
        for pool in each.pools:
            _, before = reached.get((pool.pool, each.gateway), (pool, False))
            reached[pool.pool, each.gateway] = (pool, before or each.accepted.status == "True")
    found: dict[str, list[ParentEntry]] = {}
    for (name, gateway), (pool, is_accepted) in sorted(reached.items(), key=lambda pair: pair[0]):
        found.setdefault(name, []).append(ParentEntry(_gateway_reference(gateway), _pool_conditions(pool, is_accepted)))
    return {name: tuple(entries) for name, entries in found.items()}


def _pool_conditions(pool: PoolTarget, is_accepted: bool) -> tuple[Condition, ...]:
    message = "no HTTPRoute that refers to this pool is accepted by the Gateway"
    acceptance = accepted() if is_accepted else refused("HTTPRouteNotAccepted", message)
    if isinstance(pool.picker, Unresolved):
        return (acceptance, Condition("ResolvedRefs", "False", pool.picker.reason, pool.picker.message))
    return (acceptance, Condition("ResolvedRefs", "True", "ResolvedRefs", ""))


def _reference(parent: ParentRef) -> Mapping[str, Any]:
    """As it is in the route, with its defaults."""
    whole = {
        "group": parent.group,
        "kind": parent.kind,
        "namespace": parent.namespace,
        "name": parent.name,
        "sectionName": parent.section_name,
        "port": parent.port,
    }
    return {key: value for key, value in whole.items() if value is not None}


def _gateway_reference(name: str) -> Mapping[str, Any]:
    namespace, _, own = name.partition("/")
    return {"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": namespace, "name": own}
