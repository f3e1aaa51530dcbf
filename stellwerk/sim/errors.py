"""Error answers as vLLM words them: its own errors, and the validator's complaints about a body."""

import json
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

JSON = "application/json"


class ApiError(Exception):
    """A request that is answered with an error. Raised by body readers, caught once where requests are routed."""

    def __init__(self, status: int, message: str, kind: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param

    def body(self) -> bytes:
        """`{"error": {"message", "type", "param", "code"}}`."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}
        return msgspec.json.encode({"error": error})

    def anthropic_body(self) -> bytes:
        """`{"type": "error", "error": {"type", "message"}}`."""
        return msgspec.json.encode({"type": "error", "error": {"type": self.kind, "message": self.message}})


class Complaint(Struct, frozen=True):
    """One finding of the validator: its kind, the field, its words."""

    kind: str
    location: str
    message: str


def plain(status: int) -> ApiError:
    """What the web framework answers by itself: 404, 405."""
    phrase = HTTPStatus(status).phrase
    return ApiError(status, phrase, phrase)


def bad(message: str, param: str | None = None) -> ApiError:
    """400 from vLLM itself."""
    return ApiError(400, message, "BadRequestError", param)


def complaint(kind: str, field: str, message: str, body: Any) -> ApiError:
    """400 from the validator about one field of `body`."""
    location = f"body.{field}" if field else "body"
    text = (
        f"1 validation error:\n  {{'type': '{kind}', 'loc': '{location}', 'msg': '{message}', 'input': {_shown(body)}}}"
    )
    return ApiError(400, text, "Bad Request", location)


def missing(field: str, body: Any) -> ApiError:
    """400: a required field is not there."""
    return complaint("missing", field, "Field required", body)


def malformed(raw: bytes) -> ApiError:
    """400 for a body that is not JSON; says where, as Python's parser does."""
    try:
        json.loads(raw)
    except json.JSONDecodeError as error:
        position, reason = error.pos, error.msg
    except (ValueError, RecursionError):
        return ApiError(400, "There was an error parsing the body", "Bad Request")
    else:
        position, reason = 0, "JSON decode error"
    text = (
        f"1 validation error:\n  {{'type': 'json_invalid', 'loc': 'body.{position}', 'msg': 'JSON decode error', "
        f"'input': '<dict of 0 items>', 'ctx': {{'error': {reason!r}}}}}"
    )
    return ApiError(400, text, "Bad Request", f"body.{position}")


def unknown_model(name: str, served: tuple[str, ...]) -> ApiError:
    """404: no such model or adapter here."""
    message = f"The model `{name}` does not exist. Valid aliases: {', '.join(served)}."
    return ApiError(404, message, "NotFoundError", "model")


def prompt_too_long(limit: int) -> ApiError:
    """400: the prompt alone exceeds the context."""
    return bad(
        f"This model's maximum context length is {limit} tokens. However, your prompt contains at least {limit + 1} "
        "input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input "
        f"prompt. (parameter=input_tokens, value={limit + 1})",
        "input_tokens",
    )


def answer_too_long(limit: int, output: int) -> ApiError:
    """400: prompt and wanted answer together exceed the context."""
    least = max(limit - output + 1, 0)
    return bad(
        f"This model's maximum context length is {limit} tokens. However, you requested {output} output tokens and "
        f"your prompt contains at least {least} input tokens, for a total of at least {least + output} tokens. Please "
        "reduce the length of the input prompt or the number of requested output tokens. "
        f"(parameter=input_tokens, value={least})",
        "input_tokens",
    )


def _shown(body: Any) -> str:
    if isinstance(body, dict):
        return f"'<dict of {len(body)} items>'"
    if isinstance(body, list):
        return f"'<list of {len(body)} items>'"
    return repr(body if not isinstance(body, str) else body[:64])
