"""The generated configuration on real Envoy: routing, retries, limits, error bodies, usage, trust, reloads."""

import http.client
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stellwerk.control.envoy.resources import resources
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.edge.envoy import EnvoyAdmin, EnvoyFiles, EnvoyLog, EnvoyWatch, Rejection, drain
from stellwerk.edge.preflight import RuntimeDirectory, find_envoy
from stellwerk.model.catalog import Catalog, FailureMode
from tests.kit.data_plane import (
    DataPlane,
    RecordingServer,
    ScriptedPicker,
    catalog,
    data_plane,
    model_servers,
    pool,
    scripted_picker,
)
from tests.kit.processes import Answer, call, free_port, wait_until

pytestmark = pytest.mark.integration

RECORDED = Path(__file__).parents[1] / "fixtures" / "vllm-0.32.0"
IDLE_SECONDS = 1.0


@dataclass
class World:
    """Envoy, a picker that answers, and servers a, b of pool `main`; `dead` are ports where nobody listens."""

    plane: DataPlane
    picker: ScriptedPicker
    a: RecordingServer
    b: RecordingServer
    dead: tuple[int, int, int]

    def wanted(self) -> Catalog:
        main = pool("main", self.a.port, self.b.port, *self.dead)
        return catalog(main, pool("empty"), pool("down", *self.dead[:2]), models={"m": "default/main"})

    def restore(self) -> None:
        """What the other tests expect."""
        self.plane.apply(self.wanted())

    def post(self, model: str, path: str = "/v1/chat/completions", **more: object) -> Answer:
        return call(f"{self.plane.url}{path}", {"model": model, **more}, timeout=20)

    def raw(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of whatever comes back for these bytes."""
        with socket.create_connection(("127.0.0.1", self.plane.port), timeout=10) as connection:
            connection.sendall(request)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status, answer.read()

    def reported(self, path: str) -> list[dict[str, Any]]:
        """What the access log says of requests with this path, once it does."""
        return wait_until("the access log", lambda: [each for each in self.picker.told("log") if each["path"] == path])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    tmp_path = tmp_path_factory.mktemp("world")
    with model_servers(2) as (a, b):
        dead = (free_port(), free_port(), free_port())
        main = pool("main", a.port, b.port, *dead)
        wanted = catalog(main, pool("empty"), pool("down", dead[0], dead[1]), models={"m": "default/main"})
        with data_plane(wanted, tmp_path, upstream_idle_seconds=IDLE_SECONDS, request_headers_seconds=1.0) as plane:
            at = "127.0.0.1:{}".format
            pools = {
                "": ("default/main", at(a.port)),
                "a": ("default/main", at(a.port)),
                "b": ("default/main", at(b.port)),
                "dead-b": ("default/main", ",".join(map(at, (dead[0], b.port)))),
                "dead-dead-b": ("default/main", ",".join(map(at, (dead[0], dead[1], b.port)))),
                "all-dead": ("default/main", ",".join(map(at, dead))),
                "outside": ("default/main", "127.0.0.1:1"),
                "empty": ("default/empty", at(a.port)),
                "down": ("default/down", at(dead[0])),
                "gone": ("default/gone", at(a.port)),
            }
            with scripted_picker(plane, pools, tmp_path) as picker:
                made = World(plane, picker, a, b, dead)
                made.restore()
                yield made


@pytest.mark.parametrize(("model", "server"), [("a", "a"), ("b", "b"), ("dead-b", "b"), ("dead-dead-b", "b")])
def test_the_list_is_walked_in_order_until_a_server_is_reached(world: World, model: str, server: str) -> None:
    for _ in range(4):
        answer = world.post(model)
        assert answer.status == 200, answer.body
        assert answer.json()["served_by"] == getattr(world, server).port


def test_a_large_body_is_repeated_whole_for_the_next_server(world: World) -> None:
    answer = world.post("dead-dead-b", prompt="x" * 2_000_000)
    assert answer.json()["served_by"] == world.b.port
    assert answer.json()["bytes"] > 2_000_000


def test_a_pick_outside_the_pool_stays_inside_it(world: World) -> None:
    answer = world.post("outside")
    assert answer.status in (200, 503)
    assert answer.status == 503 or answer.json()["served_by"] in (world.a.port, world.b.port)


def test_a_request_that_kills_servers_meets_each_at_most_once_and_then_fails(world: World) -> None:
    answer = world.post("a", path="/close")
    assert answer.status == 503
    assert answer.json()["error"]["code"] == "upstream_unreachable"
    assert [each["path"] for each in world.a.seen].count("/close") == 1
    assert [each["path"] for each in world.b.seen].count("/close") <= 1


@pytest.mark.parametrize(
    ("model", "code"),
    [("empty", "no_endpoints"), ("down", "upstream_unreachable"), ("gone", "no_pool")],
)
def test_nobody_to_serve_is_a_typed_503(world: World, model: str, code: str) -> None:
    answer = world.post(model)
    assert answer.status == 503
    assert answer.json()["error"]["code"] == code
    assert answer.headers["retry-after"]
    assert answer.headers["x-request-id"]


def test_a_servers_own_error_is_not_touched(world: World) -> None:
    answer = world.post("a", path="/teapot")
    assert answer.status == 418
    assert answer.json()["served_by"] == world.a.port


def test_the_pickers_own_answer_is_not_touched(world: World) -> None:
    answer = world.post("unknown")
    assert answer.status == 404
    assert answer.body == b'{"error":{"message":"from the picker"}}'
    assert answer.headers["content-type"] == "application/json"


def test_a_silent_server_is_a_typed_504_after_the_idle_timeout(world: World) -> None:
    with socket.create_server(("127.0.0.1", world.dead[2])):
        started = time.monotonic()
        answer = call(f"{world.plane.url}/v1/x", {"model": "all-dead"}, timeout=20)
        assert time.monotonic() - started >= 0.9 * IDLE_SECONDS
    assert answer.status == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    assert "1 s" in answer.json()["error"]["message"]


HOST = b"Host: x\r\nConnection: close\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GARBAGE\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"under_score: 1\r\n\r\n", 400, "invalid_http"),
        (b"GET /%00 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"a: " + b"b" * 70_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 120 + b"\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 501, "unsupported"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501, "unsupported"),
        (b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 1\r\n" + CHUNKED, 400, "invalid_http"),
        (b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"zz\r\n\r\n", 400, "invalid_http"),
    ],
)  # fmt: skip
def test_what_is_not_acceptable_http_gets_a_typed_error_at_once(
    world: World, request_bytes: bytes, status: int, code: str
) -> None:
    got, body = world.raw(request_bytes)
    assert got == status
    assert json.loads(body)["error"]["code"] == code


def test_a_request_that_never_ends_its_headers_is_a_typed_408(world: World) -> None:
    status, body = world.raw(b"GET / HTTP/1.1\r\nHost: x\r\n")
    assert status == 408
    assert json.loads(body)["error"]["code"] == "request_timeout"


def test_old_and_upgrading_clients_are_served(world: World) -> None:
    body = b'{"model": "a"}'
    h2c = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    for head in (b"POST /v1/x HTTP/1.0\r\n", b"POST /v1/x HTTP/1.1\r\nHost: x\r\n" + h2c):
        status, answer = world.raw(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        assert status == 200, answer
        assert json.loads(answer)["served_by"] == world.a.port


@pytest.mark.parametrize("length", [16 * 1024 * 1024, 16 * 1024 * 1024 + 1, 20_000_000])
def test_the_body_limit_is_exact_and_names_itself(world: World, length: int) -> None:
    frame = b'{"model": "a", "p": ""}'
    body = frame[:-2] + b"x" * (length - len(frame)) + frame[-2:]
    answer = call(f"{world.plane.url}/v1/x", body)
    if length <= 16 * 1024 * 1024:
        assert answer.json()["bytes"] == length
    else:
        assert answer.status == 413
        assert answer.json()["error"]["code"] == "body_too_large"
        assert "16777216" in answer.json()["error"]["message"]
        assert "--max-body-bytes" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("recording", "counts"),
    [
        ("stream-chat-usage.sse", {"prompt_tokens": 8, "output_tokens": 6}),
        ("stream-chat-continuous-usage.sse", {"prompt_tokens": 8, "output_tokens": 6}),
        ("stream-completion-usage.sse", {"prompt_tokens": 3, "output_tokens": 6}),
        ("stream-completion.sse", {}),
        ("stream-messages.sse", {"prompt_tokens": 8, "output_tokens": 6}),
        ("stream-responses.sse", {"prompt_tokens": 10, "cached_tokens": 0, "output_tokens": 6}),
    ],
)
def test_token_counts_of_streams_come_back_through_the_access_log(
    world: World, recording: str, counts: dict[str, int]
) -> None:
    world.a.events = (RECORDED / recording).read_bytes()
    path = f"/stream/{recording}"
    answer = world.post("a", path=path)
    assert answer.body == world.a.events
    (entry,) = world.reported(path)
    tags = entry["log"]
    assert counted(entry) == counts
    assert tags["ticket"] == "1-7"
    assert int(tags["ttft_us"]) > 0
    assert (entry["status"], entry["served"]) == (200, world.a.port)


@pytest.mark.parametrize(
    ("recording", "counts"),
    [
        ("chat.json", {"prompt_tokens": 12, "output_tokens": 8}),
        ("completion.json", {"prompt_tokens": 3, "output_tokens": 8}),
        ("messages.json", {"prompt_tokens": 10, "output_tokens": 8}),
        ("responses.json", {"prompt_tokens": 10, "cached_tokens": 0, "output_tokens": 8}),
        ("models.json", {}),
    ],
)
def test_token_counts_of_documents_come_back_too(world: World, recording: str, counts: dict[str, int]) -> None:
    world.a.events = json.loads((RECORDED / recording).read_bytes())["body"].encode()
    path = f"/document/{recording}"
    assert world.post("a", path=path).body == world.a.events
    (entry,) = world.reported(path)
    assert counted(entry) == counts


def test_token_counts_are_found_wherever_the_stream_is_cut(world: World) -> None:
    usage = b'{"prompt_tokens":8,"completion_tokens" : 6,"prompt_tokens_details":{"cached_tokens":4}}'
    stream = b'data: {"choices":[],"usage": ' + usage + b"}\n\n"
    world.a.pause_seconds = 0.003
    try:
        for cut in range(1, len(stream), 2):
            world.a.pieces = [stream[:cut], stream[cut:]]
            assert world.post("a", path=f"/stream/cut-{cut}").body == stream
    finally:
        world.a.pause_seconds, world.a.pieces = 0.0, []
    for cut in range(1, len(stream), 2):
        (entry,) = world.reported(f"/stream/cut-{cut}")
        assert counted(entry) == {"prompt_tokens": 8, "cached_tokens": 4, "output_tokens": 6}, cut


def counted(entry: dict[str, Any]) -> dict[str, int]:
    return {name: int(float(text)) for name, text in entry["log"].items() if name.endswith("_tokens")}


NONSENSE = [
    b"0", b'"x"', b"null", b"true", b"[1]", b"{}", b"", b"[DONE]", b'{"a', b"\xff\xfe", b"[" * 50_000,
    b'{"usage":5}', b'{"usage":null}', b'{"usage":"s"}', b'{"usage":[1]}', b'{"usage":{"prompt_tokens":null}}',
    b'{"usage":{"prompt_tokens":{}}}', b'{"usage":{"prompt_tokens":-1}}', b'{"usage":{"prompt_tokens":1e999}}',
    b'{"usage":{"prompt_tokens":' + b"9" * 9000 + b"}}", b'{"usage":{"prompt_tokens":' + b"9" * 300 + b"}}",
    b'{"usage":{' * 500, b'{"usage":{' + b"x" * 100_000, b'"usage"' * 20_000,
    b'{"text":"\\"usage\\":{\\"prompt_tokens\\":9}"}',
]  # fmt: skip


def test_nonsense_from_a_model_server_reaches_the_client_and_nothing_breaks(world: World) -> None:
    written = len(world.plane.log)
    for number, event in enumerate(NONSENSE):
        world.a.events = b"data: " + event + b"\n\n"
        path = f"/stream/nonsense-{number}"
        assert world.post("a", path=path).body == world.a.events
        (entry,) = world.reported(path)
        assert counted(entry) == {}, event[:60]
    assert world.plane.log[written:] == ""


def test_answers_do_not_visit_the_picker(world: World) -> None:
    assert world.post("a").status == 200
    assert not world.picker.told("answer_bytes")


def test_identity_headers_are_removed_unless_the_source_is_trusted(world: World, tmp_path: Path) -> None:
    claims = {"x-llm-d-inference-objective": "urgent", "x-gateway-inference-fairness-id": "me", "x-slo-ttft-ms": "1"}
    answer = call(f"{world.plane.url}/v1/x", {"model": "a"}, headers=claims)
    assert not claims.keys() & answer.json()["headers"].keys()
    wanted = catalog(pool("open", world.a.port, mode=FailureMode.OPEN))
    for trusted, believed in ((("127.0.0.0/8", "::1"), True), (("10.0.0.0/8",), False)):
        with data_plane(wanted, tmp_path, trusted_sources=trusted) as plane:
            headers = call(f"{plane.url}/v1/x", {}, headers={**claims, "x-stellwerk-pool": "x"}).json()["headers"]
        assert (claims.keys() <= headers.keys()) is believed
        assert believed or not claims.keys() & headers.keys()
        assert "x-stellwerk-pool" not in headers


def test_the_clients_request_id_is_kept_and_otherwise_made(world: World) -> None:
    answer = call(f"{world.plane.url}/v1/x", {"model": "a"}, headers={"x-request-id": "mine"})
    assert answer.headers["x-request-id"] == "mine"
    assert answer.json()["headers"]["x-request-id"] == "mine"
    assert len(world.post("a").headers["x-request-id"]) == 36


def test_reloads_while_requests_run_lose_none(world: World, tmp_path: Path) -> None:
    main = pool("main", world.a.port, world.b.port, *world.dead)
    for round_number in range(15):
        more = [pool(f"extra-{each}", world.a.port) for each in range(round_number % 4)]
        only_b = pool("main", world.b.port) if round_number % 2 else main
        world.plane.files.write(
            resources(catalog(only_b, *more, models={f"m{round_number}": "default/main"}), world.plane.settings)
        )
        for _ in range(10):
            answer = world.post("b")
            assert (answer.status, answer.json()["served_by"]) == (200, world.b.port)
    world.restore()
    assert world.plane.stat("listener_manager.listener_modified") == 0


def test_an_answer_that_runs_while_its_pool_changes_is_not_cut(world: World) -> None:
    world.b.pieces = [b"data: %d\n\n" % each for each in range(20)]
    world.b.pause_seconds = 0.05
    try:
        with urllib.request.urlopen(f"{world.plane.url}/stream", data=b'{"model": "b"}', timeout=20) as answer:
            first = answer.read(5)
            for ports in ((world.b.port,), (world.a.port,), (), (world.a.port, world.b.port)):
                world.plane.apply(catalog(pool("main", *ports)))
            assert first + answer.read() == b"".join(world.b.pieces)
    finally:
        world.b.pause_seconds, world.b.pieces = 0.0, []
        world.restore()


@pytest.mark.parametrize(("seconds", "is_enough"), [(20.0, True), (0.2, False)])
def test_draining_lets_answers_finish_and_takes_no_new_connection(
    world: World, tmp_path: Path, seconds: float, is_enough: bool
) -> None:
    world.a.pieces, world.a.pause_seconds = [b"data: %d\n\n" % each for each in range(20)], 0.05
    wanted = catalog(pool("open", world.a.port, mode=FailureMode.OPEN))
    try:
        with (
            data_plane(wanted, tmp_path) as plane,
            urllib.request.urlopen(f"{plane.url}/stream", data=b"{}", timeout=20) as answer,
        ):
            first = answer.read(5)
            assert plane.ask(lambda admin: drain(admin, seconds)) is is_enough
            with pytest.raises(OSError, match="refused"):
                call(f"{plane.url}/v1/x", {})
            assert first + answer.read() == b"".join(world.a.pieces)
            plane.process.kill()
            plane.process.wait()
            assert plane.ask(lambda admin: drain(admin, seconds)), "an Envoy that is gone is drained"
    finally:
        world.a.pieces, world.a.pause_seconds = [], 0.0


def test_hundreds_of_pools_need_no_more_of_the_kernel_than_one(world: World, tmp_path: Path) -> None:
    """One inotify instance per watched file, of which a user has 128."""
    many = [pool(f"pool-{number}", world.a.port, mode=FailureMode.OPEN) for number in range(400)]
    models = {f"m{number}": each.name for number, each in enumerate(many)}
    with data_plane(catalog(*many, models=models), tmp_path) as plane:
        descriptors = Path(f"/proc/{plane.process.pid}/fd").iterdir()
        assert sum(os.readlink(each) == "anon_inode:inotify" for each in descriptors) < 10
        answer = call(f"{plane.url}/v1/x", {"model": "m399"})
        assert answer.json()["served_by"] == world.a.port


def test_a_rejected_update_is_reported_with_envoys_reason_and_changes_nothing(world: World) -> None:
    found: list[Rejection] = []
    settled: list[str] = []
    log = EnvoyLog()
    paths = world.plane.settings.paths
    good = Path(paths.clusters).read_text()
    written = len(world.plane.log)

    async def look(admin: EnvoyAdmin) -> bool:
        watch = EnvoyWatch(admin, log, found.append, settled.append)
        await watch.look()
        found.clear()
        _replace(paths.clusters, good.replace(f'"port_value":{world.a.port}', '"port_value":99999'))
        while not found:
            for line in world.plane.log[written:].splitlines():
                log(line)
            await watch.look()
        assert settled == []
        _replace(paths.clusters, good)
        while not settled:
            await watch.look()
        await watch.look()
        return True

    world.plane.ask(look)
    assert found[0].subscription == "cluster_manager.cds"
    assert "default/main" in found[0].reason
    assert "\n" not in found[0].reason
    assert len(found) == 1
    assert settled == ["cluster_manager.cds"]
    assert world.post("b").status == 200


def _replace(path: str, text: str) -> None:
    temporary = Path(f"{path}.new")
    temporary.write_text(text)
    temporary.rename(path)


def test_envoys_own_check_accepts_every_form_of_the_configuration(tmp_path: Path) -> None:
    with RuntimeDirectory(str(tmp_path)) as paths:
        for trusted in ((), ("10.0.0.0/8",)):
            EnvoyFiles(paths).write(resources(catalog(), EnvoySettings(paths, trusted_sources=trusted)))
            command = [str(find_envoy()), "--mode", "validate", "--disable-hot-restart", "-c", paths.bootstrap]
            check = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert check.returncode == 0, check.stderr[-2000:]
