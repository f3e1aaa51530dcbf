"""Writes statuses: only when something is different, only the fields that are, and never over somebody else's write.

`wanted` is a function of the status as it is, so that it can keep what belongs to others (other parents' entries, other
conditions) and can be asked again after a conflict.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from stellwerk.control.kube.resource import Object, Resource
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.errors import ApiError

Wanted = Callable[[Object], Object]
"""Status as it is to status as it should be. Must not change its argument."""

MAX_CONFLICTS = 5


class StatusCounts(Struct):
    """Since the start; read by metrics."""

    written: int = 0
    unchanged: int = 0
    conflicts: int = 0
    failed: int = 0


class StatusWriter:
    """Stateless but for its counters; may write many statuses at once."""

    def __init__(self, client: KubeClient) -> None:
        self.counts = StatusCounts()
        self._client = client

    async def write(self, resource: Resource, value: Object, wanted: Wanted) -> bool:
        """Bring the status of `value`, an object as last seen, to what is wanted; True if that took a write. An object
        that is gone, or was made anew, needs none. Raises ApiError."""
        metadata = value["metadata"]
        uid = metadata.get("uid")
        for _ in range(MAX_CONFLICTS):
            patch = difference(value.get("status") or {}, wanted(value.get("status") or {}))
            if patch is None:
                self.counts.unchanged += 1
                return False
            try:
                await self._patch(resource, value, patch)
            except ApiError as error:
                if error.is_not_found:
                    return False
                if not error.is_conflict:
                    self.counts.failed += 1
                    raise
            else:
                self.counts.written += 1
                return True
            self.counts.conflicts += 1
            fresh = await self._fresh(resource, metadata)
            if fresh is None or fresh["metadata"].get("uid") != uid:
                return False
            value = fresh
        self.counts.failed += 1
        name = metadata["name"]
        raise ApiError(409, "Conflict", f"the status of {resource.kind} {name} changed {MAX_CONFLICTS} times meanwhile")

    async def _patch(self, resource: Resource, value: Object, patch: Object) -> None:
        """Lists are replaced whole by a merge patch: the version makes sure that nobody wrote in between."""
        metadata = value["metadata"]
        body = {"metadata": {"resourceVersion": metadata.get("resourceVersion")}, "status": patch}
        await self._client.patch(resource, metadata["name"], body, metadata.get("namespace"), subresource="status")

    async def _fresh(self, resource: Resource, metadata: Object) -> Object | None:
        try:
            return await self._client.get(resource, metadata["name"], metadata.get("namespace"))
        except ApiError as error:
            if error.is_not_found:
                return None
            raise


def difference(old: Object, new: Object) -> Object | None:
    """The merge patch (RFC 7396) from `old` to `new`, or None if they are equal."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, part in new.items():
        before = old.get(name)
        if before == part:
            continue
        if isinstance(before, dict) and isinstance(part, dict):
            patch[name] = difference(before, part)
        else:
            patch[name] = part
    return patch or None
