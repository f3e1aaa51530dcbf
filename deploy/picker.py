"""The picker behind somebody else's gateway: one `stellwerk epp` per InferencePool, in the pool's namespace."""

from typing import Any

from deploy.pods import COMMON_LABELS, TO_API_SERVER, binding, manifest, options, pod_spec
from deploy.value import Either, Needed, Object, Sum, Value, text, value
from stellwerk.control.fields import POOL_GROUP
from stellwerk.control.gateway.permissions import LEASE, RBAC_GROUP, rules
from stellwerk.control.kube.permissions import PICKER, REVIEWS

NAME = value("name")
CLUSTER_NAME = Value("Release.Namespace", ("Values.name",))
"""Of what belongs to the whole cluster."""
SELECTOR: Object = {"app.kubernetes.io/name": "stellwerk-epp", "app.kubernetes.io/instance": NAME}
LABELS: Object = {**SELECTOR, **COMMON_LABELS}
SERVERS = Needed(
    "Values.pool.matchLabels",
    "pool.matchLabels is empty: give labels of the model servers' Pods, like --set pool.matchLabels.app=llama",
)
"""The pool selects these Pods, and the picker may reach no others. No default: Helm would add what is given to it."""
GROUP = value("pool.group")
GRACE = Sum("Values.drainSeconds", 2, 15)
"""The drain timeout bounds twice: how long requests are still taken, and how long the last ones run on."""
_RBAC = f"{RBAC_GROUP}/v1"
_PORTS = {"grpc-ext-proc": 9002, "grpc-health": 9003, "metrics": 9090}
_CONFIG = "/etc/stellwerk"


def rights() -> list[Object]:
    """In the pool's namespace."""
    return [
        manifest("v1", "ServiceAccount", NAME, LABELS),
        manifest(_RBAC, "Role", NAME, LABELS, rules=[_of_the_pools_group(rule) for rule in rules(PICKER)]),
        binding("RoleBinding", NAME, ("Role", NAME), NAME, LABELS),
    ]


def _of_the_pools_group(rule: Object) -> Object:
    """Pools of one group are read, and which one that is, the picker is told."""
    return {**rule, "apiGroups": [GROUP]} if rule["resources"] == ["inferencepools"] else rule


def election() -> list[Object]:
    """What leader election needs beyond that."""
    name = Value("Values.name", suffix="-lease")
    return [
        manifest(_RBAC, "Role", name, LABELS, rules=rules(LEASE)),
        binding("RoleBinding", name, ("Role", name), NAME, LABELS),
    ]


def reviews() -> list[Object]:
    """To ask who reads its metrics."""
    return [
        manifest(_RBAC, "ClusterRole", CLUSTER_NAME, LABELS, namespace=None, rules=rules(REVIEWS)),
        binding("ClusterRoleBinding", CLUSTER_NAME, ("ClusterRole", CLUSTER_NAME), NAME, LABELS),
    ]


def pool() -> list[Object]:
    """The pool that names the picker."""
    spec = {
        "selector": {"matchLabels": SERVERS},
        "targetPorts": value("pool.targetPorts"),
        "endpointPickerRef": {
            "name": NAME,
            "port": {"number": _PORTS["grpc-ext-proc"]},
            "failureMode": value("pool.failureMode"),
        },
    }
    return [manifest(f"{POOL_GROUP}/v1", "InferencePool", value("pool.name"), LABELS, spec=spec)]


