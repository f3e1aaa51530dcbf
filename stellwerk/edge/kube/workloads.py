"""Makes the objects that Gateways run on what they are wanted to be: by server-side apply, only where something of ours
differs, and takes away what is no longer wanted. What somebody else has under the same name stays theirs.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from stellwerk.control.gateway.deployment import NOBODY, Owner, owner_of
from stellwerk.control.gateway.difference import is_as_wanted, signed
from stellwerk.control.gateway.resources import CLUSTER_ROLE_BINDINGS, MANAGER, WORKLOAD
from stellwerk.control.kube.resource import Key, Object, Resource, key_of
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.errors import ApiError
from stellwerk.edge.kube.patience import Patience

log = logging.getLogger("stellwerk.controller")

AT_ONCE = 8
_KINDS = {resource.kind: resource for resource in (*WORKLOAD, CLUSTER_ROLE_BINDINGS)}
_ORDER = (*WORKLOAD[:3], CLUSTER_ROLE_BINDINGS, *WORKLOAD[3:])

Place = tuple[Resource, Key]
Copies = Callable[[Resource], Mapping[Key, Object]]


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
        self._accepted: dict[Place, Mapping[str, Any]] = {}
        self._taken: dict[Place, str] = {}
        """As `taken` last found it."""
        self._found: set[Place] = set()
        """Where something is, among the copies or not: it may have lost the label by which they are selected."""

    async def taken(self, wanted: Iterable[Object], copies: Copies) -> dict[tuple[Owner, Place], str]:
        """What of `wanted` Gateways cannot have, with the reason: something of somebody else has the name. What is not
        among the copies is asked for, since of most kinds they hold only what is ours."""
        self._found.clear()
        first: dict[Place, Object] = {}
        found: dict[tuple[Owner, Place], str] = {}
        for value in wanted:
            place = place_of(value)
            if problem := _theirs(place, value, first.setdefault(place, value)):
                found[owner_of(value), place] = problem
        await _together(self._look(place, value, copies(place[0]).get(place[1])) for place, value in first.items())
        self._taken = {place: problem for place, problem in self._taken.items() if place in first}
        return found | {(owner_of(first[place]), place): problem for place, problem in self._taken.items()}

    async def keep(self, wanted: Iterable[Object], copies: Copies, is_left: Callable[[Resource, Owner], bool]) -> None:
        """One round; what fails is in `errors` until it succeeds. `is_left`: whether what a Gateway has of a kind stays
        as it is, whether wanted or not."""
        by_place = {place_of(value): signed(value) for value in wanted}
        for place in self._accepted.keys() - by_place.keys():
            del self._accepted[place]
        for resource in _ORDER:
            present = copies(resource)
            due = [
                self._apply(place, value, is_new=place not in self._found)
                for place, value in by_place.items()
                if place[0] == resource and not self._is_done(place, value, present.get(place[1]))
            ]
            await _together(due)
        named = {_name(*place) for place in by_place}
        for resource in reversed(WORKLOAD):
            surplus = {
                key: value
                for key, value in copies(resource).items()
                if (resource, key) not in by_place
                and (owner := owner_of(value)) != NOBODY
                and not is_left(resource, owner)
            }
            named.update(_name(resource, key) for key in surplus)
            await _together(self._delete(resource, key, value) for key, value in surplus.items())
        self.errors = {name: error for name, error in self.errors.items() if name in named}

    def _is_done(self, place: Place, value: Object, actual: Object | None) -> bool:
        return actual is not None and is_as_wanted(value, actual, self._accepted.get(place))

    async def _look(self, place: Place, value: Object, copy: Object | None) -> None:
        """Note whether somebody else has the place of `value`. Without an answer nothing is taken from anybody."""
        resource, (namespace, name) = place
        asked = f"owner of {_name(*place)}"
        if copy is None and not self._patience.is_due(asked):
            return
        try:
            actual = copy or await self._client.get(resource, name, namespace or None)
        except ApiError as error:
            problem = None if error.is_not_found else f"{_name(*place)} may be somebody else's: {error}"
        else:
            self._found.add(place)
            problem = _theirs(place, value, actual)
        if problem is None:
            self._taken.pop(place, None)
            self._patience.succeeded(asked)
        else:
            self._taken[place] = problem
            self._patience.failed(asked)

    async def _apply(self, place: Place, value: Object, *, is_new: bool) -> None:
        """What is new is not forced, so that what somebody makes at the same time stays theirs."""
        resource, (namespace, name) = place
        if not self._patience.is_due(_name(*place)):
            return
        is_forced = not is_new or owner_of(value) == NOBODY
        try:
            self._accepted[place] = await self._client.patch(
                resource, name, value, namespace or None, kind="apply", field_manager=MANAGER, is_forced=is_forced
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


def place_of(value: Object) -> Place:
    """Kind and name of a manifest."""
    return _KINDS[value["kind"]], key_of(value)


def _theirs(place: Place, wanted: Object, actual: Object) -> str | None:
    """What is wrong with `actual`, which stands where `wanted` of a Gateway is to be; None: it is the Gateway's."""
    holder = owner_of(actual)
    if holder == owner_of(wanted) or _owners(actual) & _owners(wanted):
        return None
    whose = f"Gateway {'/'.join(holder)}" if holder != NOBODY else "somebody else"
    return f"{_name(*place)} belongs to {whose} and is left alone: delete it, or give this Gateway another name"


def _owners(value: Object) -> set[str]:
    """Who has it deleted when they go, by their UIDs."""
    return {each["uid"] for each in value["metadata"].get("ownerReferences") or () if each.get("uid")}


async def _together(due: Iterable[Any]) -> None:
    """All of them, a few at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(work: Any) -> None:
        async with places:
            await work

    async with asyncio.TaskGroup() as group:
        for work in due:
            group.create_task(one(work))
