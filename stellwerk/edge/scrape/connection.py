"""One kept-alive HTTP/1.1 connection to a model server: GET, one at a time.

An own client, because a general one takes three times the CPU for a page, and busy servers are read twenty times a
second. `telemetry.answer` reads the bytes; here is the socket.
"""

import asyncio
import os
import time
from typing import cast

from stellwerk.telemetry.answer import Answer, AnswerReader, Broken


class Connection(asyncio.Protocol):
    """Made by `loop.create_connection`; of no more use once `is_closed`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str, max_body_bytes: int) -> None:
        self._loop = loop
        self._host = host
        self._max_body_bytes = max_body_bytes
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader(max_body_bytes)
        self._waiter: asyncio.Future[Answer | Broken] | None = None
        self._cost_seconds = 0.0
        self.is_closed = False
        self.has_answered = False
        """Whether any byte of an answer to the last request came."""

    async def get(self, path: str, accept: str) -> Answer | Broken:
        """Ask, and wait for the whole answer."""
        if self._transport is None or self.is_closed:
            return Broken("closed")
        self._reader = AnswerReader(self._max_body_bytes)
        self._waiter = self._loop.create_future()
        self.has_answered = False
        request = f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: {accept}\r\nUser-Agent: stellwerk\r\n\r\n"
        self._transport.write(request.encode())
        return await self._waiter

    def close(self) -> None:
        """At once; nothing is waited for."""
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()

    def take_cost(self) -> float:
        """CPU seconds spent on reading since the last call."""
        cost, self._cost_seconds = self._cost_seconds, 0.0
        return cost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        started = time.perf_counter()
        self.has_answered = True
        if self._waiter is None or self._waiter.done():
            self.close()  # bytes that nobody asked for
            return
        self._settle(self._reader.feed(data))
        self._cost_seconds += time.perf_counter() - started

    def eof_received(self) -> None:
        self.is_closed = True
        self._settle(self._reader.eof())

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        self._settle(Broken(reason(exc)) if isinstance(exc, OSError) else self._reader.eof())

    def _settle(self, answer: Answer | Broken | None) -> None:
        if answer is not None and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(answer)


def reason(error: OSError) -> str:
    """The system's words for the error, without addresses."""
    return (os.strerror(error.errno) if error.errno else type(error).__name__).lower()
