"""Where redirects lead, on real Envoy: the port of the new place, whatever port the client named."""

import contextlib
import http.client
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.gateway_objects import Object, certificate, gateway, listener, route, rule, tls_secret
from tests.kit.planned import planned_envoy
from tests.kit.processes import free_port
from tests.kit.routed import connect_tls

pytestmark = pytest.mark.integration

LISTENERS = {80: "HTTP", 8080: "HTTP", 443: "HTTPS", 8443: "HTTPS"}
WELL_KNOWN = {"http": 80, "https": 443}
SCHEMES, ASKED, HOSTNAMES = (None, "http", "https"), (None, 80, 443, 9000), (None, "new.example")


def path_of(*choice: object) -> str:
    return "/" + "-".join(map(str, choice))


def redirect(scheme: str | None, port: int | None, hostname: str | None, **more: Any) -> Object:
    fields = {"scheme": scheme, "port": port, "hostname": hostname, **more}
    said = {key: value for key, value in fields.items() if value is not None}
    return {"type": "RequestRedirect", "requestRedirect": said}


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, int]]:
    """Port of a listener to port that is bound. The same rules for one name, for names of one domain, and for all."""
    bound = {port: free_port() for port in LISTENERS}
    tls = {"certificateRefs": [{"name": "cert"}]}
    choices = [*itertools.product(SCHEMES, ASKED, HOSTNAMES)]
    rules = [rule(path=path_of(*each), filters=[redirect(*each)]) for each in choices]
    moved = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/there"}
    rules.append(rule(path="/moved", filters=[redirect("https", None, None, path=moved, statusCode=307)]))
    objects = [
        gateway(
            *(
                listener(f"l{port}", port, protocol, **({"tls": tls} if protocol == "HTTPS" else {}))
                for port, protocol in LISTENERS.items()
            )
        ),
        tls_secret("cert", *certificate("here.example")),
        # A route has 16 rules at most.
        *(
            route(f"r{place}-{first}", *rules[first : first + 16], hostnames=names)
            for place, names in enumerate((["here.example"], ["*.wild.example"], []))
            for first in range(0, len(rules), 16)
        ),
    ]
    with planned_envoy(objects, bound, tmp_path_factory.mktemp("envoy") / "log"):
        yield bound


def connect(ports: dict[int, int], port: int, name: str) -> http.client.HTTPConnection:
    if LISTENERS[port] == "HTTPS":
        return connect_tls(ports[port], name)[0]
    return http.client.HTTPConnection("127.0.0.1", ports[port], timeout=20)


def location(connection: http.client.HTTPConnection, host: str, path: str) -> str | None:
    connection.request("GET", path, headers={"host": host})
    answer = connection.getresponse()
    answer.read()
    return answer.headers["location"]


@pytest.mark.parametrize("port", LISTENERS)
@pytest.mark.parametrize("name", ["here.example", "a.wild.example", "any.example", "[2001:db8::1]"])
def test_the_port_is_the_one_asked_for_or_the_schemes_or_the_listeners(
    ports: dict[int, int], port: int, name: str
) -> None:
    with contextlib.closing(connect(ports, port, "here.example")) as connection:
        for scheme, asked, hostname in itertools.product(SCHEMES, ASKED, HOSTNAMES):
            new_scheme = scheme or LISTENERS[port].lower()
            new_port = asked or (WELL_KNOWN[scheme] if scheme is not None else port)
            path = path_of(scheme, asked, hostname)
            said = "" if new_port == WELL_KNOWN[new_scheme] else f":{new_port}"
            for host in (name, f"{name}:57521", f"{name}:80", f"{name}:443"):
                # Where Envoy does not know the name beforehand, a client that says a port is told one.
                is_known = hostname is not None or name == "here.example" or host == name
                said_there = said if is_known else f":{new_port}"
                expected = f"{new_scheme}://{hostname or name}{said_there}{path}"
                assert location(connection, host, path) == expected, (port, host, path)


@pytest.mark.parametrize(
    ("host", "new"),
    [
        ("here.example:57521", "here.example"),
        ("a.wild.example", "a.wild.example"),
        ("a.wild.example:57521", "a.wild.example:443"),
        ("other.example:1", "other.example:443"),
    ],
)
def test_a_new_path_comes_with_the_new_port(ports: dict[int, int], host: str, new: str) -> None:
    with contextlib.closing(connect(ports, 8080, host)) as connection:
        assert location(connection, host, "/moved/a?b=c") == f"https://{new}/there/a?b=c"
