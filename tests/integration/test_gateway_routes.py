"""A Gateway on real Envoy and the real picker, with objects from files: every kind of match, filter and backend."""

import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kit.data_plane import RecordingServer, model_servers
from tests.kit.foreign_picker import SERVED, ForeignPicker, Manner, foreign_picker
from tests.kit.gateway_objects import (
    Object,
    certificate,
    endpoint_slice,
    gateway,
    gateway_class,
    listener,
    picker_ref,
    pool,
    route,
    rule,
    service,
    tls_secret,
    to_pool,
    to_service,
)
from tests.kit.processes import Answer, Sim, children_of, free_port, simulated_servers, wait_until
from tests.kit.routed import Routed, ask, ask_tls, connect_tls, model_server, routed

pytestmark = pytest.mark.integration

MODEL = "tiny"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


@dataclass
class World:
    """Everything that runs. `web` and `api` are servers behind Services, `one` and `two` those of foreign pools."""

    gateway: Routed
    objects: list[Object]
    http: int
    https: int
    sim: Sim
    web: RecordingServer
    api: RecordingServer
    one: RecordingServer
    two: RecordingServer
    full: ForeignPicker
    early: ForeignPicker
    certificates: dict[str, bytes]

    def get(self, path: str, **more: Any) -> Answer:
        return ask(self.http, path, **more)

    def chat(self, path: str = "/v1/chat/completions", **more: Any) -> Answer:
        return ask(self.http, path, body=CHAT, **more)


def services(**ports: int) -> Iterator[Object]:
    for name, port in ports.items():
        yield service(name, 9002 if name.startswith("epp") else 80)
        yield endpoint_slice(name, port)


def change(kind: str, **fields: Any) -> Object:
    return {"type": kind, "urlRewrite" if kind == "URLRewrite" else kind[0].lower() + kind[1:]: fields}


def prefix(value: str) -> Object:
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": value}


PAGES = {
    "allowOrigins": ["https://one.example:443", "https://*.many.example", "http://any.example:8080"],
    "allowMethods": ["GET", "PATCH"],
    "allowHeaders": ["x-one", "x-two"],
    "exposeHeaders": ["x-three"],
    "maxAge": 60,
}
ANY_PAGE = {key: ["*"] for key in ("allowOrigins", "allowMethods", "allowHeaders", "exposeHeaders")} | {
    "allowCredentials": True
}


