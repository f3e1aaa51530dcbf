"""Whether an object in the cluster is what we want it to be, looking only at what we said about it.

The API server and admission controllers add defaults and rewrite quantities; whoever else works on an object owns the
rest of it. So three things are compared: a digest of what we wanted when we last wrote (kept in an annotation), the
fields we named, and, where those differ, what the server made of our last write.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

Object = Mapping[str, Any]

DIGEST = "stellwerk.dev/wanted"
"""Annotation: digest of the manifest that was written."""


def signed(manifest: Object) -> dict[str, Any]:
    """The manifest with its digest."""
    digest = hashlib.sha256(msgspec.json.encode(manifest, order="deterministic")).hexdigest()[:32]
    metadata = {**manifest["metadata"]}
    metadata["annotations"] = {**metadata.get("annotations", {}), DIGEST: digest}
    return {**manifest, "metadata": metadata}


def is_as_wanted(wanted: Object, actual: Object, accepted: Object | None = None) -> bool:
    """Whether nothing has to be written. `wanted` is signed; `accepted` is what the server answered when it was last
    written, if we know: a field that differs from what we want as it did then is the server's way to say the same."""
    digests = [(one["metadata"].get("annotations") or {}).get(DIGEST) for one in (wanted, actual)]
    if digests[0] != digests[1]:
        return False
    seen = projected(wanted, actual)
    return seen == wanted or (accepted is not None and seen == projected(wanted, accepted))


def projected(shape: Any, value: Any) -> Any:
    """The part of `value` that `shape` speaks about. Lists are taken whole, items matched by place."""
    if isinstance(shape, Mapping) and isinstance(value, Mapping):
        return {key: projected(part, value[key]) for key, part in shape.items() if key in value}
    if isinstance(shape, list | tuple) and isinstance(value, list | tuple) and len(shape) == len(value):
        return [projected(one, other) for one, other in zip(shape, value, strict=True)]
    return value
