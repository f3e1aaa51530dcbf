"""One simulated server: a port, one life after the other of a serving process, and the faults it is under."""

import asyncio
import hashlib
import json
import random
import socket
import time

from stellwerk.sim import errors
from stellwerk.sim.admin import Admin
from stellwerk.sim.connection import Connection, Connections, Exchange
from stellwerk.sim.errors import JSON, ApiError
from stellwerk.sim.faults import Fault, Kind
from stellwerk.sim.routes import UNCOUNTED, handler_of, route
from stellwerk.sim.serving import Serving
from stellwerk.sim.settings import SimSettings

_BACKLOG = 1_024
_NOISE = b"\x00\xff\xfe{{{ not a metrics page\n# TYPE\nvllm:num_requests_waiting{ 1\n\x80\x80"
_BROKEN = {
    "vllm:num_requests_running": "NaN",
    "vllm:num_requests_waiting": "-1.0",
    "vllm:kv_cache_usage_perc": "+Inf",
}


class SimServer:
    """Answers on one port. Owned by the `Running` that started it; `admin` answers `/sim/` paths."""

    def __init__(self, settings: SimSettings, index: int, admin: Admin) -> None:
        self.settings = settings
        self.index = index
        self.port = 0
        self.serving = Serving(settings, index)
        self.restarts = 0
        self._admin = admin
        self._faults: dict[Kind, Fault] = {}
        self._endings: dict[Kind, asyncio.TimerHandle] = {}
        self._chance = random.Random(settings.seed * 1_000 + index)
        self._loop = asyncio.get_running_loop()
        self._listener: asyncio.Server | None = None
        self._connections = Connections(settings.connection)
        self._opening: asyncio.Task[None] | None = None

    # Listening

    async def listen(self, port: int) -> None:
        """Bind and accept. Raises OSError."""
        sock = socket.socket(socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.settings.host, port))
            sock.setblocking(False)
            self.port = sock.getsockname()[1]
            self._listener = await self._loop.create_server(
                lambda: Connection(self._connections, self.handle), sock=sock, backlog=_BACKLOG
            )
        except BaseException:
            sock.close()
            raise

    @property
    def is_listening(self) -> bool:
        """Whether the port is open."""
        return self._listener is not None

    def sweep(self, now: float) -> None:
        """Close connections that wait too long."""
        self._connections.sweep(now)

    async def close(self) -> None:
        """Stop listening and break what is open."""
        for timer in self._endings.values():
            timer.cancel()
        self._endings.clear()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        self.serving.engine.drive.close()
        self._stop_listening()
        self._connections.close_all()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _listen_again(self) -> None:
        if self._listener is None and self._opening is None:
            self._opening = self._loop.create_task(self._reopen(), name=f"reopen port {self.port}")

    async def _reopen(self) -> None:
        try:
            await self.listen(self.port)
        finally:
            self._opening = None

    # Requests

    def handle(self, exchange: Exchange) -> None:
        """One request."""
        if exchange.path.startswith("/sim/"):
            self._admin.handle(self, exchange)
            return
        if self.settings.echoes:
            exchange.echo = self._echo(exchange)
        if exchange.path not in UNCOUNTED:
            self._count(exchange)
        if not self._faults:
            route(self.serving, exchange)
        elif exchange.path == "/metrics":
            self._broken_metrics(exchange)
        else:
            self._faulty(exchange)

    def _echo(self, exchange: Exchange) -> tuple[tuple[str, str], ...]:
        request = exchange.request
        echo = (
            ("x-sim-server", f"{self.settings.host}:{self.port}"),
            ("x-sim-body-sha256", hashlib.sha256(request.body).hexdigest()),
        )
        if "x-sim-echo-headers" not in request.headers:
            return echo
        line, headers = json.dumps([request.method, request.target]), json.dumps(request.headers)
        return (*echo, ("x-sim-request", line), ("x-sim-request-headers", headers))

    def _count(self, exchange: Exchange) -> None:
        handler, method = handler_of(exchange.path), exchange.request.method
        begun, size = time.monotonic(), len(exchange.request.body)
        http = self.serving.http

        def answered(status: int, sent: int) -> None:
            http.answered(handler, method, status, (size, sent), time.monotonic() - begun)

        exchange.on_answered = answered

    # Faults

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults in force."""
        return tuple(self._faults.values())

    def inject(self, fault: Fault) -> None:
        """Put a fault into force; the same kind replaces the one before."""
        self.heal(fault.kind)
        if fault.kind is Kind.RESTART:
            self._restart(fault.value)
            return
        self._faults[fault.kind] = fault
        if fault.kind is Kind.SLOW:
            self.serving.engine.model.slowness = fault.value
        elif fault.kind is Kind.WEDGE:
            self.serving.engine.wedge()
        elif fault.kind is Kind.REFUSE:
            self._refuse()
        if fault.for_seconds is not None:
            self._endings[fault.kind] = self._loop.call_later(fault.for_seconds, self.heal, fault.kind)

    def heal(self, kind: Kind) -> None:
        """Take a fault back, if it is in force."""
        timer = self._endings.pop(kind, None)
        if timer is not None:
            timer.cancel()
        if self._faults.pop(kind, None) is None:
            return
        if kind is Kind.SLOW:
            self.serving.engine.model.slowness = 1.0
        elif kind is Kind.WEDGE:
            self.serving.engine.drive.resume()
        elif kind is Kind.REFUSE:
            self._listen_again()

    def heal_all(self) -> None:
        """Take all faults back."""
        for kind in list(self._faults):
            self.heal(kind)

    def _refuse(self) -> None:
        self._stop_listening()
        self._loop.call_soon(self._connections.close_all)

    def _restart(self, seconds: float) -> None:
        """A new life: empty caches, zero counters, adapters of the start; down for so long."""
        self._refuse()
        for fault in list(self._faults.values()):
            if fault.kind in (Kind.SLOW, Kind.WEDGE):
                self.heal(fault.kind)
        self.renew()
        self._faults[Kind.REFUSE] = Fault(Kind.REFUSE, 0.0)
        self._endings[Kind.REFUSE] = self._loop.call_later(seconds, self.heal, Kind.REFUSE)

    def renew(self) -> None:
        """Forget everything; requests in flight lose their connection."""
        old, self.serving = self.serving, Serving(self.settings, self.index)
        self.restarts += 1
        old.engine.drive.close()
        self._loop.call_soon(self._connections.close_all)

    def _hits(self, kind: Kind) -> Fault | None:
        fault = self._faults.get(kind)
        if fault is None or (fault.rate < 1.0 and self._chance.random() >= fault.rate):
            return None
        return fault

    def _faulty(self, exchange: Exchange) -> None:
        """Apply what hits this request, then answer what is left of it."""
        if self._hits(Kind.HANG) is not None:
            return
        delay = self._hits(Kind.DELAY)
        if delay is None:
            self._route_faulty(exchange)
        else:
            self._loop.call_later(delay.value, self._route_faulty, exchange)

    def _route_faulty(self, exchange: Exchange) -> None:
        if exchange.is_over:
            return
        is_probe = exchange.path in UNCOUNTED
        broken = None if is_probe else self._hits(Kind.ERROR)
        if broken is not None:
            error = ApiError(int(broken.value), "The simulator was told to fail.", "InternalServerError")
            exchange.reply(error.status, error.body(), JSON)
            return
        reset = None if is_probe else self._hits(Kind.RESET)
        if reset is not None:
            exchange.reset_after_tokens = int(reset.value)
            if reset.value < 1:
                exchange.reset()
                return
        route(self.serving, exchange)

    def _broken_metrics(self, exchange: Exchange) -> None:
        if self._hits(Kind.HANG) is not None or self._hits(Kind.METRICS_HANG) is not None:
            return
        slow = self._hits(Kind.METRICS_SLOW)
        if slow is not None:
            self._loop.call_later(slow.value, self._metrics_body, exchange)
        else:
            self._metrics_body(exchange)

    def _metrics_body(self, exchange: Exchange) -> None:
        failing, huge = self._hits(Kind.METRICS_ERROR), self._hits(Kind.METRICS_HUGE)
        if failing is not None:
            error = errors.plain(500)
            exchange.reply(int(failing.value), error.body(), JSON)
        elif self._hits(Kind.METRICS_GARBAGE) is not None:
            exchange.reply(200, _NOISE, "text/plain")
        elif self._hits(Kind.METRICS_NAN) is not None:
            lines = [_spoilt(line) for line in self.serving.page().splitlines(keepends=True)]
            exchange.reply(200, "".join(lines).encode(), "text/plain; version=1.0.0; charset=utf-8")
        elif huge is not None:
            line = b'vllm:padding_total{engine="0",reason="metrics-huge"} 1.0\n'
            body = self.serving.page().encode() + line * (int(huge.value * 1_000_000) // len(line))
            exchange.reply(200, body, "text/plain; version=1.0.0; charset=utf-8")
        else:
            route(self.serving, exchange)


def _spoilt(line: str) -> str:
    name, brace, _ = line.partition("{")
    if not brace or name not in _BROKEN:
        return line
    return f"{line.rpartition(' ')[0]} {_BROKEN[name]}\n"