def rules() -> list[Object]:
    """Of the one big route, by path."""
    web, api = to_service("web"), to_service("api")
    headers = change(
        "RequestHeaderModifier",
        set=[{"name": "x-set", "value": "100%"}, {"name": "X-Set", "value": "later"}],
        add=[{"name": "x-add", "value": "more"}],
        remove=["x-remove"],
    )
    answers = change("ResponseHeaderModifier", set=[{"name": "x-answer", "value": "yes"}], remove=["server"])
    return [
        rule(to_pool("a", weight=70), to_pool("b", weight=30), path="/v1"),
        rule(web, path="/web"),
        {"matches": [{"path": {"type": "Exact", "value": "/web/exact"}}], "backendRefs": [api]},
        {"matches": [{"path": {"type": "RegularExpression", "value": "/web/[0-9]{3}"}}], "backendRefs": [api]},
        {"matches": [{"path": {"value": "/web"}, "headers": [{"name": "X-Api", "value": "1"}]}], "backendRefs": [api]},
        {"matches": [{"path": {"value": "/web"}, "method": "POST"}], "backendRefs": [api]},
        {
            "matches": [{"path": {"value": "/web"}, "queryParams": [{"name": "api", "value": "1"}]}],
            "backendRefs": [api],
        },
        rule({**web, "filters": [headers]}, path="/headers", filters=[answers]),
        rule(path="/old", filters=[change("RequestRedirect", scheme="https", hostname="new.example", statusCode=301)]),
        rule(path="/moved", filters=[change("RequestRedirect", path=prefix("/there"), statusCode=308)]),
        rule(web, path="/strip", filters=[change("URLRewrite", path=prefix("/"), hostname="inside.example")]),
        rule(
            web,
            path="/full",
            filters=[change("URLRewrite", path={"type": "ReplaceFullPath", "replaceFullPath": "/whole"})],
        ),
        rule(web, path="/mirror", filters=[change("RequestMirror", backendRef=api)]),
        rule(to_service("silent"), path="/slow", timeouts={"request": "300ms"}),
        rule(web, to_service("missing"), path="/half"),
        rule(path="/nothing"),
        rule({**web, "weight": 0}, path="/zero"),
        rule(to_service("nobody"), path="/nobody"),
        rule(to_pool("full"), path="/full-picker"),
        rule(to_pool("early"), path="/early-picker"),
        rule(to_pool("open"), path="/open-picker"),
        rule(to_pool("closed"), path="/closed-picker"),
        rule(to_pool("lost"), path="/lost-picker"),
        rule(to_pool("full"), to_service("web"), to_pool("a"), path="/mixed"),
        rule(web, path="/pages", filters=[{"type": "CORS", "cors": PAGES}]),
        rule(to_pool("a"), path="/any-page", filters=[{"type": "CORS", "cors": ANY_PAGE}]),
        rule(web, path="/no-page", filters=[{"type": "CORS", "cors": {}}]),
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    http, https, dead = free_port(), free_port(), free_port()
    with (
        simulated_servers(2, "--model", MODEL) as sim,
        model_servers(4) as (web, api, one, two),
        foreign_picker([f"127.0.0.1:{dead}", f"127.0.0.1:{two.port}"]) as full,
        foreign_picker([f"127.0.0.1:{one.port}"], Manner.EARLY) as early,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        pairs = {name: certificate(name) for name in ("a.example.com", "b.example.com")}
        tls = {name: {"certificateRefs": [{"name": f"cert-{name[0]}"}]} for name in pairs}
        objects: list[Object] = [
            gateway_class(),
            gateway(
                listener("http", http),
                listener("a", https, "HTTPS", hostname="a.example.com", tls=tls["a.example.com"]),
                listener("b", https, "HTTPS", hostname="*.example.com", tls=tls["b.example.com"]),
            ),
            *(tls_secret(f"cert-{name[0]}", *pair) for name, pair in pairs.items()),
            *(pool(name) for name in ("a", "b")),
            model_server("a", sim.ports[0], "a"),
            model_server("b", sim.ports[1], "b"),
            pool("full", picker_ref("epp-full")),
            pool("early", picker_ref("epp-early"), annotations={"stellwerk.dev/picker-body-mode": "Streamed"}),
            pool("open", picker_ref("epp-dead", mode="FailOpen")),
            pool("closed", picker_ref("epp-dead")),
            pool("lost", picker_ref("epp-missing")),
            *(
                model_server(f"{app}-{server.port}", server.port, app)
                for app in ("full", "early", "open", "closed", "lost")
                for server in (one, two)
            ),
            model_server("full-dead", dead, "full"),
            *services(web=web.port, api=api.port, silent=silent.getsockname()[1]),
            *services(**{"epp-full": full.port, "epp-early": early.port, "epp-dead": free_port()}),
            service("nobody"),
            route("big", *rules(), parents=[{"name": "public", "sectionName": "http"}]),
            route("secure", rule(to_service("web")), parents=[{"name": "public", "sectionName": "a"}]),
            route("wild", rule(to_service("api")), parents=[{"name": "public", "sectionName": "b"}]),
            route("host", rule(to_service("api")), hostnames=["api.example.org"]),
        ]
        with routed(objects, tmp_path_factory.mktemp("objects")) as running:
            wait_until("the routes", lambda: _status(http, "/web") == 200)
            wait_until("the pools", lambda: ask(http, "/v1/models").status == 200)
            shown = {name: ssl.PEM_cert_to_DER_cert(pair[0].decode()) for name, pair in pairs.items()}
            yield World(running, objects, http, https, sim, web, api, one, two, full, early, shown)


def _status(port: int, path: str) -> int:
    try:
        return ask(port, path).status
    except OSError:
        return 0


def served_by(answer: Answer) -> int:
    assert answer.status == 200, answer
    port: int = answer.json()["served_by"]
    return port


# Which backend


def test_two_pools_share_the_traffic_by_weight_and_each_picks_its_own_servers(world: World) -> None:
    served: Counter[str] = Counter()
    for _ in range(200):
        answer = world.chat()
        assert answer.status == 200, answer
        served[answer.headers["x-sim-server"]] += 1
    a, b = (f"127.0.0.1:{port}" for port in world.sim.ports)
    assert served[a] + served[b] == 200
    assert 110 <= served[a] <= 170  # 140 expected; 4.6 standard deviations


@pytest.mark.parametrize(
    ("path", "more", "server"),
    [
        ("/web", {}, "web"),
        ("/web/", {}, "web"),
        ("/web/x/y", {}, "web"),
        ("/web/exact", {}, "api"),
        ("/web/exact/not", {}, "web"),
        ("/web/123", {}, "api"),
        ("/web/1234", {}, "web"),
        ("/web", {"headers": {"x-api": "1"}}, "api"),
        ("/web", {"headers": {"x-api": "2"}}, "web"),
        ("/web", {"method": "POST"}, "api"),
        ("/web?api=1", {}, "api"),
        ("/web?api=2", {}, "web"),
        ("/anything", {"host": "api.example.org"}, "api"),
        ("/anything", {"host": "api.example.org:1234"}, "api"),
        ("/web", {"host": "api.example.org"}, "api"),
    ],
)
def test_matches_choose_the_backend(world: World, path: str, more: dict[str, Any], server: str) -> None:
    assert served_by(world.get(path, **more)) == getattr(world, server).port


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/unknown", 404, "route_not_found"),
        ("/webber", 404, "route_not_found"),
        ("/nothing", 500, "invalid_route"),
        ("/zero", 500, "invalid_route"),
        ("/lost-picker", 500, "invalid_route"),
        ("/nobody", 503, "no_endpoints"),
        ("/closed-picker", 503, "picker_unavailable"),
    ],
)
def test_what_leads_nowhere_is_a_typed_error(world: World, path: str, status: int, code: str) -> None:
    answer = world.get(path)
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)


