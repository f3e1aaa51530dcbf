"""Checks a plain value against a typed struct and reports every problem, not only the first.

The structs are the single source of truth: constraints are their `msgspec.Meta`, rules over several values stand in
the table that the caller passes. A value without problems converts with `msgspec.convert` to the struct.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from msgspec import Struct, inspect

from stellwerk.control.finding import Path, advice, shown
from stellwerk.control.leaf import PATTERN_END, fits, kind_of, name_of, scalar_problems
from stellwerk.control.scalar import because


class Rule(Struct, frozen=True):
    """A constraint over several values: `cel` is how a CRD says it, `holds` the same for a plain value without other
    problems. With `field` it is about that field's value, else about the whole object. `{value}` in the message stands
    for the value, where that is text."""

    message: str
    cel: str
    holds: Callable[[Any], bool]
    field: str | None = None
    is_upstream: bool = True
    """False: ours alone; an API server with upstream's CRDs accepts what breaks it."""


class Violation(Struct, frozen=True):
    """A broken constraint. `is_key`: the key is what is wrong, not its value."""

    path: Path
    message: str
    is_key: bool = False


Rules = Mapping[type, tuple[Rule, ...]]
Raw = Callable[[Path], str | None]
"""The text of an unquoted scalar, if there is one; for better messages."""


def checked(
    value: object,
    wanted: type,
    rules: Rules,
    path: Path = (),
    raw: Raw = lambda path: None,
    unknown: list[Path] | None = None,
) -> tuple[Any, list[Violation]]:
    """`value` without the nulls that stand for absent fields, and what is wrong with it. `path` is where it stands.
    Unknown fields are wrong, unless there is a list `unknown` for them: then they are left out."""
    checker = _Checker(rules, raw, unknown)
    clean = checker.check(value, type_info(wanted), path)
    return clean, checker.violations


@cache
def type_info(wanted: type) -> inspect.Type:
    """`msgspec.inspect.type_info`, remembered."""
    return inspect.type_info(wanted)


class _Checker:
    """One walk over one value. The walk follows the types, so its depth is theirs."""

    def __init__(self, rules: Rules, raw: Raw, unknown: list[Path] | None = None) -> None:
        self.violations: list[Violation] = []
        self._rules, self._raw, self._unknown = rules, raw, unknown

    def check(self, value: object, info: inspect.Type, path: Path) -> Any:
        """Add what is wrong with `value`; return it cleaned. After a violation the result is of no use."""
        match info:
            case inspect.Metadata():
                return self._described(value, info, path)
            case inspect.StructType():
                return self._struct(value, info, path)
            case inspect.VarTupleType() | inspect.ListType():
                return self._list(value, info, path)
            case inspect.DictType():
                return self._mapping(value, info, path)
            case inspect.UnionType():
                return self._union(value, info, path)
            case inspect.AnyType():
                return value
            case _:
                if fits(value, info):
                    for message in scalar_problems(value, info):
                        self._add(path, message)
                else:
                    self._add(path, self._expected(name_of(info), value, path))
                return value

    def _add(self, path: Path, message: str, is_key: bool = False) -> None:
        self.violations.append(Violation(path, message, is_key))

    def _described(self, value: object, info: inspect.Metadata, path: Path) -> Any:
        """A type whose annotation says in words what its pattern wants."""
        before = len(self.violations)
        clean = self.check(value, info.type, path)
        for index in range(before, len(self.violations)):
            violation = self.violations[index]
            words = (info.extra or {}).get("is")
            message = violation.message
            if words and message.endswith(PATTERN_END):
                message = message.removesuffix(PATTERN_END) + f"is not {words}"
            elif words and (info.extra or {}).get("has_unit") and message.startswith("expected text"):
                message = f"expected {words}; got {kind_of(value)}"
            self.violations[index] = Violation(violation.path, message, violation.is_key)
        return clean

    def _struct(self, value: object, info: inspect.StructType, path: Path) -> Any:
        if not isinstance(value, dict):
            self._add(path, self._expected("a mapping", value, path))
            return value
        before = len(self.violations)
        fields = {field.encode_name: field for field in info.fields}
        clean: dict[str, Any] = {}
        for name, part in value.items():
            field = fields.get(name)
            if field is None and self._unknown is not None:
                self._unknown.append((*path, name))
            elif field is None:
                self._add((*path, name), f'unknown field "{shown(name)}": {advice(name, fields)}', is_key=True)
            elif part is not None:
                start = len(self.violations)
                clean[name] = self.check(part, field.type, (*path, name))
                if len(self.violations) == start:
                    self._apply_rules(info.cls, name, clean[name], (*path, name))
        for name, field in fields.items():
            if field.required and value.get(name) is None:
                self._add(path, f'"{name}" is required')
        if len(self.violations) == before:
            self._apply_rules(info.cls, None, clean, path)
        return clean

    def _apply_rules(self, cls: type, field: str | None, value: object, path: Path) -> None:
        for rule in self._rules.get(cls, ()):
            if rule.field == field and not rule.holds(value):
                said = shown(value) if isinstance(value, str) else ""
                self._add(path, rule.message.replace("{value}", said))

    def _list(self, value: object, info: inspect.VarTupleType | inspect.ListType, path: Path) -> Any:
        if not isinstance(value, list):
            self._add(path, self._expected("a list", value, path))
            return value
        self._size(len(value), info.min_length, info.max_length, "item", path)
        return [self.check(item, info.item_type, (*path, index)) for index, item in enumerate(value)]

    def _mapping(self, value: object, info: inspect.DictType, path: Path) -> Any:
        if not isinstance(value, dict):
            self._add(path, self._expected("a mapping", value, path))
            return value
        self._size(len(value), info.min_length, info.max_length, "entry", path)
        clean: dict[str, Any] = {}
        for key, part in value.items():
            start = len(self.violations)
            self.check(key, info.key_type, (*path, key))
            self.violations[start:] = [Violation(v.path, f"key {v.message}", True) for v in self.violations[start:]]
            clean[key] = self.check(part, info.value_type, (*path, key))
        return clean

    def _size(self, count: int, low: int | None, high: int | None, unit: str, path: Path) -> None:
        units = unit if count == 1 else ("entries" if unit == "entry" else f"{unit}s")
        if low is not None and count < low:
            self._add(path, f"has {count} {units}, and needs {low} or more")
        if high is not None and count > high:
            self._add(path, f"has {count} {units}, and may have {high} at most")

    def _union(self, value: object, info: inspect.UnionType, path: Path) -> Any:
        """The member for a value's own type; an optional type never sees None here."""
        members = [member for member in info.types if not isinstance(member, inspect.NoneType)]
        for member in members:
            if fits(value, member):
                return self.check(value, member, path)
        if len(members) == 1:
            return self.check(value, members[0], path)
        names = " or ".join(name_of(member) for member in members)
        self._add(path, self._expected(names, value, path))
        return value

    def _expected(self, wanted: str, value: object, path: Path) -> str:
        """A type error, with the reason where YAML made the value something else."""
        raw = self._raw(path)
        message = f"expected {wanted}, got {kind_of(value)}"
        if raw is None:
            if wanted == "an integer" and isinstance(value, str) and re.fullmatch("-?[0-9]+", value):
                message += ": remove the quotes"
        elif wanted == "text" and isinstance(value, bool | int | float):
            reason = because(raw, value)
            message += f' ({reason}): quote it: "{raw}"' if reason else f': quote it: "{raw}"'
        elif wanted == "an integer" and isinstance(value, float) and value.is_integer():
            message += f" (written {raw}): write {int(value)}" if abs(value) < 1e15 else ""
        return message
