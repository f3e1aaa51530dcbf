"""gRPC status codes (grpc.io, "Status codes and their use in gRPC")."""

from enum import IntEnum


class Status(IntEnum):
    """The numeric code is what `grpc-status` carries."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14

    @property
    def shown(self) -> str:
        """As Go names it, for metrics: `InvalidArgument`."""
        return {"OK": "OK", "CANCELLED": "Canceled"}.get(self.name) or self.name.title().replace("_", "")


class GrpcError(Exception):
    """Refuses or ends a call with `status`."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
