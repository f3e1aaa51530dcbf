"""What Envoy says by itself, in the words of the client's API: JSON as OpenAI sends it, as Anthropic on /v1/messages.

Answers of model servers are never touched, and neither are those that the picker gave: this is about what Envoy makes
up (a body too large, no server reached, a silent picker). The first row that fits speaks; the picker's own answers
carry none of these details, so no row fits them.
"""

from collections.abc import Iterable

from msgspec import Struct

from stellwerk.control.envoy.document import Document, extension
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.model.reason import Reason

TUNNEL = "tunnel"
"""Name of the doorman's policy (`listener.doors`)."""
MISDIRECTED = "misdirected"
"""Another one, of a Gateway's HTTPS listeners."""

_NOT_HTTP = (
    "(response.code_details.startsWith('http1.') || response.code_details.startsWith('http2.') || "
    "response.code_details in ['missing_host_header', 'path_normalization_failed', 'low_version', "
    "'request_headers_too_large', 'missing_path_rejected', 'absolute_path_rejected'])"
)


class Reply(Struct, frozen=True):
    """One kind of answer. `when` is a CEL expression; `status` None keeps Envoy's. `%` in texts is Envoy's operator."""

    when: str
    code: str
    openai_type: str
    anthropic_type: str
    message: str
    status: int | None = None
    retry_after_seconds: int | None = None
    dropped_reason: str | None = None


def table(settings: EnvoySettings) -> list[Reply]:
    """All kinds; their conditions exclude each other."""
    return [*_of_the_request(settings), *_of_the_picker(settings), *_of_the_servers(settings)]


def _of_the_request(settings: EnvoySettings) -> list[Reply]:
    bad: tuple[str, str] = ("invalid_request_error", "invalid_request_error")
    protocol = "this gateway does not switch protocols: send the request without an Upgrade header, and not as CONNECT"
    return [
        _as(
            Reason.BODY_TOO_LARGE,
            _details("request_payload_too_large"),
            f"the request body is longer than {settings.max_body_bytes} bytes, the limit of this gateway "
            "(--max-body-bytes)",
        ),
        _as(Reason.UNSUPPORTED, _details("upgrade_failed", f"rbac_access_denied_matched_policy[{TUNNEL}]"), protocol),
        Reply(
            "response.code == 431 && " + _NOT_HTTP,
            "headers_too_large",
            *bad,
            "the request headers are too many or too long (%RESPONSE_CODE_DETAILS%): at most 100 of them and 60 KiB",
        ),
        Reply(_NOT_HTTP, "invalid_http", *bad, "the request is not valid HTTP (%RESPONSE_CODE_DETAILS%)"),
        Reply(
            "response.code == 408 && "
            + _details("request_overall_timeout", "request_header_timeout", "stream_idle_timeout"),
            "request_timeout",
            *bad,
            "the request did not arrive in time (%RESPONSE_CODE_DETAILS%)",
        ),
        Reply(
            _details("overload"),
            "overloaded",
            "server_error",
            "overloaded_error",
            "the gateway is short of memory: try again",
            retry_after_seconds=2,
        ),
    ]


def _of_the_picker(settings: EnvoySettings) -> list[Reply]:
    waited = f"the gateway's endpoint picker did not answer within {settings.message_seconds:g} s"
    return [
        Reply(
            f"{_details('direct_response')} && response.code == 504",
            "picker_timeout",
            "timeout_error",
            "timeout_error",
            f"{waited}, and no pool that is FailOpen serves this model: try again",
            retry_after_seconds=1,
        ),
        Reply(
            f"{_details('direct_response')} && response.code == 503",
            "picker_unavailable",
            "server_error",
            "api_error",
            "the gateway's endpoint picker is not available, and no pool that is FailOpen serves this model: try again",
            retry_after_seconds=1,
        ),
    ]


