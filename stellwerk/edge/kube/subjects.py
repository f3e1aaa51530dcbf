"""What the controller follows at large, and what it keeps of each kind. Single objects it names as it goes."""

from collections.abc import Sequence

from stellwerk.control.gateway import kept
from stellwerk.control.gateway.permissions import GATEWAY_CLUSTER_ROLE, GATEWAY_ROLE
from stellwerk.control.gateway.resources import (
    CLUSTER_ROLE_BINDINGS,
    GATEWAY_CLASSES,
    GATEWAYS,
    HTTP_ROUTES,
    MANAGED_BY,
    MANAGER,
    REFERENCE_GRANTS,
    WORKLOAD,
)
from stellwerk.control.kube.resource import NAMESPACES, OLD_POOLS, POLICY_RESOURCES, POOLS, SERVICES
from stellwerk.edge.kube.copies import Copies


def follow_all(copies: Copies, namespaces: Sequence[str]) -> None:
    """In `namespaces`, or all. Neither Pods nor EndpointSlices: no status depends on them, and they change most."""
    copies.follow(GATEWAY_CLASSES, (), kept.with_status)
    copies.follow(NAMESPACES, (), kept.labels_only)
    for resource in (GATEWAYS, HTTP_ROUTES):
        copies.follow(resource, namespaces, kept.with_status)
    copies.follow(REFERENCE_GRANTS, namespaces)
    copies.follow(SERVICES, namespaces, kept.service)
    for resource in (POOLS, OLD_POOLS, *POLICY_RESOURCES):
        copies.follow(resource, namespaces, kept.with_status, is_optional=True)
    for resource in WORKLOAD:
        if resource != SERVICES:
            copies.follow(resource, namespaces, kept.deployment, f"{MANAGED_BY}={MANAGER}")
    role = GATEWAY_CLUSTER_ROLE if namespaces else GATEWAY_ROLE
    copies.name(CLUSTER_ROLE_BINDINGS, [("", role)], kept.with_status)
