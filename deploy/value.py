"""Values in a manifest: a default in the plain manifests, an expression in the chart's templates.

Objects are written once, as data with `Value`s and their like in it. `filled` puts values in; `templated` writes Helm's
expression in their place. The templates use nothing else but one `if` around a file, and `range` within a line, so both
render to the same objects.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml
from msgspec import Struct

Object = dict[str, Any]
Scope = Mapping[str, Any]
_MARK = re.compile(r"VALUE<(\d+)>")


class Missing(Exception):
    """A value that has no default was not given; the message says how to give it."""


class Value(Struct, frozen=True):
    """What stands at `path` (`Values.replicas`, `Release.Namespace`); `more` paths, then `suffix`, follow it."""

    path: str
    more: tuple[str, ...] = ()
    """Joined with dashes."""
    suffix: str = ""
    is_text: bool = False
    """Text is wanted, whatever type the value has."""

    @property
    def expression(self) -> str:
        """What Helm puts in; JSON is YAML, whatever the value holds."""
        paths = [_source(path) for path in (self.path, *self.more)]
        layout = "-".join("%s" for _ in paths) + self.suffix
        source = paths[0] if layout == "%s" else f'printf "{layout}" {" ".join(paths)}'
        return f"{{{{ {source} | {'quote' if self.is_text else 'toJson'} }}}}"

    def of(self, scope: Scope) -> Any:
        """The value. Raises KeyError for a path that leads nowhere."""
        found = [_at(scope, path) for path in (self.path, *self.more)]
        if self.more or self.suffix:
            return "-".join(found) + self.suffix
        if self.is_text and isinstance(found[0], bool):
            return str(found[0]).lower()
        return str(found[0]) if self.is_text else found[0]


class Needed(Struct, frozen=True):
    """What stands at `path`, which may not be empty: then nothing is installed, and `reason` is said."""

    path: str
    reason: str

    @property
    def expression(self) -> str:
        """Helm's `required` knows empty text only."""
        return f'{{{{ {_source(self.path)} | default "" | required {json.dumps(self.reason)} | toJson }}}}'

    def of(self, scope: Scope) -> Any:
        """Raises Missing."""
        if found := _at(scope, self.path):
            return found
        raise Missing(self.reason)


class Either(Struct, frozen=True):
    """`then`, which has no values in it, where `condition` is true, else what stands at `otherwise`."""

    condition: str
    then: Object
    otherwise: str

    @property
    def expression(self) -> str:
        """A ternary, since templates have no `if` inside a file."""
        then = f"(fromJson `{json.dumps(self.then)}`)"
        return f"{{{{ ternary {then} {_source(self.otherwise)} {_source(self.condition)} | toJson }}}}"

    def of(self, scope: Scope) -> Any:
        """One of the two."""
        return self.then if _at(scope, self.condition) else _at(scope, self.otherwise)


class Sum(Struct, frozen=True):
    """`times` the whole number at `path`, and `plus`."""

    path: str
    times: int
    plus: int

    @property
    def expression(self) -> str:
        """In Helm's integers."""
        return f"{{{{ add (mul {self.times} {_source(self.path)}) {self.plus} }}}}"

    def of(self, scope: Scope) -> int:
        """The same."""
        return self.times * int(_at(scope, self.path)) + self.plus


class Each(Struct, frozen=True):
    """In a list: `item` for each entry of the list or mapping at `path`, with `KEY` and `ENTRY` in it."""

    path: str
    item: Object

    def of(self, scope: Scope) -> list[Any]:
        """Of a mapping in the order of its keys, as Helm has it."""
        found = _at(scope, self.path)
        entries = sorted(found.items()) if isinstance(found, Mapping) else enumerate(found)
        return [filled(self.item, {**scope, _KEY: key, _ENTRY: entry}) for key, entry in entries]


_KEY, _ENTRY = "$key", "$entry"
KEY, ENTRY, ENTRY_TEXT = Value(_KEY), Value(_ENTRY), Value(_ENTRY, is_text=True)
Placeholder = Value | Needed | Either | Sum


def value(path: str) -> Value:
    """The chart's value at `path`."""
    return Value(f"Values.{path}")


def text(path: str) -> Value:
    """The same as text."""
    return Value(f"Values.{path}", is_text=True)


NAMESPACE = Value("Release.Namespace")


def filled(tree: Any, scope: Scope) -> Any:
    """`tree` with everything replaced by what it stands for. Raises Missing."""
    if isinstance(tree, Placeholder):
        return tree.of(scope)
    if isinstance(tree, dict):
        return {name: filled(part, scope) for name, part in tree.items()}
    if isinstance(tree, list):
        return [made for part in tree for made in (part.of(scope) if isinstance(part, Each) else [filled(part, scope)])]
    return tree


def templated(objects: list[Object]) -> str:
    """YAML with Helm's expressions."""
    found: list[str] = []
    return _MARK.sub(lambda match: found[int(match[1])], dumped(_marked(objects, found)))


def dumped(objects: list[Object]) -> str:
    """YAML documents, one per object."""
    return "".join(f"---\n{yaml.dump(each, Dumper=_Dumper, sort_keys=False, width=1000)}" for each in objects)


def _marked(tree: Any, found: list[str]) -> Any:
    """`tree` with a mark for each expression, which is added to `found`: YAML would quote its braces."""
    if isinstance(tree, Placeholder) or (isinstance(tree, list) and any(isinstance(part, Each) for part in tree)):
        found.append(_flow(tree))
        return f"VALUE<{len(found) - 1}>"
    if isinstance(tree, dict):
        return {name: _marked(part, found) for name, part in tree.items()}
    return [_marked(part, found) for part in tree] if isinstance(tree, list) else tree


def _flow(tree: Any) -> str:
    """On one line: JSON with expressions in it, and a comma after the last part of a list, which YAML allows."""
    if isinstance(tree, Placeholder):
        return tree.expression
    if isinstance(tree, Each):
        return f"{{{{ range {_KEY}, {_ENTRY} := {_source(tree.path)} }}}}{_flow(tree.item)}, {{{{ end }}}}"
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {_flow(part)}" for name, part in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + "".join(_flow(part) + ("" if isinstance(part, Each) else ", ") for part in tree) + "]"
    return json.dumps(tree)


def _source(path: str) -> str:
    """How a template names it."""
    return path if path.startswith("$") else f".{path}"


def _at(scope: Scope, path: str) -> Any:
    found: Any = scope
    for part in path.split("."):
        found = found[part]
    return found


class _Dumper(yaml.CSafeDumper):
    """Text of several lines as such, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: yaml.CSafeDumper, data: str) -> yaml.ScalarNode:
    style = "|" if "\n" in data else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _string)
