"""Every verb on every resource that `stellwerk epp` uses in a cluster: the source of its shipped RBAC rules.

Whoever adds a call to the API server adds its verb here. With leader election it needs `gateway.permissions.LEASE` too.
"""

from stellwerk.control.fields import POOL_GROUP
from stellwerk.control.gateway.permissions import Grant
from stellwerk.control.kube.resource import ACCESS_REVIEWS, PODS, POLICY_RESOURCES, TOKEN_REVIEWS

_READ = ("list", "watch")

PICKER = (
    Grant(PODS.group, (PODS.plural,), _READ),
    Grant(POOL_GROUP, ("inferencepools",), _READ),
    *(Grant(resource.group, (resource.plural,), _READ) for resource in POLICY_RESOURCES),
)
"""In the namespace of its pool."""

REVIEWS = tuple(
    Grant(resource.group, (resource.plural,), ("create",), is_cluster_wide=True)
    for resource in (TOKEN_REVIEWS, ACCESS_REVIEWS)
)
"""To know who reads its metrics; not with --metrics-endpoint-auth=false."""
