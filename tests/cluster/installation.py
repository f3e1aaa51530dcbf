"""Installs this checkout's controller into a test cluster, with a GatewayClass for the suites."""

from collections.abc import Mapping
from typing import Any

from tests.cluster.cluster import Cluster

CLASS_NAME = "stellwerk"
NAMESPACE = "stellwerk-system"
_CONTROLLER = "stellwerk.dev/gateway-controller"
_RBAC = "rbac.authorization.k8s.io"


def install(cluster: Cluster, parameters: Mapping[str, str]) -> None:
    """The controller, ready, and a class; `parameters` of the class are kept in a ConfigMap as users would."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    cluster.apply(*_controller())
    cluster.apply(*_class(parameters))
    cluster.wait_for_deployment("stellwerk-controller", NAMESPACE)


def _class(parameters: Mapping[str, str]) -> list[dict[str, Any]]:
    reference = {"group": "", "kind": "ConfigMap", "name": CLASS_NAME, "namespace": NAMESPACE}
    spec: dict[str, Any] = {"controllerName": _CONTROLLER, "parametersRef": reference}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CLASS_NAME, "namespace": NAMESPACE},
            "data": dict(parameters),
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": CLASS_NAME},
            "spec": spec,
        },
    ]


def _controller() -> list[dict[str, Any]]:
    name = {"name": "stellwerk-controller", "namespace": NAMESPACE}
    labels = {"app": "stellwerk-controller"}
    role = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "cluster-admin"}
    container = {"name": "controller", "image": "stellwerk:latest", "args": ["controller"]}
    spec = {"serviceAccountName": name["name"], "containers": [container]}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "stellwerk-controller"},
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", **name}],
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": name,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        },
    ]