def test_an_error_for_head_does_not_announce_json(world: World) -> None:
    answer = world.get("/unknown", method="HEAD")
    assert answer.status == 404
    assert answer.body == b""
    assert "json" not in answer.headers.get("content-type", "")


def test_the_share_of_a_backend_that_is_missing_is_answered_500(world: World) -> None:
    statuses = Counter(world.get("/half").status for _ in range(100))
    assert statuses.keys() == {200, 500}
    assert 20 <= statuses[500] <= 80


# Filters


def test_headers_are_set_added_and_removed(world: World) -> None:
    answer = world.get("/headers", headers={"x-set": "old", "x-add": "some", "x-remove": "me"})
    seen = answer.json()["headers"]
    assert seen["x-set"] == "100%"
    assert "more" in seen["x-add"]
    assert "x-remove" not in seen
    assert answer.headers["x-answer"] == "yes"
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/old/a?b=c", 301, "https://new.example/old/a?b=c"),
        ("/moved", 308, "http://here.example:{port}/there"),
        ("/moved/a/b?c", 308, "http://here.example:{port}/there/a/b?c"),
    ],
)
def test_redirects_name_the_new_place(world: World, path: str, status: int, location: str) -> None:
    answer = world.get(path, host=f"here.example:{world.http}")
    assert (answer.status, answer.headers["location"]) == (status, location.format(port=world.http))


@pytest.mark.parametrize(
    ("path", "seen"), [("/strip", "/"), ("/strip/a", "/a"), ("/strip/a/b?c=d", "/a/b?c=d"), ("/full/x?y", "/whole?y")]
)
def test_rewrites_change_what_the_backend_sees(world: World, path: str, seen: str) -> None:
    answer = world.get(path)
    assert answer.status == 200
    assert world.web.seen[-1]["path"] == seen
    if path.startswith("/strip"):
        assert answer.json()["headers"]["host"] == "inside.example"


