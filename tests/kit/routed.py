"""`stellwerk gateway` with objects from files: routes of the Gateway API without a cluster."""

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kit.gateway_objects import Object, entity
from tests.kit.processes import Answer, Child, call, free_port, stellwerk, wait_until


@dataclass
class Routed:
    """A running gateway of Gateway `default/public`."""

    child: Child
    directory: Path
    admin_url: str

    def apply(self, objects: Sequence[Object]) -> None:
        """Replace the objects; what they ask for is in effect a moment later."""
        path = self.directory / "objects.yaml"
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(f"---\n{json.dumps(each)}\n" for each in objects))
        fresh.rename(path)

    @property
    def is_ready(self) -> bool:
        """As `/readyz` says."""
        self.child.expect_alive()
        try:
            return call(f"{self.admin_url}/readyz", timeout=2).status == 200
        except OSError:
            return False

    @property
    def remarks(self) -> list[str]:
        """What `/readyz` says beside that."""
        found: list[str] = call(f"{self.admin_url}/readyz", timeout=5).json()["remarks"]
        return found

    def metrics(self) -> str:
        """The text of `/metrics`."""
        return call(f"{self.admin_url}/metrics", timeout=5).body.decode()


@contextlib.contextmanager
def routed(objects: Sequence[Object], directory: Path, *arguments: str) -> Iterator[Routed]:
    """With `objects` in effect. Listeners get 127.0.0.1."""
    admin = free_port()
    listen = ("--bind-address", "127.0.0.1", "--admin", f"127.0.0.1:{admin}", "-f", str(directory))
    running = Routed(None, directory, f"http://127.0.0.1:{admin}")  # type: ignore[arg-type]
    running.apply(objects)
    with stellwerk("gateway", "--gateway", "default/public", *listen, *arguments) as child:
        running.child = child
        wait_until("the gateway to be ready", lambda: running.is_ready)
        yield running


def model_server(name: str, port: int, app: str) -> Object:
    """A server of pool `app`, in place of a Pod."""
    spec = {"address": "127.0.0.1", "ports": [port]}
    return entity("stellwerk.dev/v1alpha1", "ModelServer", name, labels={"app": app}, spec=spec)


def ask(
    port: int,
    path: str = "/",
    *,
    host: str | None = None,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | Mapping[str, Any] | None = None,
    timeout: float = 20.0,
) -> Answer:
    """One request, as it is: redirects are not followed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    return _answer(connection, path, host, method, headers, body)


def connect_tls(port: int, name: str | None) -> tuple[http.client.HTTPConnection, bytes]:
    """A connection over TLS to server name `name` (None: none is given), whatever its certificate (DER)."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sock = secure = context.wrap_socket(plain, server_hostname=name)
    return connection, secure.getpeercert(binary_form=True) or b""


def ask_tls(port: int, name: str, path: str = "/", host: str | None = None) -> tuple[Answer, bytes]:
    """One request over TLS for server name `name`, and the certificate (DER) that was shown."""
    connection, shown = connect_tls(port, name)
    return _answer(connection, path, host or name, None, None, None), shown


def _answer(
    connection: http.client.HTTPConnection,
    path: str,
    host: str | None,
    method: str | None,
    headers: Mapping[str, str] | None,
    body: bytes | Mapping[str, Any] | None,
) -> Answer:
    data = json.dumps(body).encode() if isinstance(body, Mapping) else body
    with contextlib.closing(connection):
        connection.putrequest(method or ("POST" if data is not None else "GET"), path, skip_host=host is not None)
        if host is not None:
            connection.putheader("host", host)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if data is not None:
            connection.putheader("content-type", "application/json")
            connection.putheader("content-length", str(len(data)))
        connection.endheaders(data)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
