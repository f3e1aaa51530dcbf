"""Values in a manifest: a default in the plain manifests, an expression in the chart's templates.

Objects are written once, as data with `Value`s in it. `filled` puts values in; `templated` writes Helm's expression in
their place. The templates use nothing else but one `if` around a file, so both render to the same objects.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml
from msgspec import Struct

Object = dict[str, Any]
_MARK = re.compile(r"VALUE<(.+?)>")


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
        paths = [f".{path}" for path in (self.path, *self.more)]
        layout = "-".join("%s" for _ in paths) + self.suffix
        source = paths[0] if layout == "%s" else f'printf "{layout}" {" ".join(paths)}'
        return f"{{{{ {source} | {'quote' if self.is_text else 'toJson'} }}}}"

    def of(self, scope: Mapping[str, Any]) -> Any:
        """The value. Raises KeyError for a path that leads nowhere."""
        found = [_at(scope, path) for path in (self.path, *self.more)]
        if self.more or self.suffix:
            return "-".join(found) + self.suffix
        if self.is_text and isinstance(found[0], bool):
            return str(found[0]).lower()
        return str(found[0]) if self.is_text else found[0]


def value(path: str) -> Value:
    """The chart's value at `path`."""
    return Value(f"Values.{path}")


def text(path: str) -> Value:
    """The same as text."""
    return Value(f"Values.{path}", is_text=True)


NAMESPACE = Value("Release.Namespace")


def filled(tree: Any, scope: Mapping[str, Any]) -> Any:
    """`tree` with every `Value` replaced by what it stands for."""
    if isinstance(tree, Value):
        return tree.of(scope)
    if isinstance(tree, dict):
        return {name: filled(part, scope) for name, part in tree.items()}
    return [filled(part, scope) for part in tree] if isinstance(tree, list) else tree


def templated(objects: list[Object]) -> str:
    """YAML with Helm's expressions."""
    return _MARK.sub(lambda match: match[1], dumped(_marked(objects)))


def dumped(objects: list[Object]) -> str:
    """YAML documents, one per object."""
    return "".join(f"---\n{yaml.dump(each, Dumper=_Dumper, sort_keys=False, width=1000)}" for each in objects)


def _marked(tree: Any) -> Any:
    if isinstance(tree, Value):
        return _Expression(tree.expression)
    if isinstance(tree, dict):
        return {name: _marked(part) for name, part in tree.items()}
    return [_marked(part) for part in tree] if isinstance(tree, list) else tree


def _at(scope: Mapping[str, Any], path: str) -> Any:
    found: Any = scope
    for part in path.split("."):
        found = found[part]
    return found


class _Expression(str):
    """Written without quotes."""


class _Dumper(yaml.CSafeDumper):
    """Text of several lines as such, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: yaml.CSafeDumper, data: str) -> yaml.ScalarNode:
    style = "|" if "\n" in data else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


def _expression(dumper: yaml.CSafeDumper, data: _Expression) -> yaml.ScalarNode:
    # A brace at its beginning would be quoted; the mark is not.
    return dumper.represent_scalar("tag:yaml.org,2002:str", f"VALUE<{data}>")


_Dumper.add_representer(str, _string)
_Dumper.add_representer(_Expression, _expression)
