"""What a Gateway runs on: the objects that the controller keeps for each one, and what it learns from them.

A Deployment of gateway pods (`stellwerk gateway`), a Service in front of it, a ServiceAccount, a budget for
disruptions, and leave to read just the Secrets that its listeners name. Pure: manifests out, observations in.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from stellwerk.control.gateway.access import secret_access
from stellwerk.control.gateway.kinds import GATEWAY_GROUP, Gateway
from stellwerk.control.gateway.parameters import Parameters
from stellwerk.control.gateway.ports import ADMIN_PORT, container_ports
from stellwerk.control.gateway.resources import MANAGED_BY, MANAGER

Object = dict[str, Any]

GATEWAY_NAME = f"{GATEWAY_GROUP}/gateway-name"
"""The label by which the Gateway API lets people find what belongs to a Gateway."""
CLASS_NAME = f"{GATEWAY_GROUP}/gateway-class-name"
GATEWAY_NAMESPACE = "stellwerk.dev/gateway-namespace"
APP = {"app.kubernetes.io/name": "stellwerk-gateway"}
CONTAINER = "gateway"
NOTICE_SECONDS = 5.0
"""A Service's rules take a moment to learn that a pod goes; until then it must not refuse connections."""
ENDING_SECONDS = 15.0
"""For Envoy and the picker to end once requests are drained, or cut off, one after the other."""
_USER = 65532
_MAX_LABEL = 63
_PLAIN = re.compile(r"[a-z][-a-z0-9]{0,62}")

Owner = tuple[str, str]
"""A Gateway, as labels name it: its namespace, and its name as far as that fits."""
NOBODY: Owner = ("", "")


class Defaults(Struct, frozen=True):
    """What holds where neither class nor Gateway says anything."""

    parameters: Parameters = Parameters(
        image="stellwerk:latest",
        service_type="LoadBalancer",
        resources={"requests": {"cpu": "250m", "memory": "512Mi"}},
    )
    arguments: tuple[str, ...] = ()
    """More arguments of `stellwerk gateway`."""
    drain_seconds: float = 30.0
    """How long pods that got these arguments let requests run on."""

    @property
    def grace_seconds(self) -> int:
        """From SIGTERM to SIGKILL: all that a gateway pod may need to leave."""
        return math.ceil(NOTICE_SECONDS + self.drain_seconds + ENDING_SECONDS)


def arguments(controller: str, namespaces: Iterable[str] = ()) -> tuple[str, ...]:
    """What pods are told of their controller: they look for the same classes, in the same places. `namespaces`: only
    these, where they have rights; none: all."""
    return ("--controller-name", controller, *(text for name in namespaces for text in ("--namespace", name)))


def object_name(gateway: Gateway) -> str:
    """`<gateway>-<class>`, as far as a Service may be called that (a DNS label of at most 63 characters) and no other
    Gateway of the namespace comes to the same; else as much of it as fits, and a digest."""
    own, of = gateway.metadata.name, gateway.spec.gateway_class_name
    if _PLAIN.fullmatch(f"{own}-{of}") and "-" not in of:
        return f"{own}-{of}"
    clean = f"{own}-{of}".replace(".", "-")
    clean = clean if clean[0].isalpha() else f"g-{clean}"
    return f"{clean[: _MAX_LABEL - 9].rstrip('-')}-{_digest(f'{own}/{of}')}"


def workload(gateway: Gateway, parameters: Parameters, defaults: Defaults) -> tuple[Object, ...]:
    """Manifests of what there should be for `gateway`, but for `access`."""
    chosen = parameters.over(defaults.parameters)
    name = object_name(gateway)
    return (
        _object(gateway, "v1", "ServiceAccount", name),
        _object(gateway, "apps/v1", "Deployment", name, {"spec": _deployment(gateway, name, chosen, defaults)}),
        _object(gateway, "v1", "Service", name, {"spec": _service(gateway, chosen)}),
        _object(gateway, "policy/v1", "PodDisruptionBudget", name, {"spec": _budget(gateway)}),
    )


