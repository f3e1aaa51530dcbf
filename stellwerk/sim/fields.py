"""Reading a JSON body's fields with the validator's complaints; unknown fields are ignored, as vLLM does."""

from typing import Any

import msgspec

from stellwerk.sim import errors
from stellwerk.sim.answers import AnswerLimits

Body = dict[str, Any]


def read(raw: bytes) -> Body:
    """The body as an object. Raises ApiError."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.malformed(raw) from None
    if not isinstance(body, dict):
        raise errors.complaint("model_attributes_type", "", "Input should be a valid dictionary", body)
    return body


def integer(body: Body, name: str, default: int | None = None) -> int | None:
    """A whole number; absent and null are the default."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise errors.complaint("int_type", name, "Input should be a valid integer", body)
    return value


def flag(body: Body, name: str) -> bool:
    """A boolean; absent and null are false."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise errors.complaint("bool_type", name, "Input should be a valid boolean", body)
    return bool(value)


def string(body: Body, name: str) -> str | None:
    """A string; absent and null are None."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise errors.complaint("string_type", name, "Input should be a valid string", body)
    return value


def required(body: Body, name: str) -> Any:
    """Any value that must be there."""
    if name not in body:
        raise errors.missing(name, body)
    return body[name]


def messages(body: Body) -> list[Body]:
    """The list of messages of a chat."""
    value = required(body, "messages")
    if not isinstance(value, list):
        raise errors.complaint("list_type", "messages", "Input should be a valid list", body)
    for i, one in enumerate(value):
        if not isinstance(one, dict):
            raise errors.complaint("dict_type", f"messages.{i}", "Input should be a valid dictionary", body)
    return value


def choices(body: Body) -> int:
    """`n`: 1 to 128."""
    n = integer(body, "n", 1)
    assert n is not None
    if not 1 <= n <= 128:
        raise errors.bad(f"n must be at least 1 and at most 128, got {n}.", "n")
    return n


def limits(body: Body, prompt_tokens: int, context: int, default: int | None, *names: str) -> AnswerLimits:
    """How long the answer may be: the first of `names` that is given, else `default`, else what the context leaves."""
    if prompt_tokens > context - 1:
        raise errors.prompt_too_long(context)
    name = next((one for one in names if body.get(one) is not None), names[0])
    asked = integer(body, name)
    if asked is not None and asked < 1:
        raise errors.bad(f"{name} must be at least 1, got {asked}. (parameter={name}, value={asked})", name)
    if asked is not None and prompt_tokens + asked > context:
        raise errors.answer_too_long(context, asked)
    room = context - prompt_tokens
    most = asked if asked is not None else min(default or room, room)
    least = integer(body, "min_tokens", 0) or 0
    if not 0 <= least <= most:
        raise errors.bad(f"min_tokens must be at least 0 and at most max_tokens={most}, got {least}.", "min_tokens")
    return AnswerLimits(most, least, flag(body, "ignore_eos"), _stops(body))


def _stops(body: Body) -> tuple[str, ...]:
    value = body.get("stop", body.get("stop_sequences"))
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise errors.complaint("list_type", "stop", "Input should be a valid list", body)
    return tuple(value)
