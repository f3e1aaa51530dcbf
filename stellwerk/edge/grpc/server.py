"""A gRPC server: listeners, its connections, and the one timer that looks after them."""

import asyncio
import contextlib
import os
import ssl
import stat
from collections.abc import Container, Mapping
from math import inf
from typing import Final

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc.counters import Counters
from stellwerk.edge.grpc.health import WATCH
from stellwerk.edge.grpc.link import LINGER_SECONDS, Link
from stellwerk.edge.grpc.service import Service

_BACKLOG: Final = 1024
_POLL_SECONDS: Final = 0.05
_LAST_WORDS_SECONDS: Final = 0.5
_TICK_SECONDS: Final = 0.01
"""Deadlines closer together than this share one wake-up."""


class GrpcServer:
    """Serves `services`, by path, on any number of listeners. Bound to the running event loop.

    Calls of the paths in `standing` last as long as their peer likes, so a drain does not wait for them.
    """

    def __init__(
        self,
        services: Mapping[str, Service],
        limits: TransportLimits | None = None,
        standing: Container[str] = (WATCH,),
    ) -> None:
        self.counters = Counters()
        self._services = services
        self._standing = standing
        self._limits = limits or TransportLimits()
        self._listeners: list[asyncio.Server] = []
        self._paths: list[tuple[str, int]] = []
        self._links: set[Link] = set()
        self._none_left = asyncio.Event()
        self._none_left.set()
        self._is_leaving = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    async def listen_tcp(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> tuple[str, int]:
        """Listen on `host`:`port` (0: any free port); returns where. With `tls`, its ALPN must offer `h2`."""
        loop = asyncio.get_running_loop()
        timeout = self._limits.handshake_timeout_seconds if tls is not None else None
        listener = await loop.create_server(
            self._accept, host, port, ssl=tls, backlog=_BACKLOG, ssl_handshake_timeout=timeout
        )
        self._listeners.append(listener)
        name = listener.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    async def listen_unix(self, path: str) -> None:
        """Listen on a Unix socket at `path`, replacing a stale one. Who may connect is decided by its directory."""
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode):
                os.unlink(path)
        listener = await asyncio.get_running_loop().create_unix_server(self._accept, path, backlog=_BACKLOG)
        self._listeners.append(listener)
        self._paths.append((path, os.stat(path).st_ino))

    async def drain(self, grace_seconds: float) -> None:
        """Stop listening, send GOAWAY, wait for the open calls, at most `grace_seconds`; then `close`.

        Standing calls get a moment more, because what they report may come after the calls it is about."""
        self._stop_listening()
        for link in tuple(self._links):
            link.drain()
        until = asyncio.get_running_loop().time() + grace_seconds
        while any(link.is_busy(self._standing) for link in self._links) and await self._still_open(
            until, _POLL_SECONDS
        ):
            pass
        await self._still_open(until, _LAST_WORDS_SECONDS)
        await self.close()

    async def _still_open(self, until: float, seconds: float) -> bool:
        """Wait for the last connection to go, for `seconds`; false when it has gone or the time `until` has come."""
        try:
            async with asyncio.timeout_at(min(until, asyncio.get_running_loop().time() + seconds)):
                await self._none_left.wait()
        except TimeoutError:
            return asyncio.get_running_loop().time() < until
        return False

    async def close(self) -> None:
        """End every call with UNAVAILABLE and close everything; about a second at most."""
        self._stop_listening()
        for link in tuple(self._links):
            link.shut("the server is shutting down")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await self._none_left.wait()
        for link in tuple(self._links):
            link.abort()
        await self._none_left.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_listening(self) -> None:
        self._is_leaving = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for path, inode in self._paths:
            with contextlib.suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
        self._paths.clear()

    def _accept(self) -> Link:
        return Link(self._services, self._limits, self.counters, self._made, self._plan, self._gone)

    def _made(self, link: Link) -> bool:
        """Whether there is room for one more."""
        if self._is_leaving or len(self._links) >= self._limits.max_connections:
            self.counters.connections_refused += 1
            return False
        self.counters.connections_accepted += 1
        self.counters.connections_open += 1
        self._links.add(link)
        self._none_left.clear()
        return True

    def _gone(self, link: Link) -> None:
        self._links.discard(link)
        self.counters.connections_open -= 1
        if not self._links:
            self._none_left.set()

    def _plan(self, at: float) -> None:
        """See to it that `_sweep` runs at `at`, monotonic seconds, or earlier."""
        if at >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer_at = max(at, loop.time() + _TICK_SECONDS)
        self._timer = loop.call_at(self._timer_at, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        self._timer_at = inf
        now = asyncio.get_running_loop().time()
        for link in tuple(self._links):
            if link.next_at <= now:
                link.tick(now)
        self._plan(min((link.next_at for link in self._links), default=inf))