def access(gateway: Gateway, secrets: Iterable[tuple[str, str]]) -> tuple[Object, ...]:
    """Manifests that let the account of `gateway` read `secrets` (namespace and name), and no others."""
    name, own = object_name(gateway), gateway.metadata.namespace
    by_namespace: dict[str, list[str]] = {}
    for namespace, secret in sorted(set(secrets)):
        by_namespace.setdefault(namespace, []).append(secret)
    objects = []
    for namespace, names in by_namespace.items():
        # Neither part has a dot: where roles of several namespaces meet, no two are called the same.
        role = f"{name}-secrets" if namespace == own else f"{own}.{name}-secrets"
        for kind, part in secret_access((own, name), role, names).items():
            objects.append(_object(gateway, "rbac.authorization.k8s.io/v1", kind, role, part, namespace))
    return tuple(objects)


def selector(gateway: Gateway) -> dict[str, str]:
    """Labels of the Gateway's pods. They never change: a Deployment's selector cannot."""
    return {**APP, GATEWAY_NAME: _label(gateway.metadata.name)}


def owner_labels(gateway: Gateway) -> Owner:
    """By what `owner_of` knows what belongs to `gateway`."""
    return owner_named(gateway.metadata.namespace, gateway.metadata.name)


def owner_named(namespace: str, name: str) -> Owner:
    """The same for a Gateway of which only the name is known."""
    return namespace, _label(name)


def owner_of(value: Mapping[str, Any]) -> Owner:
    """Whose an object is, by its labels; two empty texts: no Gateway's."""
    labels = value["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) != MANAGER:
        return NOBODY
    return labels.get(GATEWAY_NAMESPACE, ""), labels.get(GATEWAY_NAME, "")


def is_of_class(value: Mapping[str, Any], gateway: Gateway) -> bool:
    """Whether an object was made for `gateway` as one of the class that it has now."""
    labels = value["metadata"].get("labels") or {}
    return owner_of(value) == owner_labels(gateway) and labels.get(CLASS_NAME) == _labels(gateway)[CLASS_NAME]


def _label(text: str) -> str:
    """`text` if it may be a label's value, else as much of it as fits, and a digest of it."""
    return text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 9].rstrip('-.')}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _object(
    gateway: Gateway, version: str, kind: str, name: str, more: Mapping[str, Any] | None = None, namespace: str = ""
) -> Object:
    """With the labels and annotations that the Gateway asks for and our own, owned by the Gateway where it may be."""
    infrastructure, own = gateway.spec.infrastructure, gateway.metadata
    metadata: Object = {
        "name": name,
        "namespace": namespace or own.namespace,
        "labels": {**infrastructure.labels, **_labels(gateway)},
        "annotations": dict(infrastructure.annotations),
    }
    if metadata["namespace"] == own.namespace:
        owner = {"apiVersion": f"{GATEWAY_GROUP}/v1", "kind": "Gateway", "name": own.name, "uid": own.uid}
        metadata["ownerReferences"] = [{**owner, "controller": True}]
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **(more or {})}


def _labels(gateway: Gateway) -> dict[str, str]:
    return {
        **selector(gateway),
        CLASS_NAME: _label(gateway.spec.gateway_class_name),
        GATEWAY_NAMESPACE: gateway.metadata.namespace,
        MANAGED_BY: MANAGER,
    }


def _deployment(gateway: Gateway, name: str, parameters: Parameters, defaults: Defaults) -> Object:
    infrastructure = gateway.spec.infrastructure
    pod: Object = {
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": defaults.grace_seconds,
        # No variables for each Service of the namespace: their names could be those of options.
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(gateway)},
            }
        ],
        "containers": [_container(gateway, parameters, defaults)],
        "volumes": [{"name": "runtime", "emptyDir": {}}],
    }
    spec: Object = {
        "selector": {"matchLabels": selector(gateway)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {
                "labels": {**infrastructure.labels, **_labels(gateway)},
                "annotations": dict(infrastructure.annotations),
            },
            "spec": pod,
        },
    }
    if parameters.replicas is not None:
        spec["replicas"] = parameters.replicas
    return spec


