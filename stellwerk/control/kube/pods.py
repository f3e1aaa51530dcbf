"""Pods to what reconciling takes: a Pod that can serve becomes the same ModelServer object that files have.

A Pod counts while it is Ready, has an address and is not being deleted. Its labels, its uid and the annotation that
says which of the pool's ports are in use go along; nothing else of a Pod is kept.
"""

from datetime import datetime
from typing import Any

import msgspec

from stellwerk.control.address import is_reachable, literal
from stellwerk.control.fields import OWN_GROUP, Metadata
from stellwerk.control.intake import Item, Origin
from stellwerk.control.kinds import ModelServer, ServerSpec
from stellwerk.control.kube.resource import Object
from stellwerk.control.membership import ACTIVE_PORTS

_ENDED = ("Succeeded", "Failed")


def kept_of_pod(pod: Object) -> Object:
    """What `server_of` reads, and nothing else: a Pod of 10 KB becomes some hundred bytes."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    kept = {name: metadata[name] for name in ("name", "namespace", "uid", "creationTimestamp") if name in metadata}
    if metadata.get("labels"):
        kept["labels"] = metadata["labels"]
    annotations = metadata.get("annotations") or {}
    ports = {name: annotations[name] for name in ACTIVE_PORTS if name in annotations}
    if ports:
        kept["annotations"] = ports
    if metadata.get("deletionTimestamp"):
        kept["deletionTimestamp"] = metadata["deletionTimestamp"]
    return {"metadata": kept, "address": _address(status), "is_ready": _is_ready(status)}


def server_of(pod: Object) -> Item | None:
    """The ModelServer that a kept Pod stands for; None: requests must not go there. Never raises for what
    `kept_of_pod` returned."""
    metadata = pod["metadata"]
    address = pod["address"]
    if address is None or not pod["is_ready"] or "deletionTimestamp" in metadata:
        return None
    namespace, name = str(metadata.get("namespace") or "default"), str(metadata["name"])
    server = ModelServer(
        api_version=f"{OWN_GROUP}/v1alpha1",
        kind="ModelServer",
        metadata=Metadata(
            name=name,
            namespace=namespace,
            labels=_texts(metadata.get("labels")),
            annotations=_texts(metadata.get("annotations")),
            creation_timestamp=_time(metadata.get("creationTimestamp")),
            uid=str(metadata.get("uid") or ""),
        ),
        spec=ServerSpec(address=address),
    )
    return Item(server, Origin(f"Pod {namespace}/{name}"))


def _address(status: dict[str, Any]) -> str | None:
    """The primary address only: a Pod with one of each family is still one server."""
    addresses = [status.get("podIP"), *(entry.get("ip") for entry in status.get("podIPs") or () if entry)]
    for address in addresses:
        canonical = literal(address) if isinstance(address, str) else None
        if canonical is not None and is_reachable(canonical):
            return canonical
    return None


def _is_ready(status: dict[str, Any]) -> bool:
    conditions = status.get("conditions") or ()
    is_ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    return is_ready and status.get("phase") not in _ENDED


def _texts(value: object) -> dict[str, str]:
    return {name: text for name, text in value.items() if isinstance(text, str)} if isinstance(value, dict) else {}


def _time(value: object) -> datetime | None:
    try:
        return msgspec.convert(value, datetime) if value is not None else None
    except msgspec.ValidationError:
        return None