def _of_the_servers(settings: EnvoySettings) -> list[Reply]:
    return [
        _as(Reason.NO_ENDPOINTS, _details("no_healthy_upstream"), "this model's pool has no model server: try again"),
        _as(Reason.NO_POOL, _details("cluster_not_found"), "this model's pool is not ready yet: try again"),
        Reply(
            "response.code == 503 && response.code_details.startsWith('upstream_reset_before_response_started')",
            "upstream_unreachable",
            "server_error",
            "api_error",
            "the model server could not be reached, or closed the connection before it answered",
            retry_after_seconds=1,
        ),
        Reply(
            "response.code == 502",
            "upstream_broken",
            "server_error",
            "api_error",
            "the model server's answer is not valid HTTP, or ended too early (%RESPONSE_CODE_DETAILS%)",
        ),
        Reply(
            "response.code == 504 && " + _details("stream_idle_timeout", "upstream_response_timeout"),
            Reason.DEADLINE.value,
            "timeout_error",
            "timeout_error",
            f"the model server sent nothing for {settings.upstream_idle_seconds:g} s",
        ),
    ]


def table_of_routes(settings: EnvoySettings) -> list[Reply]:
    """All kinds where routes say which pool or Service is meant, and not the picker."""
    server: tuple[str, str] = ("server_error", "api_error")
    return [
        *_of_the_request(settings),
        Reply(
            _details(f"rbac_access_denied_matched_policy[{MISDIRECTED}]"),
            "misdirected_request",
            "invalid_request_error",
            "invalid_request_error",
            "this connection was opened for another name: open one for the host of the request",
            status=421,
        ),
        Reply(
            f"response.code == 404 && {_details('direct_response', 'route_not_found')}",
            "route_not_found",
            "not_found_error",
            "not_found_error",
            "no route of this gateway has this host and path",
        ),
        Reply(
            f"response.code == 500 && {_details('direct_response', 'cluster_not_found')}",
            "invalid_route",
            *server,
            "the route of this request has no backend that it could go to",
        ),
        Reply(
            "response.code_details.startsWith('ext_proc_error')",
            "picker_unavailable",
            *server,
            "the endpoint picker of this pool is not available, or did not answer in time: try again",
            status=503,
            retry_after_seconds=1,
        ),
        Reply(
            "response.code == 504 && " + _details("response_timeout", "upstream_per_try_timeout"),
            Reason.DEADLINE.value,
            "timeout_error",
            "timeout_error",
            "the answer took longer than the route of this request allows",
        ),
        *_of_the_servers(settings),
    ]


def local_replies(replies: Iterable[Reply]) -> Document:
    """The HTTP connection manager's `local_reply_config`."""
    mappers = []
    for reply in replies:
        mappers.append(_mapper(reply, _NOTHING, "request.method == 'HEAD'"))
        mappers.append(_mapper(reply, {"json_format": _anthropic(reply)}, "request.path.startsWith('/v1/messages')"))
        mappers.append(_mapper(reply, {"json_format": _openai(reply)}))
    return {"mappers": mappers}


_NOTHING: Document = {"text_format_source": {"inline_string": ""}}
"""An answer to HEAD has no body; it does not call that JSON, which some clients would parse."""


def _as(reason: Reason, when: str, message: str) -> Reply:
    rule = reason.rule
    return Reply(
        when,
        reason.value,
        rule.openai_type,
        rule.anthropic_type,
        message,
        rule.status,
        rule.retry_after_seconds,
        rule.dropped_reason,
    )


def _details(*texts: str) -> str:
    return f"response.code_details in [{', '.join(map(repr, texts))}]"


def _openai(reply: Reply) -> Document:
    error = {"message": reply.message, "type": reply.openai_type, "param": None, "code": reply.code}
    return {"error": error}


def _anthropic(reply: Reply) -> Document:
    error = {"type": reply.anthropic_type, "message": reply.message}
    return {"type": "error", "error": error, "request_id": "%REQ(x-request-id)%"}


def _mapper(reply: Reply, body: Document, also: str | None = None) -> Document:
    when = f"({reply.when}) && {also}" if also is not None else reply.when
    headers = {
        "x-llm-d-request-dropped-reason": reply.dropped_reason,
        "retry-after": reply.retry_after_seconds,
    }
    mapper: Document = {
        "filter": {
            "extension_filter": extension(
                "envoy.access_loggers.extension_filters.cel",
                "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                expression=when,
            )
        },
        "body_format_override": body,
        "headers_to_add": [
            {"header": {"key": key, "value": str(value)}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
            if value is not None
        ],
    }
    return mapper if reply.status is None else {**mapper, "status_code": reply.status}
