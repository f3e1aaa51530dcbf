"""Types to OpenAPI schemas, one construct at a time."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from stellwerk.control.openapi import schema_of
from stellwerk.control.schema import Rule, Rules


class Colour(Enum):
    RED = "red"


class Inner(Struct):
    """Inside, `quoted`,
    over two lines."""

    size: int


class Outer(Struct, rename="camel"):
    one_text: Annotated[str, Meta(min_length=1, pattern="^a$")]
    colour: Colour = Colour.RED
    is_on: bool = False
    when: datetime | None = None
    inner: Inner | None = None
    parts: Annotated[tuple[Inner, ...], Meta(max_length=3)] = ()
    labels: dict[str, str] = {}
    anything: Any = None


def test_each_construct_has_its_schema() -> None:
    inner = {
        "type": "object",
        "description": "Inside, quoted, over two lines.",
        "properties": {"size": {"type": "integer", "format": "int64"}},
        "required": ["size"],
    }
    assert schema_of(Outer, {})["properties"] == {
        "oneText": {"type": "string", "minLength": 1, "pattern": "^a$"},
        "colour": {"type": "string", "enum": ["red"], "default": "red"},
        "isOn": {"type": "boolean", "default": False},
        "when": {"type": "string", "format": "date-time"},
        "inner": inner,
        "parts": {"type": "array", "items": inner, "maxItems": 3},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "anything": {"x-kubernetes-preserve-unknown-fields": True},
    }
    assert schema_of(Outer, {})["required"] == ["oneText"]


def test_a_rule_goes_to_its_field_or_to_the_whole() -> None:
    rules: Rules = {
        Inner: (
            Rule("too small", "self > 1", lambda _: True, field="size"),
            Rule("odd", "self.size % 2 == 0", lambda _: True),
        )
    }
    schema = schema_of(Inner, rules)
    assert schema["x-kubernetes-validations"] == [{"rule": "self.size % 2 == 0", "message": "odd"}]
    assert schema["properties"]["size"]["x-kubernetes-validations"] == [{"rule": "self > 1", "message": "too small"}]


def test_a_message_with_the_value_becomes_an_expression() -> None:
    rules: Rules = {Inner: (Rule('"{value}" isn\'t it', "self != ''", lambda _: True),)}
    (validation,) = schema_of(Inner, rules)["x-kubernetes-validations"]
    assert validation["messageExpression"] == """r'"' + self + r'" isn' + "'" + r't it'"""
    assert validation["message"] == "the value isn't it"


def test_a_type_without_a_schema_is_a_bug() -> None:
    class Odd(Struct):
        value: complex

    with pytest.raises(TypeError, match="no schema is known for"):
        schema_of(Odd, {})
