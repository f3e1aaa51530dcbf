"""What the client reads when the gateway says no: a typed answer in the shape its SDK expects.

OpenAI's shape everywhere, Anthropic's on the Messages API. Status, type, header value and retry hint of a reason stand
in one table, `model.reason`; here they only become bytes.
"""

import msgspec

from stellwerk.model.outcome import Refused
from stellwerk.model.request import Api

_ANTHROPIC = (Api.MESSAGES, Api.COUNT_TOKENS)
_encoder = msgspec.json.Encoder()


class Rendered(msgspec.Struct, frozen=True, gc=False):
    """A whole HTTP answer. Header names are lower-case; content-length is left to the proxy."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def render(refused: Refused, api: Api, request_id: str) -> Rendered:
    """The answer for `refused`. `request_id` must be printable ASCII: it becomes a header value."""
    rule = refused.reason.rule
    message = refused.message.encode("utf-8", "replace").decode()
    headers = _headers(request_id)
    if rule.dropped_reason is not None:
        headers.append(("x-llm-d-request-dropped-reason", rule.dropped_reason))
    retry_after = refused.retry_after_seconds if refused.retry_after_seconds is not None else rule.retry_after_seconds
    if retry_after is not None:
        headers.append(("retry-after", str(retry_after)))
    document: dict[str, object]
    if api in _ANTHROPIC:
        document = {
            "type": "error",
            "error": {"type": rule.anthropic_type, "message": message},
            "request_id": request_id,
        }
    else:
        error = {
            "message": message,
            "type": rule.openai_type,
            "param": refused.param,
            "code": refused.reason.value,
        }
        document = {"error": error}
    return Rendered(rule.status, tuple(headers), _encoder.encode(document))


def render_answer(status: int, body: bytes, request_id: str) -> Rendered:
    """An answer that the gateway gives by itself (`GET /v1/models`); `body` is JSON."""
    return Rendered(status, tuple(_headers(request_id)), body)


def _headers(request_id: str) -> list[tuple[str, str]]:
    headers = [("content-type", "application/json")]
    if request_id:
        headers.append(("x-request-id", request_id))
    return headers
