"""Checks one scalar against its type: what it may be, how long, how large, like which pattern. `schema` calls it."""

import math
import re
from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import inspect

from stellwerk.control.finding import advice, shown

_MOMENT: Any = Annotated[datetime, msgspec.Meta(tz=True)]
PATTERN_END = "does not match its pattern"


def scalar_problems(value: object, info: inspect.Type) -> Iterator[str]:
    """What is wrong with a value that `fits` its type."""
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
        yield f'"{shown(value)}" {PATTERN_END}'


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


def fits(value: object, info: inspect.Type) -> bool:
    """Whether the value's own type is the one wanted, constraints aside."""
    match info:
        case inspect.Metadata():
            return fits(value, info.type)
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


def name_of(info: inspect.Type) -> str:
    """What a type wants, for people."""
    match info:
        case inspect.Metadata():
            return name_of(info.type)
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
