"""What `reconcile` says about single objects: conditions for their status, remarks for whoever wrote them."""

from collections.abc import Iterable
from datetime import datetime
from itertools import accumulate

from msgspec import Struct

from stellwerk.control.finding import Path
from stellwerk.control.intake import Item

MAX_MESSAGE = 4_000
"""Characters of a condition's message. The CRDs allow 32,768, but an object with 32 parents would outgrow etcd."""
_MARGIN = 64
"""For what is said around a list."""


class Remark(Struct, frozen=True):
    """Something odd about one object that is valid by itself."""

    item: Item
    path: Path
    message: str


class Condition(Struct, frozen=True):
    """A status condition with upstream's types and reasons; the edge adds the time of the transition."""

    type: str
    status: str
    reason: str
    message: str


class ObjectStatus(Struct, frozen=True):
    """The conditions of one object."""

    api_version: str
    kind: str
    namespace: str
    name: str
    conditions: tuple[Condition, ...]


def joined(messages: Iterable[str]) -> str:
    """Each of `messages` once, as one message: as many as there is room for, and how many more there are."""
    each = list(dict.fromkeys(messages))
    lengths = accumulate(len(message) + len("; ") for message in each)
    taken = max(1, sum(length <= MAX_MESSAGE - _MARGIN for length in lengths))
    text = cut("; ".join(each[:taken]), MAX_MESSAGE - _MARGIN)
    return text if taken >= len(each) else f"{text}; and {len(each) - taken} more"


def cut(message: str, limit: int = MAX_MESSAGE) -> str:
    """`message`, not longer than `limit` characters."""
    return message if len(message) <= limit else f"{message[: limit - 1]}…"


def status_of(item: Item, condition: Condition) -> ObjectStatus:
    """The status of one object that has one condition."""
    read = item.object
    return ObjectStatus(read.api_version, read.kind, read.metadata.namespace, read.metadata.name, (condition,))


def accepted(message: str = "") -> Condition:
    """The object is in effect."""
    return Condition("Accepted", "True", "Accepted", message)


def pending(message: str) -> Condition:
    """The object waits for another."""
    return Condition("Accepted", "Unknown", "Pending", message)


def refused(reason: str, message: str) -> Condition:
    """The object is not in effect."""
    return Condition("Accepted", "False", reason, message)


def seniority(item: Item) -> tuple[bool, datetime | None, str, int, tuple[str | int, ...], str, str]:
    """Sort key, oldest first; of one age by name, as an API server's objects have no other order. Objects without a
    time of creation come after those with one, in the order in which their files sort and their documents stand."""
    created = item.object.metadata.creation_timestamp
    origin = item.origin
    place = (origin.file, origin.index, origin.root) if created is None else ("", 0, ())
    return (created is None, created, *place, item.object.full_name, item.object.api_version)
