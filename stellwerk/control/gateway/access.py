"""Leave to read for gateway pods: the routing objects for all of them, the Secrets of its listeners for each one.

Every pod of a Gateway runs as that Gateway's ServiceAccount. What all may read stands in one ClusterRole that comes
with the installation; the controller adds accounts to its binding, and cannot change the role.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from stellwerk.control.gateway.permissions import GATEWAY_CLUSTER_ROLE, GATEWAY_ROLE, RBAC_GROUP
from stellwerk.control.gateway.resources import MANAGED_BY, MANAGER

Object = dict[str, Any]
Account = tuple[str, str]
"""Namespace and name of a ServiceAccount."""


def secret_access(account: Account, role: str, secrets: Sequence[str]) -> dict[str, Object]:
    """What a Role and RoleBinding, both called `role`, hold so that `account` may read `secrets` of their namespace."""
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": list(secrets), "verbs": ["list", "watch"]}
    reference = {"apiGroup": RBAC_GROUP, "kind": "Role", "name": role}
    return {"Role": {"rules": [rule]}, "RoleBinding": {"roleRef": reference, "subjects": _subjects([account])}}


def bindings(accounts: Iterable[Account], namespaces: Iterable[str] = ()) -> tuple[Object, ...]:
    """The bindings by which `accounts` may read routing objects: everywhere, or only in `namespaces`."""
    subjects = _subjects(accounts)
    within = sorted(set(namespaces))
    if not within:
        return (_binding("ClusterRoleBinding", GATEWAY_ROLE, subjects),)
    local = [_binding("RoleBinding", GATEWAY_ROLE, subjects, namespace) for namespace in within]
    return (*local, _binding("ClusterRoleBinding", GATEWAY_CLUSTER_ROLE, subjects))


def _binding(kind: str, role: str, subjects: list[Object], namespace: str = "") -> Object:
    metadata: Object = {"name": role, "labels": {MANAGED_BY: MANAGER}}
    if namespace:
        metadata["namespace"] = namespace
    reference = {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": role}
    version = f"{RBAC_GROUP}/v1"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "roleRef": reference, "subjects": subjects}


def _subjects(accounts: Iterable[Account]) -> list[Object]:
    return [
        {"kind": "ServiceAccount", "namespace": namespace, "name": name} for namespace, name in sorted(set(accounts))
    ]
