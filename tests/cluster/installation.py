"""Installs this checkout's controller into a test cluster, with a GatewayClass for the suites."""

from collections.abc import Mapping

from stellwerk.control.crds import definitions
from stellwerk.control.gateway.kinds import GATEWAY_GROUP
from stellwerk.control.gateway.permissions import CONTROLLER as CONTROLLER_GRANTS
from stellwerk.control.gateway.permissions import GATEWAY, GATEWAY_ROLE, LEASE, RBAC_GROUP, rules
from tests.cluster.api import Document
from tests.cluster.cluster import Cluster

CLASS_NAME = "stellwerk"
NAME = "stellwerk-controller"
NAMESPACE = "stellwerk-system"
CONTROLLER = "stellwerk.dev/gateway-controller"


def install(cluster: Cluster, parameters: Mapping[str, str]) -> None:
    """Our definitions, the controller, ready, and a class; its parameters are kept in a ConfigMap as users would."""
    cluster.apply(*definitions())
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    cluster.apply(*_roles(), *_controller())
    cluster.apply(*_class(parameters))
    cluster.wait_for_deployment(NAME, NAMESPACE)


def _class(parameters: Mapping[str, str]) -> list[Document]:
    reference = {"group": "", "kind": "ConfigMap", "name": CLASS_NAME, "namespace": NAMESPACE}
    metadata = {"name": CLASS_NAME, "namespace": NAMESPACE}
    spec = {"controllerName": CONTROLLER, "parametersRef": reference}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(parameters)},
        {
            "apiVersion": f"{GATEWAY_GROUP}/v1",
            "kind": "GatewayClass",
            "metadata": {"name": CLASS_NAME},
            "spec": spec,
        },
    ]


def _roles() -> list[Document]:
    """As shipped: what the code says it uses, and nothing else."""
    group = f"{RBAC_GROUP}/v1"
    subjects = [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]
    place = {"name": NAME, "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place},
        {"apiVersion": group, "kind": "ClusterRole", "metadata": {"name": GATEWAY_ROLE}, "rules": rules(GATEWAY)},
        {"apiVersion": group, "kind": "ClusterRole", "metadata": {"name": NAME}, "rules": rules(CONTROLLER_GRANTS)},
        {"apiVersion": group, "kind": "Role", "metadata": place, "rules": rules(LEASE)},
        {
            "apiVersion": group,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": NAME},
            "roleRef": {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": NAME},
            "subjects": subjects,
        },
        {
            "apiVersion": group,
            "kind": "RoleBinding",
            "metadata": place,
            "roleRef": {"apiGroup": RBAC_GROUP, "kind": "Role", "name": NAME},
            "subjects": subjects,
        },
    ]


def _controller() -> list[Document]:
    labels = {"app": NAME}
    container = {
        "name": "controller",
        "image": "stellwerk:latest",
        "args": ["controller", "--admin", "0.0.0.0:9090"],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 9090}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"serviceAccountName": NAME, "containers": [container]}}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        }
    ]
