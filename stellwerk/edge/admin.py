"""The admin server: health, metrics, pools, decisions. Plain GET over HTTP, on a loopback address by default.

It reads, it changes nothing. What it shows comes from functions given to it. Long answers are written in pieces, with
the event loop free in between, since requests are decided on the same loop.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct

from stellwerk.config import Address
from stellwerk.model.trace import Trace
from stellwerk.telemetry.render import CONTENT_TYPE

DEFAULT_DECISIONS = 100
MAX_DECISIONS = 1000
MAX_SCANNED = 100_000
_PIECE_BYTES = 64 * 1024
_MAX_CONNECTIONS_WAITING = 64
_MAX_ANSWERS_AT_ONCE = 16

_INDEX = """<!doctype html><meta charset="utf-8"><title>Stellwerk</title>
<style>body{font:16px system-ui;margin:3em}a{display:block;margin:.4em 0}</style><h1>Stellwerk</h1>
<a href="/healthz">/healthz</a><a href="/readyz">/readyz</a><a href="/metrics">/metrics</a>
<a href="/api/pools">/api/pools</a><a href="/api/decisions">/api/decisions</a>
"""

_log = logging.getLogger("stellwerk.admin")
_MUTE = logging.Logger("aiohttp", logging.CRITICAL + 1)
"""The server library would log what strangers send, word for word."""


class Views(Struct, frozen=True):
    """What the server shows. All are called on the event loop and must not block it."""

    describe: Callable[[], object]
    """All pools, as a msgspec struct or plain data."""
    traces: Callable[[], Sequence[Trace]]
    """Newest last."""
    trace: Callable[[str], Trace | None]
    unready: Callable[[], Iterable[str]]
    """Reasons not to be sent traffic; none: ready."""
    metrics: Callable[[], Iterator[str]]
    """The metrics page, in pieces."""
    remarks: Callable[[], Iterable[str]] = tuple
    """What is wrong although traffic may come: a broken objects file, a rejected Envoy update."""


Guard = Callable[[str | None, str], Awaitable[int]]
"""May the sender of this Authorization header read this path? An HTTP status, 200 for yes."""
UNGUARDED = frozenset({"/healthz", "/readyz"})
"""Probes come without credentials."""
PUBLIC = UNGUARDED | {"/metrics"}
"""What a private server shows to callers from elsewhere."""


class AdminServer:
    """One listener. `start`, then `close`."""

    def __init__(self, address: Address, views: Views, guard: Guard | None = None, *, is_private: bool = False) -> None:
        """`is_private`: from other machines, or pods, one may read health and metrics only."""
        self._address = address
        self._views = views
        self._guard, self._is_private = guard, is_private
        self._runner: web.AppRunner | None = None
        self._places = asyncio.Semaphore(_MAX_ANSWERS_AT_ONCE)
        self._encoder = msgspec.json.Encoder(enc_hook=_plain)

    async def start(self) -> tuple[str, int]:
        """Listen; the address and port in use, or the socket's path and 0. Raises OSError if it cannot."""
        application = web.Application(middlewares=[self._door])
        add = application.router.add_get
        add("/", self._index)
        add("/healthz", self._healthz)
        add("/readyz", self._readyz)
        add("/metrics", self._metrics)
        add("/api/pools", self._pools)
        add("/api/decisions", self._decisions)
        add("/api/decisions/{request_id}", self._decision)
        runner = web.AppRunner(
            application,
            access_log=None,
            logger=_MUTE,
            handle_signals=False,
            keepalive_timeout=30.0,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        self._runner = runner
        try:
            return await self._listen(runner)
        except OSError:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop at once."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> tuple[str, int]:
        if self._address.path is not None:
            await web.UnixSite(runner, self._address.path, backlog=_MAX_CONNECTIONS_WAITING).start()
            return self._address.path, 0
        await web.TCPSite(runner, self._address.host, self._address.port, backlog=_MAX_CONNECTIONS_WAITING).start()
        host, port = runner.addresses[0][:2]
        return str(host), int(port)

    @web.middleware
    async def _door(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        """Errors as JSON, foreign names refused, a bound on what runs at once."""
        if not is_own_host(request.host, is_local=self._is_local()):
            return _problem(403, f"host {_brief(request.host)} is not one of this server; use its address or localhost")
        try:
            async with self._places:
                response: web.StreamResponse = await self._refusal(request) or await handler(request)
        except web.HTTPMethodNotAllowed as error:
            response = _problem(405, f"{_brief(request.method)} is not allowed here, only GET and HEAD")
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        except web.HTTPNotFound:
            response = _problem(404, f"nothing at {_brief(request.path)}; / lists what there is")
        except web.HTTPException as error:
            response = _problem(error.status, error.reason)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001 - the one door of this server: a bug in a view is told, and stays here
            _log.exception("an admin request failed", extra={"fields": {"path": _brief(request.path)}})
            response = _problem(500, "internal error; see the log")
        return response

    async def _refusal(self, request: web.Request) -> web.Response | None:
        """What a guarded or private server says to those who may not read; None: they may."""
        if self._is_private and request.path not in PUBLIC and not is_near(request.remote):
            return _problem(403, "only health and metrics are for callers from elsewhere; use kubectl port-forward")
        if self._guard is None or request.path in UNGUARDED:
            return None
        status = await self._guard(request.headers.get("Authorization"), request.path)
        if status == 200:
            return None
        response = _problem(status, _WHY_NOT.get(status, "the request was refused"))
        if status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _is_local(self) -> bool:
        if self._address.path is not None:
            return False
        try:
            return ipaddress.ip_address(self._address.host).is_loopback
        except ValueError:
            return self._address.host == "localhost"

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=_INDEX, content_type="text/html", headers=_GUARDS)

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return self._json({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        reasons = list(self._views.unready())
        page = {"ready": not reasons, "reasons": reasons, "remarks": list(self._views.remarks())}
        return self._json(page, status=503 if reasons else 200)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        pieces = (piece.encode(errors="replace") for piece in self._views.metrics())
        return await _stream(request, CONTENT_TYPE, pieces)

    async def _pools(self, request: web.Request) -> web.StreamResponse:
        return self._json(self._views.describe())

    async def _decisions(self, request: web.Request) -> web.StreamResponse:
        limit = _limit(request.query.get("limit"))
        if limit is None:
            return _problem(400, f"limit must be an integer from 1 to {MAX_DECISIONS}")
        chosen = _chosen(self._views.traces(), limit, request.query.get("model"), request.query.get("pool"))
        return await _stream(request, "application/json", self._list("decisions", chosen))

    async def _decision(self, request: web.Request) -> web.StreamResponse:
        request_id = request.match_info["request_id"]
        trace = self._views.trace(request_id)
        if trace is None:
            return _problem(404, f"no decision with request id {_brief(request_id)} is remembered")
        return self._json(trace)

    def _json(self, value: object, status: int = 200) -> web.Response:
        body = self._encoder.encode(value) + b"\n"
        return web.Response(body=body, status=status, content_type="application/json", headers=_GUARDS)

    def _list(self, name: str, items: Iterable[object]) -> Iterator[bytes]:
        yield b'{"%s":[' % name.encode()
        for index, item in enumerate(items):
            yield (b",\n" if index else b"") + self._encoder.encode(item)
        yield b"]}\n"


_WHY_NOT = {
    401: "a bearer token that the cluster knows is needed",
    403: "the token's owner may not read this: grant the verb get on the nonResourceURL /metrics or /stellwerk/*",
    503: "the API server does not say who may read this; try again",
}
_GUARDS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def is_own_host(host: str, *, is_local: bool) -> bool:
    """Whether a Host header may be meant for us. A page in the operator's browser whose name resolves to 127.0.0.1 (DNS
    rebinding) sends its own name: a server on a loopback address answers to local names and addresses only."""
    if not is_local:
        return True
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    name = name.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_near(peer: str | None) -> bool:
    """Whether a peer's address is one of this machine's loopback, or it came by a Unix socket. What kubectl forwards to
    a pod comes from its loopback."""
    if not peer:
        return True
    address = ipaddress.ip_address(peer)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


async def _stream(request: web.Request, content_type: str, pieces: Iterator[bytes]) -> web.StreamResponse:
    """Write in pieces; the loop serves others in between."""
    response = web.StreamResponse(headers={"Content-Type": content_type, **_GUARDS})
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if len(waiting) >= _PIECE_BYTES:
            await response.write(bytes(waiting))
            waiting.clear()
            await asyncio.sleep(0)
    await response.write(bytes(waiting))
    await response.write_eof()
    return response


def _chosen(traces: Sequence[Trace], limit: int, model: str | None, pool: str | None) -> Iterator[Trace]:
    """The newest first, at most `limit`."""
    for count, trace in enumerate(reversed(traces)):
        if limit == 0 or count >= MAX_SCANNED:
            return
        is_model = model is None or model in (trace.public_model, trace.target_model)
        if is_model and (pool is None or trace.pool == pool):
            limit -= 1
            yield trace


def _limit(text: str | None) -> int | None:
    if text is None:
        return DEFAULT_DECISIONS
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        return None
    return int(text) if 1 <= int(text) <= MAX_DECISIONS else None


def _problem(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status, headers=_GUARDS)


def _brief(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "...")


def _plain(value: object) -> object:
    """numpy columns and scalars as lists and numbers; msgspec writes NaN and infinity as null."""
    convert = getattr(value, "tolist", None)
    if convert is None:
        raise NotImplementedError(f"{type(value).__name__} has no JSON form")
    return convert()
