"""The form of every document here: Envoy's JSON, typed by `@type`."""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

Document = dict[str, Any]
"""A JSON-able mapping: what `json.dumps` writes and Envoy reads as the proto message of the same field names."""

_API = "type.googleapis.com/"


def typed(message: str, **fields: Any) -> Document:
    """A `google.protobuf.Any` holding `message` (full proto name)."""
    return {"@type": _API + message, **fields}


def extension(name: str, message: str, **fields: Any) -> Document:
    """A `TypedExtensionConfig`, or anything else with a name and a typed config (filters, loggers, policies)."""
    return {"name": name, "typed_config": typed(message, **fields)}


def seconds(value: float) -> str:
    """A protobuf Duration. Envoy keeps at most nanoseconds; milliseconds are enough here."""
    return f"{value:.3f}".rstrip("0").rstrip(".") + "s"


def versioned(*contents: Document) -> Document:
    """One watched file, whose version is a digest of its content."""
    digest = hashlib.sha256(msgspec.json.encode(contents, order="deterministic")).hexdigest()
    return discovery(digest[:16], contents)


def discovery(version: str, resources: Iterable[Document]) -> Document:
    """The content of one watched file: a DiscoveryResponse."""
    return {"version_info": version, "resources": list(resources)}
