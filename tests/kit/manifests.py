"""Shipped manifests as tests read them: files, and directories as `kubectl kustomize` would build them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.generate import HERE

Object = dict[str, Any]
EXAMPLES = sorted(path for path in (HERE / "examples").iterdir() if path.is_dir())
FOREIGN = ("monitoring.coreos.com/", "networking.istio.io/")
"""Groups whose definitions are neither Kubernetes', nor the Gateway API's, nor ours."""


class _Loader(yaml.CSafeLoader):
    """With `=` for what it is to kubectl, a text (YAML 1.1 has a type for it, which PyYAML does not make)."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: str(node.value))


def documents(path: Path) -> list[Object]:
    """All documents of a file."""
    return [each for each in yaml.load_all(path.read_text(), _Loader) if each]


def kustomized(directory: Path) -> list[Object]:
    """What `kubectl kustomize` prints of a directory with resources and patches by name; nothing else is understood."""
    (plan,) = documents(directory / "kustomization.yaml")
    assert plan.keys() <= {"apiVersion", "kind", "resources", "patches"}
    found: list[Object] = []
    for name in plan["resources"]:
        path = directory / name
        found += kustomized(path) if path.is_dir() else documents(path)
    for patch in plan.get("patches", []):
        (change,) = documents(directory / patch["path"])
        (target,) = (each for each in found if key(each) == key(change))
        found[found.index(target)] = merged(target, change)
    return found


def key(value: Object) -> tuple[str, str, str, str]:
    """What an object is called."""
    meta = value["metadata"]
    return value["apiVersion"], value["kind"], meta.get("namespace", ""), meta["name"]


def by_key(objects: list[Object]) -> dict[tuple[str, str, str, str], Object]:
    """By what they are called; no name twice."""
    found = {key(each): each for each in objects}
    assert len(found) == len(objects), "an object is there twice"
    return found


def merged(old: Any, change: Any) -> Any:
    """A strategic merge: lists of named things by name, other lists as a whole."""
    if isinstance(old, Mapping) and isinstance(change, Mapping):
        return {**old, **{name: merged(old.get(name), part) for name, part in change.items()}}
    if (
        isinstance(old, list)
        and isinstance(change, list)
        and all(isinstance(each, dict) and "name" in each for each in (*old, *change))
    ):
        changes = {each["name"]: each for each in change}
        kept = [merged(each, changes.pop(each["name"], each)) for each in old]
        return [*kept, *changes.values()]
    return change


def _has_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) and "name" in each for each in value)
