"""What is ours in a status, put in place of what was ours before: conditions by type, entries by parent.

Everything else stays as it is, in its order, so that several controllers can share one object. Times change only when
the status of a condition does; a condition that says no more than before is the same dict again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from stellwerk.control.remark import Condition, cut

Object = dict[str, Any]


class ParentEntry(Struct, frozen=True):
    """What we say about an object to one of its parents. `reference` is the `parentRef` as it is to stand there."""

    reference: Mapping[str, Any]
    conditions: tuple[Condition, ...]


def merged_conditions(
    old: Sequence[Object] | None,
    wanted: Iterable[Condition],
    generation: int,
    now: str,
    retired: frozenset[str] = frozenset(),
) -> list[Object]:
    """`old` with the conditions of `wanted`, and without those of `retired` types that are not wanted. `now`: RFC 3339.
    A condition that somebody wrote about a newer generation than ours stays: we have yet to see that one."""
    told = {condition.type: condition for condition in wanted}
    result: list[Object] = []
    for entry in old or ():
        condition = told.pop(entry.get("type", ""), None)
        if condition is not None:
            result.append(_condition(entry, condition, generation, now))
        elif entry.get("type") not in retired:
            result.append(entry)
    result += [_condition({}, condition, generation, now) for condition in told.values()]
    return result


def _condition(old: Object, condition: Condition, generation: int, now: str) -> Object:
    if (old.get("observedGeneration") or 0) > generation:
        return old
    is_same = old.get("status") == condition.status and "lastTransitionTime" in old
    new = {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": cut(condition.message),
        "observedGeneration": generation,
        "lastTransitionTime": old["lastTransitionTime"] if is_same else now,
    }
    return old if new == old else new


def merged_parents(
    old: Sequence[Object] | None, controller: str, wanted: Iterable[ParentEntry], generation: int, now: str
) -> list[Object]:
    """`old` with our entries, which `controllerName` tells from those of others, as `wanted` has them."""
    told = list(wanted)
    result: list[Object] = []
    for entry in old or ():
        if entry.get("controllerName") != controller:
            result.append(entry)
            continue
        same = next((one for one in told if dict(one.reference) == entry.get("parentRef")), None)
        if same is not None:
            told.remove(same)
            result.append(_parent(entry, controller, same, generation, now))
    return result + [_parent({}, controller, one, generation, now) for one in told]


def _parent(old: Object, controller: str, entry: ParentEntry, generation: int, now: str) -> Object:
    """All conditions of our entry are ours."""
    before = old.get("conditions")
    mine = frozenset(one.get("type", "") for one in before or ())
    return {
        "parentRef": dict(entry.reference),
        "controllerName": controller,
        "conditions": merged_conditions(before, entry.conditions, generation, now, mine),
    }