def allowed(answer: Answer) -> dict[str, str]:
    start = "access-control-"
    return {name.removeprefix(start): value for name, value in answer.headers.items() if name.startswith(start)}


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("https://one.example", True),
        ("https://a.many.example", True),
        ("https://a.b.many.example", True),
        ("http://any.example:8080", True),
        ("http://one.example", False),
        ("https://one.example:8443", False),
        ("https://many.example", False),
        ("https://a.many.example:8443", False),
        ("https://evil.example/.many.example", False),
        ("https://one.example.evil", False),
        ("https://onexexample", False),
        ("null", False),
    ],
)
def test_pages_of_allowed_origins_may_ask(world: World, origin: str, is_allowed: bool) -> None:
    asked = {"origin": origin, "access-control-request-method": "PATCH", "access-control-request-headers": "x-one"}
    count = len(world.web.seen)
    before = world.get("/pages", method="OPTIONS", headers=asked)
    assert (before.status, len(world.web.seen)) == (200, count)
    # Without the first of these a browser looks at none of the others.
    assert allowed(before).get("allow-origin") == (origin if is_allowed else None)
    assert not is_allowed or allowed(before) == {
        "allow-origin": origin,
        "allow-methods": "GET, PATCH",
        "allow-headers": "x-one, x-two",
        "expose-headers": "x-three",
        "max-age": "60",
    }
    answer = world.get("/pages", headers={"origin": origin})
    assert served_by(answer) == world.web.port
    assert allowed(answer) == ({"allow-origin": origin, "expose-headers": "x-three"} if is_allowed else {})


def test_with_credentials_a_star_is_what_the_page_asked_for(world: World) -> None:
    asked = {"origin": "http://x:1", "access-control-request-method": "PUT", "access-control-request-headers": "x-one"}
    answer = world.get("/any-page", method="OPTIONS", headers=asked)
    assert answer.status == 200
    assert allowed(answer) == {
        "allow-origin": "http://x:1",
        "allow-credentials": "true",
        "allow-methods": "PUT",
        "allow-headers": "x-one",
        "max-age": "5",
    }


def test_no_page_may_ask_where_none_is_named(world: World) -> None:
    asked = {"origin": "http://x", "access-control-request-method": "PUT"}
    assert "allow-origin" not in allowed(world.get("/no-page", method="OPTIONS", headers=asked))
    assert served_by(world.get("/no-page")) == world.web.port


def test_a_mirror_gets_a_copy_and_its_answer_does_not_matter(world: World) -> None:
    assert served_by(world.get("/mirror/this", host="mirror.example")) == world.web.port
    found = wait_until("the copy", lambda: [each for each in world.api.seen if each["path"] == "/mirror/this"])
    assert found[0]["headers"]["host"] == "mirror.example"


def test_a_backend_that_is_slower_than_the_rule_allows_is_a_504(world: World) -> None:
    answer = world.get("/slow")
    assert answer.status == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"


# Pickers


def test_a_foreign_picker_chooses_and_is_told_who_served(world: World) -> None:
    answer = world.get("/full-picker")
    assert served_by(answer) == world.two.port
    assert answer.headers[SERVED] == f"127.0.0.1:{world.two.port}"
    assert world.full.modes[-1] == 4


@pytest.mark.parametrize("size", [1, 70_000, 2_000_000])
def test_a_foreign_picker_sees_the_whole_body_in_either_mode(world: World, size: int) -> None:
    body = b"x" * size
    for path, picker, server in (
        ("/full-picker", world.full, world.two),
        ("/early-picker", world.early, world.one),
    ):
        answer = world.get(path, body=body)
        assert served_by(answer) == server.port
        assert answer.json()["bytes"] == size
        assert answer.headers[SERVED] == f"127.0.0.1:{server.port}"
        assert picker.bodies[-1] == body


def test_the_name_of_the_pool_is_for_our_picker_only(world: World) -> None:
    world.get("/full-picker")
    assert world.full.pools == []
    assert "x-stellwerk-pool" not in world.two.seen[-1]["headers"]
    assert "x-stellwerk-served" not in world.get("/full-picker").headers


