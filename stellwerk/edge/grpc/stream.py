"""One call on one connection: the state both directions keep about it, and what its handler may do with it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from stellwerk.edge.grpc.head import Head
from stellwerk.edge.grpc.service import Handler
from stellwerk.edge.grpc.status import Status

if TYPE_CHECKING:
    from stellwerk.edge.grpc.connection import Connection

_FREE_UPDATES: Final = 4
"""Some clients enlarge a stream's window as soon as they have opened it."""


class Stream:
    """A `service.Call`. State is written by `Connection`, `Intake` and `Outflow` only, each its own part."""

    __slots__ = (
        "body",
        "connection",
        "content_left",
        "encoding",
        "ending",
        "handler",
        "has_answered",
        "held",
        "id",
        "is_over",
        "is_paused",
        "is_peer_done",
        "metadata",
        "need",
        "opened_at",
        "outbox",
        "path",
        "receive_window",
        "reserved",
        "send_window",
        "unread",
        "unsent_bytes",
        "updates_left",
    )

    def __init__(
        self, connection: Connection, stream_id: int, head: Head, receive_window: int, send_window: int, now: float
    ) -> None:
        self.connection = connection
        self.id = stream_id
        self.path = head.path
        self.metadata = head.fields
        self.opened_at = now
        self.handler: Handler | None = None
        """The edge's: who is told about this call."""
        self.is_over = False
        self.is_peer_done = False
        self.content_left = head.content_bytes
        self.encoding = head.encoding

        self.receive_window = receive_window
        self.is_paused = False
        self.unread: bytes | bytearray = b""
        """What has come of an unfinished message that cannot be read yet, its prefix included: less than the five bytes
        of a prefix, or compressed."""
        self.body: bytearray | None = None
        """What has come of an unfinished message after its prefix, unless it is compressed."""
        self.need = 0
        """Bytes of the unfinished message's body, once its prefix is known."""
        self.held = 0
        """Bytes of the unfinished message, prefix included."""
        self.reserved = 0
        """What `Intake` has set aside for the unfinished message."""

        self.send_window = send_window
        self.updates_left = _FREE_UPDATES
        """Window updates of this stream that do not count as noise."""
        self.has_answered = False
        """Response headers are written."""
        self.outbox: deque[bytes | memoryview] | None = None
        self.unsent_bytes = 0
        self.ending: tuple[Status, str] | None = None
        """Set by `finish`; trailers follow once the outbox is empty."""

    def send(self, *messages: bytes) -> None:
        if self.ending is None and not self.is_over:
            self.connection.send(self, messages)

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        if self.ending is None and not self.is_over:
            self.connection.finish(self, status, message)

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        if self.is_paused and self.ending is None and not self.is_over:
            self.is_paused = False
            self.connection.resume(self)
