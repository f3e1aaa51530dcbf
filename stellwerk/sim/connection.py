"""One client connection of a simulated server: an asyncio Protocol that hands complete requests to a plain function.

No task per request: the handler answers through the `Exchange` it is given, now or later. Answers look like uvicorn's
(same header names, order and framing). Requests of one connection are answered one after the other.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

from msgspec import Struct

from stellwerk.sim.http1 import BadRequest, HttpLimits, HttpRequest, RequestReader

Header = tuple[str, str]
_STATUS_LINE = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_LINGER_SECONDS = 2.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Date:
    """The `date` header, formatted once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self) -> str:
        """IMF-fixdate of now."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True)
        return self._text


class ConnectionSettings(Struct, frozen=True):
    """Bounds and times of a connection."""

    limits: HttpLimits = HttpLimits()
    keep_alive_seconds: float = 60.0
    """An idle connection is closed after so long."""
    request_seconds: float = 60.0
    """A request that has begun must be complete after so long."""


class Exchange:
    """One request and the way to answer it. `on_closed` is called once if the client leaves before the end."""

    __slots__ = (
        "_connection",
        "_has_begun",
        "_is_chunked",
        "_is_head",
        "_sent_bytes",
        "_status",
        "echo",
        "is_over",
        "on_answered",
        "on_closed",
        "on_resumed",
        "path",
        "query",
        "received_at",
        "request",
        "reset_after_tokens",
    )  # fmt: skip

    def __init__(self, connection: "Connection", request: HttpRequest, received_at: float) -> None:
        self._connection = connection
        self._is_head = request.method == "HEAD"
        self._is_chunked = not request.is_http10
        self._has_begun = False
        self.request = request
        self.path, _, self.query = request.target.partition("?")
        self.received_at = received_at
        self.is_over = False
        self.echo: tuple[Header, ...] = ()
        """Headers added to the answer."""
        self.on_closed: Callable[[], None] | None = None
        self.reset_after_tokens: int | None = None
        """Fault in force: break the connection after so many tokens of the answer."""
        self.on_answered: Callable[[int, int], None] | None = None
        """Called once with status and body size when the answer is complete."""
        self._status = 0
        self._sent_bytes = 0
        self.on_resumed: Callable[[], None] | None = None
        """Called when a slow client has taken what was written."""

    @property
    def is_congested(self) -> bool:
        """Whether the client reads more slowly than we write: keep further chunks back until `on_resumed`."""
        return self._connection.is_congested

    def reply(
        self, status: int, body: bytes, content_type: str | None = None, headers: tuple[Header, ...] = ()
    ) -> None:
        """The whole answer."""
        if self.is_over:
            return
        self._status, self._sent_bytes = status, len(body)
        head = self._head(status, f"content-length: {len(body)}\r\n", content_type, headers)
        self._connection.write(head if self._is_head else head + body)
        self._end()

    def begin(self, status: int, content_type: str, headers: tuple[Header, ...] = ()) -> None:
        """Headers of a streamed answer. uvicorn sends them at once, so do we."""
        if self.is_over:
            return
        self._status = status
        framing = "transfer-encoding: chunked\r\n" if self._is_chunked else "connection: close\r\n"
        self._connection.write(self._head(status, "", content_type, headers, framing))
        self._has_begun = True

    def send(self, *chunks: bytes) -> None:
        """Chunks of a streamed answer, each framed by itself, written together."""
        if self.is_over or self._is_head:
            return
        if not self._is_chunked:
            self._connection.write(b"".join(chunks))
            return
        framed: list[bytes] = []
        for chunk in chunks:
            framed += (b"%x\r\n" % len(chunk), chunk, b"\r\n")
        self._connection.write(b"".join(framed))

    def finish(self, *chunks: bytes) -> None:
        """Last chunks and the end of a streamed answer."""
        if self.is_over:
            return
        self.send(*chunks)
        if self._is_chunked and not self._is_head:
            self._connection.write(b"0\r\n\r\n")
        self._end()

    def reset(self) -> None:
        """Break the connection: the client sees a TCP reset."""
        self._connection.reset()

    def _head(
        self, status: int, length: str, content_type: str | None, headers: tuple[Header, ...], tail: str = ""
    ) -> bytes:
        kind = f"content-type: {content_type}\r\n" if content_type else ""
        more = "".join(f"{name}: {value}\r\n" for name, value in headers + self.echo)
        close = "" if self.request.keeps_alive or tail else "connection: close\r\n"
        text = (
            f"{_STATUS_LINE[status]}date: {self._connection.date.text()}\r\nserver: uvicorn\r\n{length}{kind}"
            f"vary: Origin\r\n{more}{close}{tail}\r\n"
        )
        return text.encode("latin-1", "replace")

    def _end(self) -> None:
        self.is_over = True
        self.on_closed = self.on_resumed = None
        if self.on_answered is not None:
            self.on_answered(self._status, self._sent_bytes)
        keeps = self.request.keeps_alive and (self._is_chunked or not self._has_begun)
        self._connection.ended(keeps)

    def closed(self) -> None:
        """The connection is gone."""
        on_closed, self.on_closed, self.on_resumed = self.on_closed, None, None
        self.is_over = True
        if on_closed is not None:
            on_closed()


Handler = Callable[[Exchange], None]


class Connections:
    """All connections of one listener; closes those that wait too long. One sweep a second, no timer per connection."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self.date = Date()
        self._all: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: "Connection") -> None:
        """A client connected."""
        self._all.add(connection)

    def discard(self, connection: "Connection") -> None:
        """A client is gone."""
        self._all.discard(connection)

    def sweep(self, now: float) -> None:
        """Close the overdue ones."""
        for connection in list(self._all):
            if connection.deadline is not None and connection.deadline <= now:
                connection.expire()

    def close_all(self) -> None:
        """Break connections that wait for an answer; close idle ones, so that what was answered arrives."""
        for connection in list(self._all):
            connection.leave()


