"""A copy of one kind's objects, kept right by lists and watch events, whatever order or age they come in.

Pure: `edge.kube.reflector` asks the API server and feeds this. Rules: a list at version L is everything up to L, so an
event that is not newer than L says nothing; of two events about one object the newer holds; a deletion is remembered
until the next list, so that a late event cannot bring the object back. What cannot be ordered (versions that are no
numbers) is believed in the order of arrival.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stellwerk.control.kube.resource import Key, Object, key_of

MAX_DELETIONS = 10_000
"""Deletions remembered between two lists."""

Keep = Callable[[Object], Object]
"""Object to the part that is kept of it. Must not fail for any JSON that has a `metadata.name`."""


class Replica:
    """The copy. Owner of `objects`; callers read."""

    def __init__(self, keep: Keep) -> None:
        self.objects: dict[Key, Object] = {}
        self.version = ""
        """Where a watch goes on; empty: list first."""
        self.is_doubtful = False
        """Whether events came out of order: a list should follow soon."""
        self._keep = keep
        self._listed = 0
        self._newest = 0
        self._versions: dict[Key, int] = {}
        self._deleted: OrderedDict[Key, int] = OrderedDict()

    def is_outdated(self, version: str) -> bool:
        """Whether a list of `version` is older than what was already seen: the answer of a lagging replica, or of a
        server that was restored from a backup."""
        number = _number(version)
        return number is not None and number < self._newest

    def relisted(self, items: Iterable[Object], version: str) -> frozenset[Key]:
        """Take `items`, already reduced to what is kept, for everything there is at `version`. Returns what changed."""
        before = self.objects
        after: dict[Key, Object] = {}
        self._versions = {}
        for item in items:
            key = key_of(item)
            after[key] = item
            self._versions[key] = _version_of(item) or 0
        self.objects = after
        self.version = version
        self._listed = self._newest = _number(version) or 0
        self._deleted.clear()
        self.is_doubtful = False
        changed = {key for key, item in after.items() if key not in before or not _same(before[key], item)}
        return frozenset(changed | (before.keys() - after.keys()))

    def kept(self, item: Object) -> Object:
        """The part of `item` that is kept, with the version that orders it."""
        part = self._keep(item)
        version = item["metadata"].get("resourceVersion")
        if version is not None and part["metadata"].get("resourceVersion") != version:
            part = {**part, "metadata": {**part["metadata"], "resourceVersion": version}}
        return part

    def event(self, kind: str, value: Object) -> Key | None:
        """Take in one watch event (ADDED, MODIFIED, DELETED, BOOKMARK). Returns the key of what changed, if anything
        that is kept did. Raises KeyError, TypeError or AttributeError for what is no object."""
        number = _version_of(value)
        if kind == "BOOKMARK":
            self._advance(value["metadata"]["resourceVersion"], number)
            return None
        key = key_of(value)
        if number is not None:
            if number <= self._listed:
                return None
            held = self._versions.get(key, self._deleted.get(key, 0))
            is_old = number < held if kind == "DELETED" and key in self.objects else number <= held
            self.is_doubtful = self.is_doubtful or (number < self._newest and not is_old)
            self._advance(value["metadata"]["resourceVersion"], number)
            if is_old:
                return None
        else:
            self.version = str(value["metadata"].get("resourceVersion") or self.version)
        return self._delete(key, number) if kind == "DELETED" else self._put(key, value, number)

    def _advance(self, version: str, number: int | None) -> None:
        if number is None or number > self._newest:
            self.version = version
            self._newest = number or self._newest

    def _put(self, key: Key, value: Object, number: int | None) -> Key | None:
        before, after = self.objects.get(key), self.kept(value)
        self._deleted.pop(key, None)
        self._versions[key] = number or 0
        self.objects[key] = after
        return None if before is not None and _same(before, after) else key

    def _delete(self, key: Key, number: int | None) -> Key | None:
        self._versions.pop(key, None)
        if number is not None:
            self._deleted[key] = number
            self._deleted.move_to_end(key)
            if len(self._deleted) > MAX_DELETIONS:
                self._deleted.popitem(last=False)
                self.is_doubtful = True
        return key if self.objects.pop(key, None) is not None else None


def _same(one: Object, other: Object) -> bool:
    """Whether nothing but the version differs."""
    return _unversioned(one) == _unversioned(other)


def _unversioned(value: Object) -> Object:
    metadata = {name: part for name, part in value["metadata"].items() if name != "resourceVersion"}
    return {**value, "metadata": metadata}


def _version_of(value: Mapping[str, Any]) -> int | None:
    return _number(value["metadata"].get("resourceVersion"))


def _number(version: object) -> int | None:
    """Resource versions of one API server are ordered integers, though the API long called them opaque."""
    return int(version) if isinstance(version, str) and version.isdecimal() and len(version) < 20 else None
