"""Own gateway: the controller, its rights, and a GatewayClass. The controller makes everything else, per Gateway."""

from typing import Any

from deploy.pods import COMMON_LABELS, TO_API_SERVER, binding, manifest, options, pod_spec
from deploy.value import NAMESPACE, Object, text, value
from stellwerk.control.fields import LEGACY_GROUP, ROUTER_GROUP
from stellwerk.control.gateway.deployment import APP
from stellwerk.control.gateway.kinds import GATEWAY_GROUP
from stellwerk.control.gateway.permissions import (
    CONTROLLER,
    GATEWAY,
    GATEWAY_CLUSTER,
    GATEWAY_CLUSTER_ROLE,
    GATEWAY_ROLE,
    LEASE,
    RBAC_GROUP,
    rules,
)

NAME = "stellwerk-controller"
EDITOR = "stellwerk-model-editor"
CONTROLLER_NAME = "stellwerk.dev/gateway-controller"
SELECTOR: Object = {"app.kubernetes.io/name": NAME}
LABELS: Object = {**SELECTOR, **COMMON_LABELS}
GRACE_SECONDS = 30
"""It has nothing to drain, and gives its Lease back at once."""
_ADMIN = 9090
_RBAC = f"{RBAC_GROUP}/v1"


def rights() -> list[Object]:
    """What the code says that it uses (`control.gateway.permissions`), and nothing else."""
    return [
        manifest("v1", "ServiceAccount", NAME, LABELS),
        manifest(_RBAC, "ClusterRole", NAME, LABELS, namespace=None, rules=rules(CONTROLLER)),
        binding("ClusterRoleBinding", NAME, ("ClusterRole", NAME), NAME, LABELS),
        manifest(_RBAC, "Role", NAME, LABELS, rules=rules(LEASE)),
        binding("RoleBinding", NAME, ("Role", NAME), NAME, LABELS),
        # Of gateway pods: the controller binds them, and cannot change them.
        manifest(_RBAC, "ClusterRole", GATEWAY_ROLE, LABELS, namespace=None, rules=rules(GATEWAY)),
        manifest(_RBAC, "ClusterRole", GATEWAY_CLUSTER_ROLE, LABELS, namespace=None, rules=rules(GATEWAY_CLUSTER)),
        # For people: bind it in the namespaces whose models they look after.
        manifest(_RBAC, "ClusterRole", EDITOR, LABELS, namespace=None, rules=editor_rules()),
    ]


def editor_rules() -> list[Object]:
    """Models, objectives and rewrites, and no pools."""
    kinds = ["inferenceobjectives", "inferencemodelrewrites"]
    verbs = ["get", "list", "watch", "create", "update", "patch", "delete"]
    return [
        {"apiGroups": [LEGACY_GROUP], "resources": ["inferencemodels", *kinds], "verbs": verbs},
        {"apiGroups": [ROUTER_GROUP], "resources": kinds, "verbs": verbs},
    ]


def controller() -> list[Object]:
    """The Deployment, and what surrounds it."""
    policy = {
        "podSelector": {"matchLabels": SELECTOR},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"protocol": "TCP", "port": _ADMIN}]}],
        "egress": [TO_API_SERVER],
    }
    budget = {"maxUnavailable": value("controller.maxUnavailable"), "selector": {"matchLabels": SELECTOR}}
    service = {"selector": SELECTOR, "ports": [{"name": "admin", "port": _ADMIN, "targetPort": "admin"}]}
    return [
        manifest("apps/v1", "Deployment", NAME, LABELS, spec=_deployment()),
        manifest("v1", "Service", NAME, LABELS, spec=service),
        manifest("policy/v1", "PodDisruptionBudget", NAME, LABELS, spec=budget),
        manifest("networking.k8s.io/v1", "NetworkPolicy", NAME, LABELS, spec=policy),
    ]


def _deployment() -> Object:
    container: Object = {
        "name": "controller",
        "args": arguments(),
        "env": [options("Values.controller.options")],
        "ports": [{"name": "admin", "containerPort": _ADMIN, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}, "periodSeconds": 5, "timeoutSeconds": 3},
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "admin"},
            "initialDelaySeconds": 10,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
        },
        "resources": value("controller.resources"),
    }
    return {
        "replicas": value("controller.replicas"),
        "selector": {"matchLabels": SELECTOR},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {"labels": LABELS, "annotations": value("controller.podAnnotations")},
            "spec": pod_spec(NAME, SELECTOR, "controller.", container, [], GRACE_SECONDS),
        },
    }


def arguments() -> list[Any]:
    """Of the container."""
    return [
        "controller",
        "--admin",
        f"0.0.0.0:{_ADMIN}",
        "--controller-name",
        CONTROLLER_NAME,
        "--gateway-image",
        value("image"),
        "--log-level",
        value("controller.logLevel"),
        "--log-format",
        "json",
    ]


def gateway_class() -> list[Object]:
    """The class that Gateways name, and what they run with."""
    name = value("gatewayClass.name")
    data = {
        "image": value("image"),
        "replicas": text("gatewayClass.replicas"),
        "serviceType": value("gatewayClass.serviceType"),
        "resources": value("gatewayClass.resources"),
        "externalTrafficPolicy": value("gatewayClass.externalTrafficPolicy"),
        "pickerBodyMode": value("gatewayClass.pickerBodyMode"),
        "pickerConfig": value("gatewayClass.pickerConfig"),
    }
    reference = {"group": "", "kind": "ConfigMap", "name": name, "namespace": NAMESPACE}
    spec = {"controllerName": CONTROLLER_NAME, "parametersRef": reference}
    return [
        manifest("v1", "ConfigMap", name, LABELS, data=data),
        manifest(f"{GATEWAY_GROUP}/v1", "GatewayClass", name, LABELS, namespace=None, spec=spec),
    ]


def monitoring() -> list[Object]:
    """Of the controller, and of the gateway pods of all Gateways."""
    scraped = {"port": "admin", "path": "/metrics", "interval": value("monitoring.interval")}
    version, labels = "monitoring.coreos.com/v1", value("monitoring.labels")
    monitor = {"selector": {"matchLabels": SELECTOR}, "endpoints": [scraped]}
    pods = {
        "selector": {"matchLabels": APP},
        "namespaceSelector": {"any": True},
        "podTargetLabels": [f"{GATEWAY_GROUP}/gateway-name"],
        "podMetricsEndpoints": [scraped],
    }
    return [
        {**manifest(version, kind, name, {}, spec=spec), "metadata": _labelled(name, labels)}
        for kind, name, spec in (("ServiceMonitor", NAME, monitor), ("PodMonitor", "stellwerk-gateway", pods))
    ]


def _labelled(name: object, labels: object) -> Object:
    return {"name": name, "namespace": NAMESPACE, "labels": labels}
