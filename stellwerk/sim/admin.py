"""The simulator's own paths, on every server's port: state, faults, reset. `server` in a body names a sibling by index.

GET  /sim/state                     what runs, waits and is broken
POST /sim/fault {"kind": "slow", "value": 2, "rate": 1, "for_seconds": 10, "server": 1}
POST /sim/heal  {"kind": "slow"}    without a kind, or with the fault "none": all faults
POST /sim/reset                     no faults, empty caches, counters at zero
"""

from typing import TYPE_CHECKING

import msgspec

from stellwerk.sim import errors, fields
from stellwerk.sim.connection import Exchange
from stellwerk.sim.errors import JSON, ApiError
from stellwerk.sim.faults import MEANINGS, FaultError, Kind, fault
from stellwerk.sim.fields import Body

if TYPE_CHECKING:
    from stellwerk.sim.server import SimServer


class Admin:
    """Answers for all servers of one process."""

    def __init__(self) -> None:
        self.servers: list[SimServer] = []

    def handle(self, server: "SimServer", exchange: Exchange) -> None:
        """One `/sim/` request that came in on `server`."""
        try:
            answer = self._answer(server, exchange)
            exchange.reply(200, msgspec.json.encode(answer), JSON)
        except ApiError as error:
            exchange.reply(error.status, error.body(), JSON)

    def _answer(self, server: "SimServer", exchange: Exchange) -> object:
        method, path = exchange.request.method, exchange.path
        if path == "/sim/state":
            if method not in ("GET", "HEAD"):
                raise errors.plain(405)
            return state(server)
        actions = {"/sim/fault": _inject, "/sim/heal": _heal, "/sim/reset": _reset}
        action = actions.get(path)
        if action is None:
            raise errors.plain(404)
        if method != "POST":
            raise errors.plain(405)
        body = fields.read(exchange.request.body) if exchange.request.body else {}
        target = self._target(server, body)
        action(target, body)
        return state(target)

    def _target(self, server: "SimServer", body: Body) -> "SimServer":
        index = fields.integer(body, "server")
        if index is None:
            return server
        if not 0 <= index < len(self.servers):
            raise errors.bad(f"server {index} does not exist: there are 0 to {len(self.servers) - 1}", "server")
        return self.servers[index]


def state(server: "SimServer") -> dict[str, object]:
    """What a server is doing."""
    faults = [
        {"kind": one.kind.value, "value": one.value, "rate": one.rate, "meaning": MEANINGS[one.kind].text}
        for one in server.faults
    ]
    head = {"server": server.index, "port": server.port, "restarts": server.restarts, "faults": faults}
    return {**head, **server.serving.state()}


def _number(body: Body, name: str) -> float | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise errors.complaint("float_type", name, "Input should be a valid number", body)
    return value


def _inject(server: "SimServer", body: Body) -> None:
    kind = fields.string(body, "kind")
    if kind is None:
        raise errors.missing("kind", body)
    if kind == "none":
        server.heal_all()
        return
    rate = _number(body, "rate")
    try:
        one = fault(kind, _number(body, "value"), 1.0 if rate is None else rate, _number(body, "for_seconds"))
    except FaultError as error:
        raise errors.bad(str(error), "kind") from None
    server.inject(one)


def _heal(server: "SimServer", body: Body) -> None:
    kind = fields.string(body, "kind")
    if kind is None:
        server.heal_all()
        return
    try:
        server.heal(Kind(kind))
    except ValueError:
        raise errors.bad(f"unknown fault {kind!r}", "kind") from None


def _reset(server: "SimServer", body: Body) -> None:
    server.heal_all()
    server.renew()
