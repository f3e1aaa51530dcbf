"""Why a request is not forwarded: one table from reason to what the client sees.

The names of `dropped_reason` are those of the reference picker (header `x-llm-d-request-dropped-reason`), so that
clients and dashboards written for it read ours. 429 means "capacity exists, but it is contended", 503 "there is none".
"""

from enum import Enum

from msgspec import Struct


class Rule(Struct, frozen=True):
    """What the client is told. `retry_after_seconds` is sent as `Retry-After`; None sends no such header."""

    status: int
    openai_type: str
    anthropic_type: str
    dropped_reason: str | None = None
    retry_after_seconds: int | None = None


class Reason(Enum):
    """The stable code of a refusal; its value stands in the error body (`code`), in metrics and in traces."""

    MALFORMED_BODY = "malformed_body"
    UNSUPPORTED = "unsupported"
    UNKNOWN_MODEL = "model_not_found"
    BODY_TOO_LARGE = "body_too_large"
    SATURATED = "saturated"
    QUEUE_FULL = "queue_full"
    EXPIRED = "expired"
    NO_ENDPOINTS = "no_endpoints"
    NO_POOL = "no_pool"
    SHUTTING_DOWN = "shutting_down"
    WITHDRAWN = "withdrawn"
    DEADLINE = "deadline_exceeded"
    INTERNAL = "internal_error"

    @property
    def rule(self) -> Rule:
        """The row of this reason."""
        return RULES[self]


RULES: dict[Reason, Rule] = {
    Reason.MALFORMED_BODY: Rule(400, "invalid_request_error", "invalid_request_error"),
    Reason.UNSUPPORTED: Rule(501, "invalid_request_error", "invalid_request_error"),
    Reason.UNKNOWN_MODEL: Rule(404, "invalid_request_error", "not_found_error"),
    Reason.BODY_TOO_LARGE: Rule(413, "invalid_request_error", "request_too_large"),
    Reason.SATURATED: Rule(429, "rate_limit_error", "rate_limit_error", "rejected-saturated", 1),
    Reason.QUEUE_FULL: Rule(429, "rate_limit_error", "rate_limit_error", "rejected-saturated", 1),
    Reason.EXPIRED: Rule(429, "rate_limit_error", "rate_limit_error", "rejected-ttl-expired", 1),
    Reason.NO_ENDPOINTS: Rule(503, "server_error", "overloaded_error", "rejected-no-endpoints", 2),
    Reason.NO_POOL: Rule(503, "server_error", "api_error", "rejected-no-endpoints", 2),
    Reason.SHUTTING_DOWN: Rule(503, "server_error", "api_error", "rejected-shutting-down", 1),
    Reason.WITHDRAWN: Rule(503, "server_error", "api_error", "rejected-context-cancelled"),
    Reason.DEADLINE: Rule(504, "timeout_error", "timeout_error"),
    Reason.INTERNAL: Rule(500, "server_error", "api_error"),
}
