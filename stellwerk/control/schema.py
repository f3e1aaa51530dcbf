"""Checks a plain value against a typed struct and reports every problem, not only the first.

The structs are the single source of truth: constraints are their `msgspec.Meta`, rules over several values stand in
the table that the caller passes. A value without problems converts with `msgspec.convert` to the struct.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import Struct, inspect

from stellwerk.control.finding import Path, advice, shown
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
    value: object, wanted: type, rules: Rules, path: Path = (), raw: Raw = lambda path: None
) -> tuple[Any, list[Violation]]:
    """`value` without the nulls that stand for absent fields, and what is wrong with it. `path` is where it stands."""
    checker = _Checker(rules, raw)
    clean = checker.check(value, type_info(wanted), path)
    return clean, checker.violations


@cache
def type_info(wanted: type) -> inspect.Type:
    """`msgspec.inspect.type_info`, remembered."""
    return inspect.type_info(wanted)


def kind_of(value: object) -> str:
    """What a value is, for people."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f'the text "{shown(value)}"'
        case list():
            return "a list"
        case _:
            return "a mapping"


class _Checker:
    """One walk over one value. The walk follows the types, so its depth is theirs."""

    def __init__(self, rules: Rules, raw: Raw) -> None:
        self.violations: list[Violation] = []
        self._rules, self._raw = rules, raw

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
                for message in self._scalar(value, info, path):
                    self._add(path, message)
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
            if words and message.endswith(_PATTERN_END):
                message = message.removesuffix(_PATTERN_END) + f"is not {words}"
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
            if field is None:
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
            if _fits(value, member):
                return self.check(value, member, path)
        if len(members) == 1:
            return self.check(value, members[0], path)
        names = " or ".join(_name(member) for member in members)
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

    def _scalar(self, value: object, info: inspect.Type, path: Path) -> Iterator[str]:
        if not _fits(value, info):
            yield self._expected(_name(info), value, path)
            return
        match info:
            case inspect.StrType():
                assert isinstance(value, str)
                yield from _text_problems(value, info)
            case inspect.IntType() | inspect.FloatType():
                assert isinstance(value, int | float)
                yield from _number_problems(value, info)
            case inspect.EnumType() | inspect.LiteralType():
                assert isinstance(value, str)
                choice = _choice(info)
                if value not in choice:
                    known = ", ".join(choice)
                    yield f'"{shown(value)}" is not one of {known}' + _suggestion(value, choice)
            case inspect.DateTimeType():
                try:
                    msgspec.convert(value, _MOMENT)
                except msgspec.ValidationError:
                    yield f'"{shown(str(value))}" is not a time: write it like 2025-06-05T00:00:00Z'


_MOMENT: Any = Annotated[datetime, msgspec.Meta(tz=True)]
_PATTERN_END = "does not match its pattern"


def _suggestion(value: str, choice: tuple[str, ...]) -> str:
    said = advice(value, choice)
    return f": {said}" if said.startswith("did") else ""


def _choice(info: inspect.EnumType | inspect.LiteralType) -> tuple[str, ...]:
    if isinstance(info, inspect.EnumType):
        return tuple(str(member.value) for member in info.cls if isinstance(member, Enum))
    return tuple(str(value) for value in info.values)


def _text_problems(value: str, info: inspect.StrType) -> Iterator[str]:
    if info.min_length is not None and len(value) < info.min_length:
        yield "is empty" if not value else f"has {len(value)} characters, and needs {info.min_length} or more"
        return
    if info.max_length is not None and len(value) > info.max_length:
        yield f"has {len(value)} characters, and may have {info.max_length} at most"
    if info.pattern is not None and not _pattern(info.pattern).search(value):
        yield f'"{shown(value)}" {_PATTERN_END}'


@cache
def _pattern(pattern: str) -> "re.Pattern[str]":
    """`$` also matches before a line end in Python, and nowhere else."""
    return re.compile(pattern.replace("$", r"\Z"))


def _number_problems(value: int | float, info: inspect.IntType | inspect.FloatType) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{value} is not a finite number"
    elif (info.ge is not None and value < info.ge) or (info.le is not None and value > info.le):
        low, high = info.ge, info.le
        if low is not None and high is not None:
            yield f"{value} is not in {low} to {high}"
        else:
            yield f"{value} is less than {low}" if low is not None else f"{value} is more than {high}"


def _fits(value: object, info: inspect.Type) -> bool:
    """Whether the value's own type is the one wanted, constraints aside."""
    match info:
        case inspect.Metadata():
            return _fits(value, info.type)
        case inspect.StrType() | inspect.EnumType() | inspect.LiteralType() | inspect.DateTimeType():
            return isinstance(value, str)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case inspect.StructType() | inspect.DictType():
            return isinstance(value, dict)
        case inspect.VarTupleType() | inspect.ListType():
            return isinstance(value, list)
        case _:
            return False


def _name(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata():
            return _name(info.type)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "an integer"
        case inspect.FloatType():
            return "a number"
        case inspect.StructType() | inspect.DictType():
            return "a mapping"
        case inspect.VarTupleType() | inspect.ListType():
            return "a list"
        case _:
            return "text"
