"""What a gRPC service sees of the transport: a call it can send on, and the events it is told.

Payloads are serialised protobuf messages; this layer knows no message types.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from stellwerk.edge.grpc.status import Status


class Call(Protocol):
    """One call, server side; its methods never raise and never block, and do nothing once the call is over."""

    @property
    def path(self) -> str:
        """`/package.Service/Method`."""

    @property
    def metadata(self) -> Sequence[tuple[bytes, bytes]]:
        """Request headers as received, lower-case names, pseudo headers included."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes accepted by `send` that the peer's windows have not let out yet."""

    def send(self, *messages: bytes) -> None:
        """Queue messages, in order. Written at the end of the current turn, together with whatever else is due."""

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        """Send what is queued, then the trailers."""

    def pause(self) -> None:
        """Grant the peer no more window on this stream, until `resume`: back-pressure."""

    def resume(self) -> None:
        """Grant window again."""


class Handler(Protocol):
    """What one call's service implements. Called in order, never re-entrantly."""

    def on_message(self, message: bytes) -> None:
        """One whole message."""

    def on_half_close(self) -> None:
        """The peer will send no more messages."""

    def on_closed(self) -> None:
        """The call is over, however it ended: trailers sent, reset by either side, connection lost, deadline passed.
        Called exactly once, always last."""


Service = Callable[[Call], Handler]
"""Called with each new call; raising `stellwerk.edge.grpc.status.GrpcError` refuses it with that status."""