@pytest.mark.parametrize("body", [None, b"x", b"x" * 100_000])
def test_a_pool_that_fails_open_serves_without_its_picker(world: World, body: bytes | None) -> None:
    for _ in range(5):
        answer = world.get("/open-picker", body=body)
        assert served_by(answer) in (world.one.port, world.two.port)
        assert answer.json()["bytes"] == len(body or b"")


def test_shares_of_one_rule_go_through_the_picker_of_their_own_backend(world: World) -> None:
    kinds: Counter[str] = Counter()
    for _ in range(60):
        answer = world.chat("/mixed")
        kinds["foreign" if SERVED in answer.headers else "ours" if "x-sim-server" in answer.headers else "service"] += 1
        if SERVED in answer.headers:
            assert answer.headers[SERVED] == f"127.0.0.1:{world.two.port}"
    assert kinds.keys() == {"foreign", "ours", "service"}


def test_an_unknown_model_is_refused_by_our_picker(world: World) -> None:
    answer = ask(world.http, "/v1/chat/completions", body={**CHAT, "model": "nobody"})
    assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")


# TLS


def test_the_name_that_a_client_gives_chooses_listener_and_certificate(world: World) -> None:
    answer, shown = ask_tls(world.https, "a.example.com")
    assert (served_by(answer), shown) == (world.web.port, world.certificates["a.example.com"])
    answer, shown = ask_tls(world.https, "c.example.com")
    assert (served_by(answer), shown) == (world.api.port, world.certificates["b.example.com"])
    answer, _ = ask_tls(world.https, "a.example.com", host="other.example.org")
    assert answer.status == 404


# Changes. They come last: the world is another one afterwards.


def test_a_route_that_moves_between_backends_loses_no_request(world: World) -> None:
    moving = route("moving", rule(to_service("web"), path="/moving"))
    moved = route("moving", rule(to_pool("early"), path="/moving"))
    world.gateway.apply([*world.objects, moving])
    wait_until("the route", lambda: _status(world.http, "/moving") == 200)
    stopping, statuses = threading.Event(), Counter[int]()

    def load() -> None:
        while not stopping.is_set():
            statuses[_status(world.http, "/moving")] += 1

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(2):
            world.gateway.apply([*world.objects, moved])
            wait_until("the move", lambda: world.get("/moving").json()["served_by"] == world.one.port)
            world.gateway.apply([*world.objects, moving])
            wait_until("the way back", lambda: world.get("/moving").json()["served_by"] == world.web.port)
    finally:
        stopping.set()
        thread.join()
        world.gateway.apply(world.objects)
    assert statuses.keys() == {200}, statuses


def test_a_new_certificate_is_shown_and_standing_connections_stay(world: World) -> None:
    standing, _ = connect_tls(world.https, "c.example.com")
    standing.request("GET", "/before", headers={"host": "c.example.com"})
    standing.getresponse().read()
    fresh = certificate("b.example.com")
    replaced = [each for each in world.objects if each["metadata"]["name"] != "cert-b"]
    world.gateway.apply([*replaced, tls_secret("cert-b", *fresh)])
    expected = ssl.PEM_cert_to_DER_cert(fresh[0].decode())
    wait_until("the new certificate", lambda: ask_tls(world.https, "c.example.com")[1] == expected)
    before = standing.sock
    standing.request("GET", "/after", headers={"host": "c.example.com"})
    assert standing.getresponse().status == 200
    assert standing.sock is before
    standing.close()


