"""The kinds of the Gateway API, and those that a Gateway's workload is made of, as the edge asks for them."""

from stellwerk.control.gateway.kinds import GATEWAY_GROUP
from stellwerk.control.kube.resource import DEPLOYMENTS, SERVICES, Resource

MANAGED_BY, MANAGER = "app.kubernetes.io/managed-by", "stellwerk-controller"
"""The label that everything has which the controller makes, and by which it is found again."""

GATEWAY_CLASSES = Resource(GATEWAY_GROUP, "v1", "gatewayclasses", "GatewayClass", namespaced=False)
GATEWAYS = Resource(GATEWAY_GROUP, "v1", "gateways", "Gateway")
HTTP_ROUTES = Resource(GATEWAY_GROUP, "v1", "httproutes", "HTTPRoute")
REFERENCE_GRANTS = Resource(GATEWAY_GROUP, "v1beta1", "referencegrants", "ReferenceGrant")

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLE_BINDINGS = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)

WORKLOAD = (SERVICE_ACCOUNTS, ROLES, ROLE_BINDINGS, SERVICES, DISRUPTION_BUDGETS, DEPLOYMENTS)
"""What the controller keeps for a Gateway, in the order in which it is made: pods last, when all they need is there."""
