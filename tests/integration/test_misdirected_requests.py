"""A TLS connection is for the names of one listener; requests for those of another of its port are sent away."""

import contextlib
import json
from collections.abc import Iterator

import pytest

from tests.kit.gateway_objects import certificate, gateway, listener, route, rule, tls_secret
from tests.kit.planned import planned_envoy
from tests.kit.processes import free_port
from tests.kit.routed import connect_tls

pytestmark = pytest.mark.integration

ANY, ONE, WILD, WITHIN = None, "one.example", "*.wild.example", "in.wild.example"
HERE = 302
CODES = {404: "route_not_found", 421: "misdirected_request"}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """With listeners for any name, one, those of a domain, and one of these. Who is at the right one is redirected."""
    bound = free_port()
    tls = {"certificateRefs": [{"name": "cert"}]}
    names = {"any": ANY, "one": ONE, "wild": WILD, "within": WITHIN}
    there = {"type": "RequestRedirect", "requestRedirect": {"hostname": "there.example"}}
    objects = [
        gateway(
            *(
                listener(name, 443, "HTTPS", tls=tls, **({"hostname": hostname} if hostname else {}))
                for name, hostname in names.items()
            )
        ),
        tls_secret("cert", *certificate("any.example")),
        *(
            route(
                name,
                rule(path="/here", filters=[there]),
                hostnames=["any.example"] if name == "any" else [],
                parents=[{"name": "public", "sectionName": name}],
            )
            for name in names
        ),
    ]
    with planned_envoy(objects, {443: bound}, tmp_path_factory.mktemp("envoy") / "log"):
        yield bound


@pytest.mark.parametrize(
    ("name", "host", "status"),
    [
        ("any.example", "any.example", HERE),
        ("any.example", "one.example", 421),
        ("any.example", "unknown.example", 404),
        ("one.example", "one.example", HERE),
        ("one.example", "any.example", 421),
        ("one.example", "unknown.example", 421),
        ("a.wild.example", "a.wild.example", HERE),
        ("a.wild.example", "b.c.wild.example", HERE),
        ("a.wild.example", "in.wild.example", 421),
        ("a.wild.example", "one.example", 421),
        ("a.wild.example", "unknown.example", 421),
        ("in.wild.example", "in.wild.example", HERE),
        ("in.wild.example", "a.wild.example", 421),
        ("unknown.example", "any.example", HERE),
        ("unknown.example", "unknown.example", 404),
        ("wild.example", "any.example", HERE),
        (None, "any.example", HERE),
        (None, "one.example", 421),
        ("ONE.example", "One.Example", HERE),
    ],
)
def test_a_request_for_another_listeners_name_is_misdirected_whatever_its_path(
    port: int, name: str | None, host: str, status: int
) -> None:
    connection, _ = connect_tls(port, name)
    with contextlib.closing(connection):
        for path, expected in (("/here", status), ("/nowhere", 404 if status == HERE else status)):
            connection.request("GET", path, headers={"host": host})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == expected
            assert expected == HERE or json.loads(body)["error"]["code"] == CODES[expected]
