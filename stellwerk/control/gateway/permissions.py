"""Every verb on every resource that the controller and the gateway pods use: the source of the shipped RBAC rules.

One list per process; a test compares them with `deploy/`, and with what the API server's audit log says was used.
Whoever adds a call to the API server adds its verb here. Objects are created by server-side apply: the API server wants
`create` and `patch` for it, and its audit log calls both `patch`. `get` of what has a status is for a second try after
a conflict; `bind` is never a request.
"""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from stellwerk.control.fields import LEGACY_GROUP, POOL_GROUP, ROUTER_GROUP
from stellwerk.control.gateway.kinds import GATEWAY_GROUP

RBAC_GROUP = "rbac.authorization.k8s.io"
GATEWAY_ROLE = "stellwerk-gateway"
"""ClusterRole of every gateway pod (`GATEWAY`), and the binding that the controller adds their accounts to."""
GATEWAY_CLUSTER_ROLE = "stellwerk-gateway-cluster"
"""The same for its cluster-wide part only, where the controller is kept to some namespaces."""


class Grant(Struct, frozen=True):
    """Verbs on resources of one group; with `names` only on objects called that."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()
    is_cluster_wide: bool = False
    """Whether a Role of one namespace cannot give it."""


_ROLES = (GATEWAY_ROLE, GATEWAY_CLUSTER_ROLE)
_READ = ("list", "watch")
_KEEP = ("get", "list", "watch", "create", "patch", "delete")
"""`get` is to see whose an object is that has a name of ours."""

ROUTING = (
    Grant(GATEWAY_GROUP, ("gatewayclasses",), _READ, is_cluster_wide=True),
    Grant("", ("namespaces",), _READ, is_cluster_wide=True),
    Grant(GATEWAY_GROUP, ("gateways", "httproutes", "referencegrants"), _READ),
    Grant(POOL_GROUP, ("inferencepools",), _READ),
    Grant(LEGACY_GROUP, ("inferencemodels", "inferenceobjectives", "inferencemodelrewrites"), _READ),
    Grant(ROUTER_GROUP, ("inferenceobjectives", "inferencemodelrewrites"), _READ),
    Grant("", ("services",), _READ),
)
"""What both read to know which route leads where."""

CONTROLLER = (
    *ROUTING,
    # What models of the June 2025 API may refer to.
    Grant(LEGACY_GROUP, ("inferencepools",), _READ),
    # Parameters of classes and Gateways, and certificates: each watched by its name.
    Grant("", ("configmaps", "secrets"), _READ),
    Grant(GATEWAY_GROUP, ("gatewayclasses",), ("get",), is_cluster_wide=True),
    Grant(GATEWAY_GROUP, ("gatewayclasses/status",), ("patch",), is_cluster_wide=True),
    Grant(GATEWAY_GROUP, ("gateways", "httproutes"), ("get",)),
    Grant(GATEWAY_GROUP, ("gateways/status", "httproutes/status"), ("patch",)),
    Grant(POOL_GROUP, ("inferencepools",), ("get",)),
    Grant(POOL_GROUP, ("inferencepools/status",), ("patch",)),
    Grant(
        LEGACY_GROUP,
        (
            "inferencemodels/status",
            "inferenceobjectives/status",
            "inferencemodelrewrites/status",
        ),
        ("patch",),
    ),
    Grant(LEGACY_GROUP, ("inferencemodels", "inferenceobjectives", "inferencemodelrewrites"), ("get",)),
    Grant(ROUTER_GROUP, ("inferenceobjectives/status", "inferencemodelrewrites/status"), ("patch",)),
    Grant(ROUTER_GROUP, ("inferenceobjectives", "inferencemodelrewrites"), ("get",)),
    # What a Gateway runs on.
    Grant("apps", ("deployments",), _KEEP),
    Grant("", ("services", "serviceaccounts"), _KEEP),
    Grant("policy", ("poddisruptionbudgets",), _KEEP),
    # Leave for a Gateway's pods to read its Secrets. Nobody can give more than they have: see `secrets` above.
    Grant(RBAC_GROUP, ("roles", "rolebindings"), _KEEP),
    Grant(RBAC_GROUP, ("clusterroles",), ("bind",), names=_ROLES, is_cluster_wide=True),
    Grant(
        RBAC_GROUP, ("clusterrolebindings",), ("list", "watch", "create", "patch"), names=_ROLES, is_cluster_wide=True
    ),
)
"""`stellwerk controller`, without its lease."""

GATEWAY = (
    *ROUTING,
    Grant("", ("pods",), _READ),
    Grant("discovery.k8s.io", ("endpointslices",), _READ),
)
"""`stellwerk gateway`. Its Secrets come with a Role per Gateway, by name."""

GATEWAY_CLUSTER = tuple(grant for grant in GATEWAY if grant.is_cluster_wide)
"""The part of `GATEWAY` that no Role of a namespace can give."""

LEASE = (Grant("coordination.k8s.io", ("leases",), ("get", "create", "update")),)
"""Leader election, in the process's own namespace."""


def rules(grants: Iterable[Grant]) -> list[dict[str, Any]]:
    """As `rules` of a Role or ClusterRole."""
    made = []
    for grant in grants:
        rule: dict[str, Any] = {
            "apiGroups": [grant.group],
            "resources": list(grant.resources),
            "verbs": list(grant.verbs),
        }
        if grant.names:
            rule["resourceNames"] = list(grant.names)
        made.append(rule)
    return made
