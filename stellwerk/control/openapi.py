"""From the types that check files to the OpenAPI schema that an API server checks objects with.

Bounds, patterns, enums and defaults are read off the types, rules over several values off the table of `rules`, and
descriptions off the docstrings; so a file that is right here is right in a cluster. `crds` wraps the result.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from msgspec import inspect

from stellwerk.control.schema import Rule, Rules, type_info

Schema = dict[str, Any]

_INT32, _INT64 = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1)


def schema_of(wanted: type, rules: Rules) -> Schema:
    """A structural schema of `wanted`, which is a struct."""
    return _schema(type_info(wanted), rules)


def _schema(info: inspect.Type, rules: Rules) -> Schema:
    match info:
        case inspect.Metadata():
            return {**_schema(info.type, rules), **(info.extra_json_schema or {})}
        case inspect.StructType():
            return _object(info, rules)
        case inspect.VarTupleType() | inspect.ListType():
            items = _schema(info.item_type, rules)
            return {"type": "array", "items": items, **_given(minItems=info.min_length, maxItems=info.max_length)}
        case inspect.DictType():
            return _map(info, rules)
        case inspect.UnionType():
            (member,) = (member for member in info.types if not isinstance(member, inspect.NoneType))
            return _schema(member, rules)
        case _:
            return _scalar(info)


def _object(info: inspect.StructType, rules: Rules) -> Schema:
    """A struct; rules about one field go to that field, since the API server names the place of the rule."""
    properties: Schema = {}
    for field in info.fields:
        part = _schema(field.type, rules)
        if (default := _default(field)) is not None:
            part["default"] = default
        if own := _validations(info.cls, field.encode_name, rules):
            part["x-kubernetes-validations"] = [*part.get("x-kubernetes-validations", ()), *own]
        properties[field.encode_name] = part
    required = [field.encode_name for field in info.fields if field.required]
    validations = _validations(info.cls, None, rules)
    return {
        "type": "object",
        **_given(description=_text(info.cls)),
        "properties": properties,
        **({"required": required} if required else {}),
        **({"x-kubernetes-validations": validations} if validations else {}),
    }


def _map(info: inspect.DictType, rules: Rules) -> Schema:
    """A map of texts. OpenAPI bounds no keys, so what their annotation says in CEL becomes a rule."""
    schema: Schema = {
        "type": "object",
        "additionalProperties": _schema(info.value_type, rules),
        **_given(minProperties=info.min_length, maxProperties=info.max_length),
    }
    key = info.key_type
    if isinstance(key, inspect.Metadata) and key.extra and "cel" in key.extra:
        rule = f"self.all(key, {key.extra['cel']})"
        schema["x-kubernetes-validations"] = [{"rule": rule, "message": f"every key must be {key.extra['is']}"}]
    return schema


def _scalar(info: inspect.Type) -> Schema:
    match info:
        case inspect.StrType():
            bounds = _given(minLength=info.min_length, maxLength=info.max_length, pattern=info.pattern)
            return {"type": "string", **bounds}
        case inspect.IntType():
            low, high = info.ge, info.le
            if (low, high) == _INT64:
                return {"type": "integer", "format": "int64"}
            is_small = low is not None and high is not None and low >= _INT32[0] and high <= _INT32[1]
            return {"type": "integer", "format": "int32" if is_small else "int64", **_given(minimum=low, maximum=high)}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.EnumType():
            return {"type": "string", "enum": [str(member.value) for member in _members(info.cls)]}
        case inspect.DateTimeType():
            return {"type": "string", "format": "date-time"}
        case inspect.AnyType():
            return {"x-kubernetes-preserve-unknown-fields": True}
        case _:
            raise TypeError(f"no schema is known for {type(info).__name__}")


def _members(cls: type[Enum]) -> Iterable[Enum]:
    return list(cls)


def _default(field: inspect.Field) -> str | int | bool | None:
    """What the API server is to fill in; an absent or empty value needs no filling in."""
    value = field.default.value if isinstance(field.default, Enum) else field.default
    return value if isinstance(value, str | int) else None


def _validations(cls: type, field: str | None, rules: Rules) -> list[Schema]:
    return [_validation(rule) for rule in rules.get(cls, ()) if rule.field == field]


def _validation(rule: Rule) -> Schema:
    """A rule in CEL. A message about the value is an expression; the plain one stands in where that fails."""
    if "{value}" not in rule.message:
        return {"rule": rule.cel, "message": rule.message}
    before, _, after = rule.message.partition("{value}")
    expression = f"{_literal(before)} + self + {_literal(after)}"
    plain = f"{before}{after}".replace('""', "the value").strip()
    return {"rule": rule.cel, "message": plain, "messageExpression": expression}


def _literal(text: str) -> str:
    """`text` as strings of CEL. Raw ones, as API servers read escapes in their own way; a raw one cannot hold its own
    quotes, so those stand between."""
    assert "\n" not in text
    parts = [f"r'{part}'" for part in text.split("'")]
    return """ + "'" + """.join(parts)


def _text(cls: type) -> str | None:
    """The docstring in one line, without the marks of code."""
    return " ".join(cls.__doc__.split()).replace("`", "") if cls.__doc__ else None


def _given(**bounds: object) -> Mapping[str, object]:
    return {name: bound for name, bound in bounds.items() if bound is not None}
