"""Request heads and readings of bodies, with defaults."""

from collections.abc import Mapping

from stellwerk.exchange.body import read
from stellwerk.exchange.head import Head
from stellwerk.exchange.limits import BodyLimits
from stellwerk.model.outcome import Refused
from stellwerk.model.request import Api, Request

BOUNDARY = "Xy-Z_1"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def reading(
    body: bytes,
    api: Api = Api.CHAT,
    content_type: str = "application/json",
    path: str = "/v1/any",
    limits: BodyLimits | None = None,
    headers: Mapping[str, str] | None = None,
) -> Request | Refused:
    """What the reader makes of `body`. Underscores in names of headers stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
    head = Head("POST", path, {"content-type": content_type, **named}, "r1", 7.0)
    return read(head, api, body, limits or BodyLimits())


def request(body: bytes, api: Api = Api.CHAT, content_type: str = "application/json", **headers: str) -> Request:
    """The request that was read; fails the test if it was refused."""
    found = reading(body, api, content_type, headers=headers)
    assert isinstance(found, Request), found
    return found


def refusal(
    body: bytes,
    api: Api = Api.CHAT,
    content_type: str = "application/json",
    limits: BodyLimits | None = None,
) -> Refused:
    """Why the body was refused; fails the test if it was not."""
    found = reading(body, api, content_type, limits=limits)
    assert isinstance(found, Refused), found
    return found


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    """One part of a form with `BOUNDARY`."""
    file = "" if filename is None else f'; filename="{filename}"\r\nContent-Type: application/octet-stream'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
