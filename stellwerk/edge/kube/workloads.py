"""Makes the objects that Gateways run on what they are wanted to be: by server-side apply, only where something of ours
differs, and takes away what is no longer wanted.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from msgspec import Struct

from stellwerk.control.gateway.deployment import MANAGER, owner_of
from stellwerk.control.gateway.difference import is_as_wanted, signed
from stellwerk.control.gateway.resources import CLUSTER_ROLE_BINDINGS, WORKLOAD
from stellwerk.control.kube.resource import Key, Object, Resource, key_of
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.errors import ApiError
from stellwerk.edge.kube.patience import Patience

log = logging.getLogger("stellwerk.controller")

AT_ONCE = 8
_KINDS = {resource.kind: resource for resource in (*WORKLOAD, CLUSTER_ROLE_BINDINGS)}
_ORDER = (*WORKLOAD[:3], CLUSTER_ROLE_BINDINGS, *WORKLOAD[3:])


class WorkloadCounts(Struct):
    """Since the start; read by metrics."""

    applied: int = 0
    deleted: int = 0
    failed: int = 0


class Workloads:
    """Remembers what the server made of each write, so that its own ways are not fought."""

    def __init__(self, client: KubeClient, patience: Patience) -> None:
        self.counts = WorkloadCounts()
        self.errors: dict[str, str] = {}
        """By object: why it is not as wanted."""
        self._client, self._patience = client, patience
        self._accepted: dict[tuple[Resource, Key], Mapping[str, Any]] = {}

    async def keep(
        self,
        wanted: Iterable[Object],
        copies: Callable[[Resource], Mapping[Key, Object]],
        untouched: Collection[tuple[str, str]] = (),
    ) -> None:
        """One round; what fails is in `errors` until it succeeds. `untouched` are Gateways, as `owner_of` names
        them, whose objects stay as they are, whether wanted or not."""
        by_place = {(_KINDS[value["kind"]], key_of(value)): signed(value) for value in wanted}
        for place in self._accepted.keys() - by_place.keys():
            del self._accepted[place]
        for resource in _ORDER:
            due = [
                self._apply(place, value)
                for place, value in by_place.items()
                if place[0] == resource and not self._is_done(place, value, copies(resource).get(place[1]))
            ]
            await _together(due)
        named = {_name(*place) for place in by_place}
        for resource in reversed(WORKLOAD):
            surplus = {
                key: value
                for key, value in copies(resource).items()
                if (resource, key) not in by_place and _is_ours(value) and owner_of(value) not in untouched
            }
            named.update(_name(resource, key) for key in surplus)
            await _together(self._delete(resource, key, value) for key, value in surplus.items())
        self.errors = {name: error for name, error in self.errors.items() if name in named}

    def _is_done(self, place: tuple[Resource, Key], value: Object, actual: Object | None) -> bool:
        return actual is not None and is_as_wanted(value, actual, self._accepted.get(place))

    async def _apply(self, place: tuple[Resource, Key], value: Object) -> None:
        resource, (namespace, name) = place
        if not self._patience.is_due(_name(*place)):
            return
        try:
            self._accepted[place] = await self._client.patch(
                resource, name, value, namespace or None, kind="apply", field_manager=MANAGER, is_forced=True
            )
        except ApiError as error:
            self._failed(resource, place[1], error)
        else:
            self._succeeded(resource, place[1])
            self.counts.applied += 1
            log.info("%s %s/%s applied", resource.kind, namespace, name)

    async def _delete(self, resource: Resource, key: Key, value: Object) -> None:
        if value["metadata"].get("deletionTimestamp") or not self._patience.is_due(_name(resource, key)):
            return
        namespace, name = key
        try:
            await self._client.delete(resource, name, namespace, uid=value["metadata"].get("uid"))
        except ApiError as error:
            if not error.is_not_found and not error.is_conflict:
                self._failed(resource, key, error)
        else:
            self._succeeded(resource, key)
            self.counts.deleted += 1
            log.info("%s %s/%s deleted", resource.kind, namespace, name)

    def _failed(self, resource: Resource, key: Key, error: ApiError) -> None:
        name, text = _name(resource, key), str(error)
        self.counts.failed += 1
        self._patience.failed(name)
        if self.errors.get(name) != text:
            log.warning("%s: not as wanted: %s", name, text)
        self.errors[name] = text

    def _succeeded(self, resource: Resource, key: Key) -> None:
        self.errors.pop(_name(resource, key), None)
        self._patience.succeeded(_name(resource, key))


def _name(resource: Resource, key: Key) -> str:
    return f"{resource.kind} {key[0]}/{key[1]}"


def _is_ours(value: Object) -> bool:
    """Whether it belongs to a Gateway: what has no owner label is not ours to take away."""
    return owner_of(value) != ("", "")


async def _together(due: Iterable[Any]) -> None:
    """All of them, a few at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(work: Any) -> None:
        async with places:
            await work

    async with asyncio.TaskGroup() as group:
        for work in due:
            group.create_task(one(work))
