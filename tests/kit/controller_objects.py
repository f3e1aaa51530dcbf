"""Builders of Gateway API objects as an API server sends them, with defaults filled in."""

from typing import Any

Object = dict[str, Any]
GROUP = "gateway.networking.k8s.io"
POOL_GROUP = "inference.networking.k8s.io"
CONTROLLER = "stellwerk.dev/gateway-controller"


def _object(version: str, kind: str, name: str, namespace: str, spec: Object | None, **metadata: Any) -> Object:
    place: Object = {"name": name, "generation": 1, "uid": f"uid-{kind}-{name}", **metadata}
    if namespace:
        place["namespace"] = namespace
    value: Object = {"apiVersion": version, "kind": kind, "metadata": place}
    return value if spec is None else {**value, "spec": spec}


def gateway_class(name: str = "ours", controller: str = CONTROLLER, **spec: Any) -> Object:
    """Cluster-wide."""
    return _object(f"{GROUP}/v1", "GatewayClass", name, "", {"controllerName": controller, **spec})


def listener(name: str = "http", port: int = 80, protocol: str = "HTTP", **more: Any) -> Object:
    """Of a Gateway; routes of all namespaces may attach."""
    allowed = {"namespaces": {"from": "All"}}
    return {"name": name, "port": port, "protocol": protocol, "allowedRoutes": allowed, **more}


def gateway(
    name: str = "front", namespace: str = "infra", listeners: list[Object] | None = None, **more: Any
) -> Object:
    """Of class `ours`, with one HTTP listener."""
    spec = {"gatewayClassName": "ours", "listeners": [listener()] if listeners is None else listeners, **more}
    return _object(f"{GROUP}/v1", "Gateway", name, namespace, spec)


def http_route(
    name: str = "route",
    namespace: str = "apps",
    parents: list[Object] | None = None,
    backends: list[Object] | None = None,
    **more: Any,
) -> Object:
    """To the pool `pool`, from the Gateway `infra/front`."""
    parent = {"group": GROUP, "kind": "Gateway", "name": "front", "namespace": "infra"}
    backend = {"group": POOL_GROUP, "kind": "InferencePool", "name": "pool", "weight": 1}
    rules = [{"backendRefs": [backend] if backends is None else backends}]
    spec = {"parentRefs": [parent] if parents is None else parents, "rules": rules, **more}
    return _object(f"{GROUP}/v1", "HTTPRoute", name, namespace, spec)


def inference_pool(name: str = "pool", namespace: str = "apps", **more: Any) -> Object:
    """Without a picker of its own."""
    spec = {"selector": {"matchLabels": {"app": "llama"}}, "targetPorts": [{"number": 8000}], **more}
    return _object(f"{POOL_GROUP}/v1", "InferencePool", name, namespace, spec)


def inference_model(name: str, model: str = "chat", pool: str = "pool", namespace: str = "apps", **more: Any) -> Object:
    """Of the June 2025 API."""
    spec = {"modelName": model, "poolRef": {"name": pool}}
    return _object("inference.networking.x-k8s.io/v1alpha2", "InferenceModel", name, namespace, spec, **more)


def config_map(data: dict[str, str], name: str = "parameters", namespace: str = "infra") -> Object:
    """Parameters."""
    return {**_object("v1", "ConfigMap", name, namespace, None), "data": data}


def service(name: str = "web", namespace: str = "apps", **more: Any) -> Object:
    """With port 80."""
    return _object("v1", "Service", name, namespace, {"type": "ClusterIP", "ports": [{"port": 80}], **more})


def reference_grant(kind: str, to: str, namespace: str, from_namespace: str, name: str = "grant") -> Object:
    """Lets `kind` of the Gateway API in `from_namespace` refer to core objects of kind `to` in `namespace`."""
    spec = {
        "from": [{"group": GROUP, "kind": kind, "namespace": from_namespace}],
        "to": [{"group": "", "kind": to}],
    }
    return _object(f"{GROUP}/v1beta1", "ReferenceGrant", name, namespace, spec)
