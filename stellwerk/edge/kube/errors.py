"""What an API server may answer instead of what was asked for, as one exception with the server's own reason."""

from typing import Any

import msgspec

from stellwerk.control.finding import shown

MAX_MESSAGE = 300


class ApiError(Exception):
    """A request did not succeed. `status` is HTTP's, 0 when there was no answer; `reason` is the server's word
    (`NotFound`, `Conflict`, `Expired`, ...), or `Unreachable`, `Timeout`, `TooLarge`, `Malformed`."""

    def __init__(self, status: int, reason: str, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else f"{reason}: {message}")
        self.status, self.reason, self.message = status, reason, message
        self.retry_after_seconds = retry_after_seconds

    @property
    def is_not_found(self) -> bool:
        """The object, or its whole kind, is not there."""
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """Somebody else wrote in between, or the object exists already."""
        return self.status == 409

    @property
    def is_expired(self) -> bool:
        """The resource version or continue token is too old: list again."""
        return self.status == 410

    @property
    def is_forbidden(self) -> bool:
        """We may not."""
        return self.status in (401, 403)

    @property
    def is_unanswered(self) -> bool:
        """Nobody answered, or not to the end."""
        return self.status == 0 and not self.is_unusable

    @property
    def is_unusable(self) -> bool:
        """Something was answered, and it is no good: asking again soon would get the same."""
        return self.reason in ("TooLarge", "Malformed")


def error_of(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """From an answer that is no success: a Status object, or whatever a proxy in between says."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        said = None
    return error_of_status(said if isinstance(said, dict) else {}, status, retry_after, body)


def error_of_status(
    said: dict[str, Any], status: int = 0, retry_after: str | None = None, body: bytes = b""
) -> ApiError:
    """From a Status object, also one that came as the last event of a watch."""
    code = said.get("code")
    number = status or (code if isinstance(code, int) else 500)
    reason = said.get("reason")
    message = said.get("message")
    return ApiError(
        number,
        shown(reason) if isinstance(reason, str) and reason else _REASONS.get(number, "Failed"),
        shown(message, MAX_MESSAGE) if isinstance(message, str) else shown(body.decode("utf-8", "replace"), 80),
        _seconds(retry_after, said),
    )


_REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired"}


def _seconds(header: str | None, said: dict[str, Any]) -> float | None:
    """How long the server asks to wait, up to a minute."""
    details = said.get("details")
    asked: Any = (
        header if header is not None else details.get("retryAfterSeconds") if isinstance(details, dict) else None
    )
    try:
        return min(60.0, max(0.0, float(asked))) if asked is not None else None
    except (TypeError, ValueError):
        return None