def picker() -> list[Object]:
    """The Deployment, and what surrounds it."""
    ports: list[Object] = [{"name": name, "port": port, "targetPort": name} for name, port in _PORTS.items()]
    ports[0]["appProtocol"] = "http2"
    policy = {
        "podSelector": {"matchLabels": SELECTOR},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"protocol": "TCP", "port": port} for port in _PORTS.values()]}],
        "egress": [TO_API_SERVER, {"to": [{"podSelector": {"matchLabels": SERVERS}}]}],
    }
    return [
        manifest("v1", "ConfigMap", NAME, LABELS, data={"picker.yaml": value("pickerConfig")}),
        manifest("apps/v1", "Deployment", NAME, LABELS, spec=_deployment()),
        manifest("v1", "Service", NAME, LABELS, spec={"selector": SELECTOR, "ports": ports}),
        manifest("networking.k8s.io/v1", "NetworkPolicy", NAME, LABELS, spec=policy),
    ]


def budget() -> list[Object]:
    """Not with an election: standbys are never ready, so the leader could not be evicted, and its node not drained."""
    spec = {"maxUnavailable": value("maxUnavailable"), "selector": {"matchLabels": SELECTOR}}
    return [manifest("policy/v1", "PodDisruptionBudget", NAME, LABELS, spec=spec)]


def _deployment() -> Object:
    container: Object = {
        "name": "epp",
        "args": arguments(),
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            options("Values.options"),
        ],
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in _PORTS.items()],
        "readinessProbe": _probe("readiness", 2),
        "livenessProbe": {**_probe("liveness", 10), "initialDelaySeconds": 10},
        "resources": value("resources"),
        "volumeMounts": [{"name": "config", "mountPath": _CONFIG, "readOnly": True}],
    }
    volumes: list[Object] = [{"name": "config", "configMap": {"name": NAME}}]
    return {
        "replicas": value("replicas"),
        "selector": {"matchLabels": SELECTOR},
        # A rolling update would wait for a standby to be ready before it takes the leader down.
        "strategy": Either("Values.leaderElection", {"type": "Recreate"}, "Values.rollout"),
        "template": {
            "metadata": {"labels": LABELS, "annotations": value("podAnnotations")},
            "spec": pod_spec(NAME, SELECTOR, "", container, volumes, GRACE),
        },
    }


def arguments() -> list[Any]:
    """Of the container."""
    return [
        "epp",
        "--pool-name",
        value("pool.name"),
        "--pool-group",
        GROUP,
        "--config",
        f"{_CONFIG}/picker.yaml",
        "--ha-enable-leader-election",
        text("leaderElection"),
        "--metrics-endpoint-auth",
        text("metrics.auth"),
        "--drain-timeout",
        text("drainSeconds"),
        "--log-level",
        value("logLevel"),
        "--log-format",
        "json",
    ]


def _probe(service: str, seconds: int) -> Object:
    """Kubernetes asks by gRPC, without TLS."""
    asked = {"port": _PORTS["grpc-health"], "service": service}
    return {"grpc": asked, "periodSeconds": seconds, "timeoutSeconds": 3}


def monitoring() -> list[Object]:
    """Prometheus shows the token of an account that may read metrics and nothing else."""
    account = Value("Values.name", suffix="-metrics")
    token = {"kubernetes.io/service-account.name": account}
    secret = manifest("v1", "Secret", account, LABELS, type="kubernetes.io/service-account-token")
    secret["metadata"]["annotations"] = token
    scraped = {
        "port": "metrics",
        "path": "/metrics",
        "interval": value("monitoring.interval"),
        "authorization": {"credentials": {"name": account, "key": "token"}},
    }
    reader = Value("Release.Namespace", ("Values.name",), "-metrics")
    rule = {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
    monitor = manifest("monitoring.coreos.com/v1", "ServiceMonitor", NAME, {})
    monitor["metadata"]["labels"] = value("monitoring.labels")
    return [
        manifest("v1", "ServiceAccount", account, LABELS),
        secret,
        manifest(_RBAC, "ClusterRole", reader, LABELS, namespace=None, rules=[rule]),
        binding("ClusterRoleBinding", reader, ("ClusterRole", reader), account, LABELS),
        {**monitor, "spec": {"selector": {"matchLabels": SELECTOR}, "endpoints": [scraped]}},
    ]
