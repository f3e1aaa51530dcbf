"""What the controller keeps of each kind: what it reads, and no more."""

from typing import Any

from stellwerk.control.gateway.certificate import CERTIFICATE, KEY
from stellwerk.control.gateway.resources import MANAGED_BY, MANAGER
from stellwerk.control.kube.resource import Object, without_bulk


def with_status(value: Object) -> Object:
    """Objects whose status we write: all but the bulk."""
    kept = without_bulk(value)
    return {**kept, "status": value["status"]} if "status" in value else kept


def labels_only(value: Object) -> Object:
    """Namespaces."""
    return {**_head(value), "metadata": _metadata(value, "labels")}


def service(value: Object) -> Object:
    """Ports, type and owner of any Service; our own whole, since we compare them with what we want."""
    if ((value["metadata"].get("labels") or {}).get(MANAGED_BY)) == MANAGER:
        return with_status(value)
    spec = value.get("spec") or {}
    ports = [
        {name: port[name] for name in ("port", "name", "appProtocol", "protocol") if name in port}
        for port in spec.get("ports") or ()
    ]
    kept = {"ports": ports, "type": spec.get("type") or "ClusterIP"}
    return {**_head(value), "metadata": _metadata(value, "ownerReferences"), "spec": kept}


def deployment(value: Object) -> Object:
    """Parts of a workload; of a Deployment's status only how many pods are ready."""
    kept = without_bulk(value)
    ready = (value.get("status") or {}).get("readyReplicas")
    return {**kept, "status": {"readyReplicas": ready}} if ready else kept


def endpoint_slice(value: Object) -> Object:
    """Where a Service leads to: addresses that are ready, or still serve, and ports."""
    endpoints = [
        {"addresses": each.get("addresses") or (), "conditions": conditions}
        for each in value.get("endpoints") or ()
        if (conditions := _conditions(each)) is not None
    ]
    ports = [{name: port[name] for name in ("name", "port") if name in port} for port in value.get("ports") or ()]
    return {**_head(value), "metadata": _metadata(value, "labels"), "endpoints": endpoints, "ports": ports}


def _conditions(endpoint: Object) -> dict[str, bool] | None:
    """None: it gets nothing."""
    said = endpoint.get("conditions") or {}
    if said.get("ready") is not False:
        return {"ready": True}
    return {"ready": False, "serving": True} if said.get("serving") else None


def secret(value: Object) -> Object:
    """A certificate and its key, and nothing else that a Secret may hold."""
    data = value.get("data") or {}
    kept = {name: data[name] for name in (CERTIFICATE, KEY) if name in data}
    return {**_head(value), "metadata": _metadata(value), "type": value.get("type") or "Opaque", "data": kept}


def _head(value: Object) -> dict[str, Any]:
    return {name: value[name] for name in ("apiVersion", "kind") if name in value}


def _metadata(value: Object, *more: str) -> dict[str, Any]:
    metadata = value["metadata"]
    return {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion", *more) if name in metadata}