def test_a_secret_that_is_spoilt_or_gone_leaves_the_last_good_certificate(world: World) -> None:
    good = certificate("b.example.com")
    expected = ssl.PEM_cert_to_DER_cert(good[0].decode())
    others = [each for each in world.objects if each["metadata"]["name"] != "cert-b"]
    world.gateway.apply([*others, tls_secret("cert-b", *good)])
    wait_until("the certificate", lambda: ask_tls(world.https, "c.example.com")[1] == expected)
    for path, spoilt in (("/spoilt", [tls_secret("cert-b", good[0], b"no key")]), ("/gone", [])):
        world.gateway.apply([*others, *spoilt, route("seen", rule(to_service("web"), path=path))])
        wait_until("the change", lambda path=path: _status(world.http, path) == 200)  # type: ignore[misc]
        answer, shown = ask_tls(world.https, "c.example.com")
        assert (served_by(answer), shown) == (world.api.port, expected)
        wait_until("a remark", lambda: any("default/cert-b" in each for each in world.gateway.remarks))
    fresh = certificate("b.example.com")
    expected = ssl.PEM_cert_to_DER_cert(fresh[0].decode())
    world.gateway.apply([*others, tls_secret("cert-b", *fresh)])
    wait_until("the next certificate", lambda: ask_tls(world.https, "c.example.com")[1] == expected)
    wait_until("no remark", lambda: not world.gateway.remarks)


def test_a_partly_bad_route_stops_neither_its_good_rules_nor_the_routes_of_others(world: World) -> None:
    web = to_service("web")
    bad = {"path": {"type": "RegularExpression", "value": "(?=a)"}}
    forged = change("RequestHeaderModifier", set=[{"name": "Host", "value": "a\nb"}])
    mixed = route(
        "mixed",
        {"matches": [bad], "backendRefs": [web]},
        {"matches": [bad, {"path": {"value": "/half-bad"}}], "backendRefs": [web]},
        rule(web, path="/bad-filter", filters=[forged]),
        rule({**web, "filters": [forged]}, path="/bad-backend"),
        rule(
            web,
            path="/framing",
            filters=[change("RequestHeaderModifier", set=[{"name": "Content-Length", "value": "0"}])],
        ),
        rule(path="/bad-place", filters=[change("RequestRedirect", path=prefix("/a\0"))]),
        rule(web, path="/good"),
    )
    world.gateway.apply([*world.objects, mixed, route("other", rule(web, path="/other"))])
    wait_until("the good route", lambda: _status(world.http, "/other") == 200)
    paths = ("/good", "/half-bad", "/bad-filter", "/bad-backend", "/framing", "/bad-place")
    assert [_status(world.http, each) for each in paths] == [200, 500, 500, 500, 500, 500]


def test_routes_that_envoy_refuses_are_a_remark_and_a_metric_until_it_takes_others(world: World) -> None:
    """The check lets none through, so the file is spoilt behind its back."""
    (envoy,) = [line for line in children_of(world.gateway.child.process.pid).values() if "--config-path" in line]
    directory = Path(envoy.partition("--config-path ")[2].split()[0]).parent
    routes = directory / "envoy" / f"routes-{world.http}.json"
    spoilt = routes.with_suffix(".new")
    spoilt.write_text(
        routes.read_text().replace("/web/[0-9]{3}", "(?=a)").replace('"version_info":"', '"version_info":"x')
    )
    spoilt.rename(routes)
    (remark,) = wait_until("a remark", lambda: world.gateway.remarks)
    assert f"rds.port-{world.http}" in remark
    assert "(?=" in remark
    assert "\nstellwerk_envoy_rejections 1" in world.gateway.metrics()
    assert _status(world.http, "/web") == 200
    world.gateway.apply([*world.objects, route("next", rule(to_service("web"), path="/next"))])
    wait_until("the next route", lambda: _status(world.http, "/next") == 200)
    wait_until("no remark", lambda: not world.gateway.remarks)
    assert "\nstellwerk_envoy_rejections 0" in world.gateway.metrics()


def test_a_gateway_that_goes_takes_its_listeners_along(world: World) -> None:
    world.gateway.apply([each for each in world.objects if each["kind"] != "Gateway"])
    wait_until("nobody to listen", lambda: _status(world.http, "/web") == 0)
    assert not world.gateway.is_ready
    world.gateway.apply(world.objects)
    wait_until("the Gateway again", lambda: _status(world.http, "/web") == 200)


def test_a_gateway_that_is_told_to_end_accepts_connections_a_while_longer(world: World) -> None:
    process = world.gateway.child.process
    process.terminate()
    ends = time.monotonic() + 2.0
    while time.monotonic() < ends:
        assert world.chat().status == 200
        time.sleep(0.05)
    assert process.wait(30) == 0
