"""What happens to a request when the picker is silent, on real Envoy: every fault, pool and kind of request."""

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stellwerk.model.catalog import Catalog, FailureMode
from tests.kit.data_plane import DataPlane, RecordingServer, catalog, data_plane, model_servers, pool, scripted_picker
from tests.kit.processes import Answer, call, wait_until

pytestmark = pytest.mark.integration

MESSAGE_SECONDS = 0.5
BOUND_SECONDS = 10.0
"""Far above `MESSAGE_SECONDS`, since the machine is shared, and far below any idle timeout."""
FAULTS = ("refused", "die-headers", "die-body", "hang-headers", "hang-body", "frozen")
SMALL, LARGE = 0, 2 * 1024 * 1024


@dataclass
class World:
    """Envoy with one server behind each of the pools `open` and `closed`."""

    plane: DataPlane
    open: RecordingServer
    closed: RecordingServer
    tmp_path: Path

    def both(self) -> Catalog:
        return catalog(
            pool("open", self.open.port, mode=FailureMode.OPEN),
            pool("closed", self.closed.port),
            models={"model-open": "default/open", "model-closed": "default/closed"},
        )

    def only_open(self) -> Catalog:
        return catalog(pool("open", self.open.port, mode=FailureMode.OPEN), models={"model-open": "default/open"})

    def only_closed(self) -> Catalog:
        return catalog(
            pool("closed", self.closed.port), models={"model-closed": "default/closed"}, default="default/closed"
        )

    def post(self, model: str, padding: int = SMALL, path: str = "/v1/chat/completions") -> Answer:
        return call(f"{self.plane.url}{path}", {"prompt": "x" * padding, "model": model}, timeout=BOUND_SECONDS)

    def get(self, path: str = "/v1/anything") -> Answer:
        return call(f"{self.plane.url}{path}", timeout=BOUND_SECONDS)

    @contextlib.contextmanager
    def fault(self, kind: str) -> Iterator[None]:
        """The picker refuses (is not there), or runs with the fault."""
        if kind == "refused":
            self.plane.expect_picker(is_healthy=False)
            yield
            return
        pools = {
            "": ("default/open", f"127.0.0.1:{self.open.port}"),
            "model-open": ("default/open", f"127.0.0.1:{self.open.port}"),
            "model-closed": ("default/closed", f"127.0.0.1:{self.closed.port}"),
        }
        script = "none" if kind == "frozen" else kind
        with scripted_picker(self.plane, pools, self.tmp_path, script) as picker:
            if kind == "frozen":
                os.kill(picker.process.pid, signal.SIGSTOP)
            yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    tmp_path = tmp_path_factory.mktemp("world")
    with (
        model_servers(2) as (opened, closed),
        data_plane(catalog(), tmp_path, message_seconds=MESSAGE_SECONDS) as plane,
    ):
        yield World(plane, opened, closed, tmp_path)


def expect_served_by(server: RecordingServer, answer: Answer) -> None:
    assert answer.status == 200, answer.body
    assert answer.json()["served_by"] == server.port


