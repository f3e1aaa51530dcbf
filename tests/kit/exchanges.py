"""Builders for exchanges: a request's head, a decision, and an exchange that has got so far."""

from collections.abc import Mapping

from stellwerk.exchange.command import Commands, Mode
from stellwerk.exchange.head import Head
from stellwerk.exchange.limits import BodyLimits
from stellwerk.exchange.machine import Exchange
from stellwerk.exchange.settings import ExchangeSettings
from stellwerk.model.catalog import Pool
from stellwerk.model.endpoint import Endpoint
from stellwerk.model.event import Ask
from stellwerk.model.outcome import Picked, Scores

TICKET = 7
BODY = b'{"model": "public", "messages": [{"role": "user", "content": "hi"}]}'
OK_JSON = {":status": "200", "content-type": "application/json"}
OK_EVENTS = {":status": "200", "content-type": "text/event-stream; charset=utf-8"}


def own(**changes: object) -> ExchangeSettings:
    """Settings behind our own Envoy."""
    return ExchangeSettings(**{"is_own_proxy": True, **changes})  # type: ignore[arg-type]


def foreign(**changes: object) -> ExchangeSettings:
    """Settings behind a foreign gateway that tells no access log."""
    return ExchangeSettings(**{"is_own_proxy": False, "reports": True, **changes})  # type: ignore[arg-type]


def limits(**changes: int) -> BodyLimits:
    """Body limits."""
    return BodyLimits(**changes)


def head(
    path: str = "/v1/chat/completions",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    received_at: float = 0.0,
) -> Head:
    """The head of a chat request."""
    return Head(
        method=method,
        path=path,
        headers={":method": method, ":path": path, "content-type": "application/json", **(headers or {})},
        id="request-1",
        received_at=received_at,
    )


def endpoint(host: str = "127.0.0.1", port: int = 9001) -> Endpoint:
    """One model server."""
    return Endpoint(key=f"default/{host}:{port}", server=host, namespace="default", host=host, port=port)


def picked(
    public_model: str | None = "public",
    target_model: str | None = None,
    pool: Pool | None = None,
    scores: Scores | None = None,
) -> Picked:
    """A decision for two endpoints."""
    endpoints = (endpoint(port=9001), endpoint(port=9002))
    destination = ",".join(one.address for one in endpoints)
    return Picked(pool or Pool(name="default/llama"), endpoints, destination, public_model, target_model, scores)


def exchange(
    settings: ExchangeSettings | None = None, request: Mode | None = None, response: Mode | None = None
) -> Exchange:
    """An exchange before its first message; our own Envoy's unless said otherwise."""
    made = Exchange(TICKET, settings or own())
    if request is not None:
        made.configure(request, Mode.NONE if response is None else response)
    return made


def the_ask(commands: Commands) -> Ask:
    """The one question among `commands`."""
    (ask,) = (command for command in commands if isinstance(command, Ask))
    return ask


def forwarded(settings: ExchangeSettings | None = None, decision: Picked | None = None) -> Exchange:
    """A buffered exchange whose request is on its way."""
    made = exchange(settings, Mode.BUFFERED, Mode.NONE)
    made.request_headers(head(), False, 0.0)
    made.request_body(BODY, True, 0.0)
    made.decided(decision or picked(), 0.0)
    return made
