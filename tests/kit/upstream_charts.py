"""How upstream's charts start the Go picker: the arguments, environment and probes that they render, with default
values unless said. Facts, read from Helm's output for a release `llama` in namespace `serving`.

The charts set no command: what runs is the image's entry point, with these arguments.
"""

from typing import Any, NamedTuple

POOL = ("--pool-name", "llama", "--pool-namespace", "serving")
GROUP = ("--pool-group", "inference.networking.k8s.io")
PODS = ("--endpoint-selector", "app=llama", "--endpoint-target-ports", "8000")
CONFIG = ("--zap-encoder", "json", "--config-file", "/config/default-plugins.yaml")
ELECTION = ("--ha-enable-leader-election",)
HEALTH = ("--grpc-health-port", "9003")
NAMED = ("NAMESPACE", "POD_NAME")


class Started(NamedTuple):
    """One rendering."""

    chart: str
    arguments: tuple[str, ...]
    variables: tuple[str, ...] = NAMED
    """What the environment is given of the Pod."""
    probes: tuple[str, str] = ("inference-extension", "inference-extension")
    """Health services that liveness and readiness ask for, on port 9003."""

    @property
    def elects(self) -> bool:
        """Whether one of several replicas is to serve."""
        return ELECTION[0] in self.arguments

    @property
    def environment(self) -> dict[str, str]:
        """As the Pod has it."""
        return {name: {"NAMESPACE": "serving", "POD_NAME": "llama-epp-5d8f9c-x7k2p"}[name] for name in self.variables}


_REPLICAS = ("liveness", "readiness")
STARTED = (
    Started("inferencepool 1.0", (*POOL, *CONFIG, "--v", "1"), ()),
    Started("inferencepool 1.0, leader election", (*POOL, *CONFIG, "--v", "1"), (), _REPLICAS),
    Started(
        "inferencepool 1.1",
        (*POOL, *GROUP, *CONFIG, "--v", "1", "--tracing", "false", "--metrics-endpoint-auth=false"),
        ("NAMESPACE",),
    ),
    Started(
        "inferencepool 1.1, three replicas",
        (*POOL, *GROUP, *CONFIG, *ELECTION, "--v", "1", "--tracing", "false", "--metrics-endpoint-auth=false"),
        ("NAMESPACE",),
        _REPLICAS,
    ),
    Started(
        "inferencepool 1.2", (*POOL, *GROUP, *CONFIG, "--v", "1", "--tracing=false", "--metrics-endpoint-auth=false")
    ),
    Started("inferencepool 1.3 to 1.5", (*POOL, *GROUP, *CONFIG, "--v", "1", "--tracing=false")),
    Started(
        "inferencepool 1.3 to 1.5, three replicas",
        (*POOL, *GROUP, *CONFIG, *ELECTION, "--v", "1", "--tracing=false"),
        probes=_REPLICAS,
    ),
    Started("llm-d-router-gateway 0.9 and 0.10", (*POOL, *GROUP, *CONFIG, *HEALTH, "--tracing=false")),
    Started(
        "llm-d-router-gateway 0.9 and 0.10, two replicas",
        (*POOL, *GROUP, *CONFIG, *ELECTION, *HEALTH, "--tracing=false"),
        probes=_REPLICAS,
    ),
    Started("llm-d-router-standalone 0.9 and 0.10", (*PODS, *CONFIG, *HEALTH, "--tracing=false")),
    Started(
        "llm-d-router-standalone 0.9 and 0.10, two replicas",
        (*PODS, *CONFIG, *ELECTION, *HEALTH, "--tracing=false"),
        probes=_REPLICAS,
    ),
)
"""What the picker takes as it is."""

_TRITON = ("--total-queued-requests-metric", "nv_trt_llm_request_metrics{request_type=waiting}")
_SGLANG = ('--total-queued-requests-metric="sglang:num_queue_reqs"',)
REFUSED = (
    Started("inferencepool 1.0, Triton", (*POOL, *CONFIG, "--v", "1", *_TRITON), ()),
    Started("inferencepool 1.1 to 1.5, Triton", (*POOL, *GROUP, *_TRITON, *CONFIG, "--v", "1", "--tracing=false")),
    Started("inferencepool 1.4 and 1.5, SGLang", (*POOL, *GROUP, *_SGLANG, *CONFIG, "--v", "1", "--tracing=false")),
    Started("llm-d-router-gateway 0.10, traced", (*POOL, *GROUP, *CONFIG, *HEALTH, "--tracing=true")),
)
"""What it refuses, with a word on what to do: values of these charts that name metrics or ask for spans."""


def deployment(started: Started, image: str, namespace: str) -> list[dict[str, Any]]:
    """The picker as the chart has it, with no other rights and nothing but its flags, for the pool in `namespace`."""
    name, group = "upstream-epp", "rbac.authorization.k8s.io"
    read = ["get", "watch", "list"]
    policies = ["inferenceobjectives", "inferencemodelrewrites"]
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": read},
        {"apiGroups": ["inference.networking.k8s.io"], "resources": ["inferencepools"], "verbs": read},
        {"apiGroups": ["inference.networking.x-k8s.io", "llm-d.ai"], "resources": policies, "verbs": read},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": [*read, "create", "update", "patch"]},
    ]
    plugins = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- type: queue-scorer\n"
    fields = {"NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name"}
    liveness, readiness = ({"grpc": {"port": 9003, "service": service}} for service in started.probes)
    container = {
        "name": "epp",
        "image": image,
        "args": [each if each != "serving" else namespace for each in started.arguments],
        "env": [{"name": one, "valueFrom": {"fieldRef": {"fieldPath": fields[one]}}} for one in started.variables],
        "livenessProbe": {**liveness, "initialDelaySeconds": 5, "periodSeconds": 10},
        "readinessProbe": {**readiness, "periodSeconds": 2},
        "volumeMounts": [{"name": "plugins-config-volume", "mountPath": "/config"}],
    }
    spec = {
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": 130,
        "containers": [container],
        "volumes": [{"name": "plugins-config-volume", "configMap": {"name": name}}],
    }
    workload = {
        "replicas": 2 if started.elects else 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
    }
    role = {"apiGroup": group, "kind": "Role", "name": name}
    account = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    metadata = {"name": name, "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": role,
            "subjects": [account],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"default-plugins.yaml": plugins}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": workload},
    ]