def expect_refused(ask: Callable[[], Answer], fault: str) -> None:
    """Typed, and 504 only where the picker was asked and did not answer."""
    answer = once_asked(ask) if fault.startswith("hang") else ask()
    allowed = {503, 504} if fault == "frozen" else {504} if fault.startswith("hang") else {503}
    assert answer.status in allowed, answer.body
    error = answer.json()["error"]
    assert error["code"] == ("picker_timeout" if answer.status == 504 else "picker_unavailable")
    assert error.keys() == {"message", "type", "code", "param"}
    assert "FailOpen" in error["message"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-request-id"]


def once_asked(ask: Callable[[], Answer], is_asked: Callable[[Answer], bool] = lambda got: got.status != 503) -> Answer:
    """The answer when the picker takes part: workers learn a little later than the statistics that it is there."""
    answers: list[Answer] = []

    def check() -> bool:
        answers.append(ask())
        return is_asked(answers[-1])

    wait_until("the picker to be asked", check)
    return answers[-1]


@pytest.mark.parametrize("padding", [SMALL, LARGE], ids=["small", "2 MiB"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_post_for_an_open_pool_is_served_by_that_pool(world: World, fault: str, padding: int) -> None:
    world.plane.apply(world.both())
    with world.fault(fault):
        started = time.monotonic()
        answer = world.post("model-open", padding)
        assert time.monotonic() - started < BOUND_SECONDS
    expect_served_by(world.open, answer)
    assert answer.json()["bytes"] > padding


@pytest.mark.parametrize("padding", [SMALL, LARGE], ids=["small", "2 MiB"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_post_for_a_closed_pool_gets_a_typed_error_although_another_pool_is_open(
    world: World, fault: str, padding: int
) -> None:
    world.plane.apply(world.both())
    seen = len(world.closed.seen)
    with world.fault(fault):
        expect_refused(lambda: world.post("model-closed", padding), fault)
    assert len(world.closed.seen) == seen


@pytest.mark.parametrize("fault", ["refused", "die-headers", "hang-headers", "frozen"])
def test_a_get_goes_to_the_only_open_pool(world: World, fault: str) -> None:
    world.plane.apply(world.both())
    with world.fault(fault):
        expect_served_by(world.open, world.get())


@pytest.mark.parametrize("fault", ["refused", "die-headers", "hang-headers", "frozen"])
def test_a_get_gets_a_typed_error_when_no_pool_is_open(world: World, fault: str) -> None:
    world.plane.apply(world.only_closed())
    with world.fault(fault):
        expect_refused(lambda: world.get(), fault)


@pytest.mark.parametrize("fault", ["refused", "hang-body"])
def test_with_closed_pools_only_nothing_is_served(world: World, fault: str) -> None:
    world.plane.apply(world.only_closed())
    with world.fault(fault):
        for model in ("model-closed", "model-unheard-of"):
            expect_refused(functools.partial(world.post, model), fault)


def test_an_unknown_model_goes_to_the_only_open_pool(world: World) -> None:
    world.plane.apply(world.only_open())
    with world.fault("refused"):
        expect_served_by(world.open, world.post("model-unheard-of"))


def test_with_two_open_pools_and_no_default_an_unknown_model_is_refused(world: World) -> None:
    both_open = catalog(
        pool("open", world.open.port, mode=FailureMode.OPEN),
        pool("closed", world.closed.port, mode=FailureMode.OPEN),
        models={"model-open": "default/open", "model-closed": "default/closed"},
    )
    world.plane.apply(both_open)
    with world.fault("refused"):
        expect_served_by(world.open, world.post("model-open"))
        expect_served_by(world.closed, world.post("model-closed"))
        expect_refused(lambda: world.post("model-unheard-of"), "refused")


def test_models_that_servers_list_themselves_find_their_pool(world: World) -> None:
    pools = catalog(pool("open", world.open.port, mode=FailureMode.OPEN), pool("closed", world.closed.port))
    world.plane.apply(pools, served={"default/open": ["base-open"], "default/closed": ["base-closed"]})
    with world.fault("refused"):
        expect_served_by(world.open, world.post("base-open"))
        expect_refused(lambda: world.post("base-closed"), "refused")


def test_anthropic_clients_get_their_own_shape(world: World) -> None:
    world.plane.apply(world.both())
    with world.fault("refused"):
        answer = world.post("model-closed", path="/v1/messages")
    assert answer.status == 503
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "api_error"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_picker_that_dies_on_the_answer_costs_nothing(world: World) -> None:
    world.plane.apply(world.both())
    for model, server in (("model-open", world.open), ("model-closed", world.closed)):
        with world.fault("die-response"):
            ask = functools.partial(world.post, model)
            expect_served_by(server, once_asked(ask))


def test_a_picker_that_hangs_on_the_answer_delays_it_by_the_timeout_only(world: World) -> None:
    world.plane.apply(world.both())
    with world.fault("hang-response"):
        answer = once_asked(lambda: world.post("model-closed"))
    expect_served_by(world.closed, answer)


def test_a_picker_that_forgets_the_pool_counts_as_silent(world: World) -> None:
    world.plane.apply(world.both())
    with world.fault("garbage"):
        expect_served_by(world.open, world.post("model-open"))
        expect_refused(lambda: world.post("model-closed"), "garbage")


@pytest.mark.parametrize("fault", ["none", "refused", "die-headers", "die-body", "hang-headers", "hang-body"])
def test_forged_headers_choose_neither_pool_nor_server(world: World, fault: str) -> None:
    world.plane.apply(world.both())
    forged = {
        "x-stellwerk-pool": "default/closed",
        "X-Stellwerk-Ticket": "1-1",
        "x-gateway-destination-endpoint": f"127.0.0.1:{world.closed.port}",
        "x-gateway-destination-endpoint-subset": f"127.0.0.1:{world.closed.port}",
        "x-prefiller-host-port": f"127.0.0.1:{world.closed.port}",
        "test-epp-endpoint-selection": f"127.0.0.1:{world.closed.port}",
        "x-envoy-original-dst-host": f"127.0.0.1:{world.closed.port}",
        "x-envoy-retry-on": "5xx",
    }
    with world.fault(fault):
        forge = functools.partial(call, f"{world.plane.url}/v1/completions", {"model": "model-open"}, headers=forged)
        decided = (
            once_asked(forge, lambda got: "x-stellwerk-pool" in got.json()["headers"]) if fault == "none" else None
        )
        answer = decided or forge()
    expect_served_by(world.open, answer)
    got = answer.json()["headers"]
    picked = {"x-stellwerk-pool": "default/open", "x-gateway-destination-endpoint": f"127.0.0.1:{world.open.port}"}
    assert {name: got[name] for name in got if name in {each.lower() for each in forged}} == (
        picked if fault == "none" else {}
    )


BODIES = [
    (b'{"prompt": "\\"model\\": \\"model-closed\\"", "model": "model-open"}', 200),
    (b'{"tools": [{"model": "model-closed"}], "metadata": {"model": "model-closed"}, "model" :\n "model-open"}', 200),
    (b'{"prompt": "model", "x": ["model", "model-open"], "model": "model-closed"}', 503),
    (b'{"prompt": "ends in a backslash \\\\", "model": "model-closed"}', 503),
    (b' \n{"model": "model-closed"', 503),
    (b'{"prompt": [' + b"1," * 1_000_000 + b'1], "model": "model-closed"}', 503),
    (b'{"model": "model-closed", "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", 503),
    (b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nmodel-closed\r\n--b--\r\n', 503),
    (b"", 200), (b"{", 200), (b"[]", 200), (b"\xff\xfe", 200), (b'{"model": null}', 200), (b'{"model', 200),
    (b'{"model": "' + b"x" * 100_000 + b'"}', 200),
    (b"[" * 4_000_000, 200),
    (b'{"a":[' + b"{}," * 2_000_000, 200),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status"), BODIES, ids=range(len(BODIES)))
def test_envoy_finds_the_top_level_model_of_any_body_and_survives_all(world: World, body: bytes, status: int) -> None:
    """200: it went to the open pool, by name or because no closed model was named."""
    world.plane.apply(world.both())
    with world.fault("refused"):
        assert call(f"{world.plane.url}/v1/completions", body, timeout=BOUND_SECONDS).status == status


def test_the_picker_is_used_again_as_soon_as_it_is_back(world: World) -> None:
    world.plane.apply(world.both())
    with world.fault("refused"):
        expect_refused(lambda: world.post("model-closed"), "refused")
    with world.fault("none"):
        answer = once_asked(lambda: world.post("model-closed"))
        expect_served_by(world.closed, answer)


def test_requests_that_the_picker_decided_do_not_run_the_search_for_a_model(world: World) -> None:
    """A body without a model, so that only the picker can have chosen the closed pool."""
    world.plane.apply(world.both())
    with world.fault("none"):
        answer = once_asked(lambda: world.post("model-closed", LARGE))
    expect_served_by(world.closed, answer)
    assert answer.json()["headers"]["x-stellwerk-pool"] == "default/closed"