class Connection(asyncio.Protocol):
    """Bytes in, `Exchange` out to the handler, answers back."""

    def __init__(self, group: Connections, handler: Handler) -> None:
        self._group = group
        self._handler = handler
        self._reader = RequestReader(group.settings.limits)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._is_pumping = False
        self._is_reading = True
        self._is_ending = False
        """No request is taken any more: the client sent something we refused."""
        self._loop = asyncio.get_running_loop()
        self.date = group.date
        self.is_congested = False
        self.deadline: float | None = None
        """When the connection is overdue, by the loop's clock; None while a request is answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        # uvloop's transports are no subclasses of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._group.add(self)
        self.deadline = self._loop.time() + self._group.settings.request_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: gone."""
        self._group.discard(self)
        self._transport = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.closed()

    def eof_received(self) -> bool:
        """asyncio: the client closed its side. As for uvicorn, it is gone: what it asked for is aborted."""
        return False

    def pause_writing(self) -> None:
        """asyncio: the client reads slowly."""
        self.is_congested = True

    def resume_writing(self) -> None:
        """asyncio: the client caught up."""
        self.is_congested = False
        if self._exchange is not None and self._exchange.on_resumed is not None:
            self._exchange.on_resumed()

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes."""
        if self._is_ending:
            return
        self._reader.receive(data)
        if self._exchange is None:
            self._pump()
        elif self._is_reading and self._reader.buffered > self._group.settings.limits.max_head_bytes:
            self._is_reading = False
            if self._transport is not None:
                self._transport.pause_reading()

    def _pump(self) -> None:
        """Hand over requests until one is not answered at once or bytes run out."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while self._exchange is None and self._transport is not None and not self._transport.is_closing():
                request = self._reader.next()
                if request is None:
                    self._wait_for_more()
                    return
                self.deadline = None
                self._exchange = Exchange(self, request, self._loop.time())
                self._handler(self._exchange)
        except BadRequest as bad:
            self._refuse(bad)
        finally:
            self._is_pumping = False

    def _wait_for_more(self) -> None:
        settings = self._group.settings
        if not self._reader.is_inside:
            self.deadline = self._loop.time() + settings.keep_alive_seconds
        elif self.deadline is None:
            self.deadline = self._loop.time() + settings.request_seconds
        if self._reader.wants_continue:
            self._reader.wants_continue = False
            self.write(_CONTINUE)
        if not self._is_reading and self._transport is not None:
            self._is_reading = True
            self._transport.resume_reading()

    def _refuse(self, bad: BadRequest) -> None:
        body = bad.message.encode()
        head = (
            f"{_STATUS_LINE[bad.status]}content-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.write(head.encode() + body)
        self._is_ending = True
        self.deadline = self._loop.time() + _LINGER_SECONDS
        if self._transport is not None and not self._transport.is_closing():
            # Closing with unread input would reset the connection and could take the answer with it.
            self._transport.write_eof()

    def write(self, data: bytes) -> None:
        """Bytes to the client."""
        if self._transport is not None:
            self._transport.write(data)

    def ended(self, keeps_alive: bool) -> None:
        """The exchange is answered: the next request, or the end."""
        self._exchange = None
        if self._transport is None:
            return
        if not keeps_alive or self._is_ending:
            self._transport.close()
        elif not self._is_pumping:
            self._pump()

    def expire(self) -> None:
        """Overdue."""
        if self._transport is not None:
            self._transport.close()

    def leave(self) -> None:
        """The server goes away."""
        if self._exchange is not None:
            self.reset()
        else:
            self.expire()

    def reset(self) -> None:
        """Break it without a goodbye: RST instead of FIN."""
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()
