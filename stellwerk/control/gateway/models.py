"""Statuses of what refers to a pool: InferenceModel, InferenceObjective, InferenceModelRewrite.

The same rules that serve requests decide (`control.reconcile`), once per pool: whoever may write in one namespace
cannot take a model name from a pool of another.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from stellwerk.control.intake import Item, admit
from stellwerk.control.kinds import InferencePool, OldInferencePool
from stellwerk.control.reconcile import reconcile
from stellwerk.control.remark import ObjectStatus


def model_statuses(objects: Iterable[Mapping[str, Any]]) -> tuple[ObjectStatus, ...]:
    """Of all `objects` that refer to a pool; pools among them are what they can refer to. An object that cannot be read
    gets none: the API server has refused it, or it is of another version."""
    pools: dict[tuple[str, str], list[Item]] = {}
    others: dict[tuple[str, str], list[Item]] = {}
    for value in objects:
        for item in admit(value, "").items:
            read = item.object
            namespace = read.metadata.namespace
            if isinstance(read, InferencePool | OldInferencePool):
                pools.setdefault((namespace, read.metadata.name), []).append(item)
            else:
                others.setdefault((namespace, _pool_name(item)), []).append(item)
    found: list[ObjectStatus] = []
    for place, items in others.items():
        found += reconcile([*pools.get(place, ()), *items], {}).statuses
    return tuple(found)


def _pool_name(item: Item) -> str:
    reference = getattr(getattr(item.object, "spec", None), "pool_ref", None)
    return str(getattr(reference, "name", ""))
