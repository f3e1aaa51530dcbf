"""One socket's connection: bytes between asyncio and the machine, events to the handlers."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Container, Mapping
from math import inf
from typing import Final, cast

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc.connection import Connection
from stellwerk.edge.grpc.counters import Counters
from stellwerk.edge.grpc.events import Closed, Event, HalfClosed, Message, Opened
from stellwerk.edge.grpc.outflow import CHUNK_BYTES
from stellwerk.edge.grpc.service import Service
from stellwerk.edge.grpc.status import GrpcError, Status
from stellwerk.edge.grpc.stream import Stream

LINGER_SECONDS: Final = 1.0
"""How long a closed connection waits for the peer to read our last words."""
_WRITE_BUFFER_BYTES: Final = 256 * 1024
_log = logging.getLogger("stellwerk.grpc")


class Link(asyncio.Protocol):
    """One accepted socket. Owner: the server, which `on_made` asks for admission, `on_planned` tells when a tick is
    wanted, and `on_gone` tells the end."""

    def __init__(
        self,
        services: Mapping[str, Service],
        limits: TransportLimits,
        counters: Counters,
        on_made: Callable[["Link"], bool],
        on_planned: Callable[[float], None],
        on_gone: Callable[["Link"], None],
    ) -> None:
        self._services = services
        self._limits = limits
        self._counters = counters
        self._on_made = on_made
        self._on_planned = on_planned
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._machine = Connection(limits, counters, self._loop.time(), self._wake)
        self._transport: asyncio.Transport | None = None
        self._is_turn_due = False
        self._is_paused = False
        self._lingers_until = inf
        self._planned_at = inf

    @property
    def next_at(self) -> float:
        """Monotonic seconds at which `tick` is wanted."""
        return min(self._machine.next_at, self._lingers_until)

    # -- asyncio ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        if not self._on_made(self):
            transport.abort()
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._turn()

    def data_received(self, data: bytes) -> None:
        self._is_turn_due = True
        self._machine.receive(data, self._loop.time())
        self._turn()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._is_paused = True
        self._machine.cork(True)

    def resume_writing(self) -> None:
        self._is_paused = False
        self._machine.cork(False)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        self._transport = None
        self._machine.abandon()
        self._deliver()
        self._on_gone(self)

    # -- the server -------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Time has passed."""
        if now >= self._lingers_until:
            self.abort()
            return
        self._machine.tick(now)
        self._wake()

    def is_busy(self, standing: Container[str]) -> bool:
        """Whether there are calls of other paths than these."""
        return any(path not in standing for path in self._machine.paths())

    def drain(self) -> None:
        """Finish what runs, then close."""
        self._machine.drain(self._loop.time())
        self._wake()

    def shut(self, message: str) -> None:
        """End all calls with UNAVAILABLE, then close."""
        self._machine.shut(message)
        self._wake()

    def abort(self) -> None:
        """Close without another word."""
        if self._transport is not None:
            self._transport.abort()

    # -- turns ------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Have one turn soon, however many calls ask for it."""
        if not self._is_turn_due:
            self._is_turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Tell handlers what happened, and write what is due, until neither brings more."""
        self._is_turn_due = True
        machine = self._machine
        while self._transport is not None:
            if machine.events:
                self._deliver()
            output = b"" if self._is_paused else machine.output()
            if output:
                self._transport.write(output)
            if len(output) < CHUNK_BYTES and not machine.events:
                break
        self._is_turn_due = False
        if machine.is_closing:
            self._leave()
        if machine.next_at != self._planned_at:
            self._planned_at = machine.next_at
            self._on_planned(self._planned_at)

    def _leave(self) -> None:
        """Close, giving the peer a moment to read why: closing a socket with unread input would reset it."""
        transport = self._transport
        if transport is None or self._lingers_until < inf:
            return
        self._lingers_until = self._loop.time() + LINGER_SECONDS
        self._on_planned(self._lingers_until)
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def _deliver(self) -> None:
        """Handle the events, and those that handling brings."""
        events = self._machine.events
        for event in events:
            try:
                self._tell(event)
            except GrpcError as error:
                event.stream.finish(error.status, error.message)
            except Exception as error:  # noqa: BLE001 - the one door of a stream: its bug must not reach the others
                self._counters.handler_errors += 1
                _log.error("handler failed", extra={"fields": {"path": event.stream.path, "error": _where(error)}})
                event.stream.finish(Status.INTERNAL, "internal error")
        events.clear()

    def _tell(self, event: Event) -> None:
        stream = event.stream
        handler = stream.handler
        kind = type(event)
        if kind is Opened:
            self._begin(stream)
        elif handler is None:
            return
        elif kind is Closed:
            stream.handler = None  # no cycle is left for the garbage collector
            handler.on_closed()
        elif stream.ending is not None:
            return
        elif isinstance(event, Message):
            handler.on_message(event.payload)
        elif kind is HalfClosed:
            handler.on_half_close()

    def _begin(self, stream: Stream) -> None:
        service = self._services.get(stream.path)
        if service is None:
            raise GrpcError(Status.UNIMPLEMENTED, f"no such method: {stream.path[:200]}")
        stream.handler = service(stream)


def _where(error: Exception) -> str:
    """Kind and place of a bug; never its message, which may quote a request."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place