def _container(gateway: Gateway, parameters: Parameters, defaults: Defaults) -> Object:
    """No ports of listeners: a new listener must not restart the pods."""
    name = f"{gateway.metadata.namespace}/{gateway.metadata.name}"
    more = ["--picker-body-mode", parameters.picker_body_mode] if parameters.picker_body_mode else []
    if parameters.picker_config is not None:
        # As `$(NAME)` an argument may name a variable; what is not meant so is doubled.
        more += ["--config-text", parameters.picker_config.replace("$", "$$")]
    container: Object = {
        "name": CONTAINER,
        "image": parameters.image,
        "args": ["gateway", "--gateway", name, "--admin", f"0.0.0.0:{ADMIN_PORT}", *more, *defaults.arguments],
        "ports": [{"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"}],
        "env": [{"name": "TMPDIR", "value": "/run/stellwerk"}],
        "volumeMounts": [{"name": "runtime", "mountPath": "/run/stellwerk"}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}, "periodSeconds": 2, "timeoutSeconds": 2},
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "admin"},
            "initialDelaySeconds": 10,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if parameters.resources:
        container["resources"] = {part: dict(values) for part, values in parameters.resources.items()}
    return container


def _service(gateway: Gateway, parameters: Parameters) -> Object:
    ports = container_ports(listener.port for listener in gateway.spec.listeners)
    asked = [each.value for each in gateway.spec.addresses if each.type == "IPAddress" and each.value]
    is_balanced = parameters.service_type == "LoadBalancer"
    policy = parameters.external_traffic_policy if parameters.service_type != "ClusterIP" else None
    return {
        **({"loadBalancerIP": asked[0]} if asked and is_balanced else {}),
        **({"externalTrafficPolicy": policy} if policy else {}),
        "type": parameters.service_type,
        "selector": selector(gateway),
        "ports": [
            {"name": f"port-{port}", "protocol": "TCP", "port": port, "targetPort": target}
            for port, target in ports.items()
        ],
    }


def _budget(gateway: Gateway) -> Object:
    """One pod at a time may be evicted. Of a single one too: a budget that never allows it blocks every upgrade."""
    return {"maxUnavailable": 1, "selector": {"matchLabels": selector(gateway)}}


class Observed(Struct, frozen=True):
    """How a Gateway's workload stands."""

    addresses: tuple[tuple[str, str], ...] = ()
    """Type (`IPAddress` or `Hostname`) and value."""
    ready: int = 0
    """Pods that take requests."""
    message: str = ""
    """What is still missing; empty: nothing."""
    taken: str = ""
    """Why the Gateway cannot have what it runs on: something of somebody else has its name."""

    @property
    def is_programmed(self) -> bool:
        """Whether requests that come to an address are answered."""
        return bool(self.addresses) and self.ready > 0 and not self.taken


def observed(deployment: Mapping[str, Any] | None, service: Mapping[str, Any] | None, taken: str = "") -> Observed:
    """From the Deployment and Service as the API server has them; None: not there, or not the Gateway's."""
    if deployment is None or service is None:
        message = f"the {'Deployment' if deployment is None else 'Service'} is not there yet"
        return Observed(message=message, taken=taken)
    ready = (deployment.get("status") or {}).get("readyReplicas") or 0
    addresses = _addresses(service)
    name = deployment["metadata"]["name"]
    if not addresses:
        message = f"Service {name} has no address yet"
    elif not ready:
        message = f"no pod of Deployment {name} is ready"
    else:
        message = ""
    return Observed(addresses, ready, message, taken)


def _addresses(service: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Of a load balancer what it was given; of any other Service its cluster addresses."""
    spec = service.get("spec") or {}
    if spec.get("type") == "LoadBalancer":
        ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        named = [("IPAddress", one["ip"]) if one.get("ip") else ("Hostname", one.get("hostname")) for one in ingress]
        return tuple(dict.fromkeys((kind, value) for kind, value in named if value))
    cluster = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return tuple(("IPAddress", address) for address in cluster if address and address != "None")
