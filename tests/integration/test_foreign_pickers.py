"""A Gateway and pickers of pools that are processes of their own: one of them freezes, goes, or takes its time."""

import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.kit.data_plane import model_servers
from tests.kit.ext_proc_client import health
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
from tests.kit.processes import Answer, Child, children_of, free_port, simulated_servers, stellwerk, wait_until
from tests.kit.routed import Routed, ask, ask_tls, model_server, routed

pytestmark = pytest.mark.integration
CHAT = "/v1/chat/completions"
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hello"}]}'
MODES = ("open", "closed")
REPLICAS = 2


@dataclass
class World:
    """Pools `open` and `closed` with one picker of two replicas between them."""

    gateway: Routed
    objects: list[Object]
    http: int
    pickers: list[Child]

    def status(self, name: str, timeout: float = 60.0) -> int:
        """Of a chat completion of a pool; 0: no answer."""
        asked = partial(ask, self.http, CHAT, host=f"{name}.example", body=BODY, timeout=timeout)
        return _status(asked)

    def steadily(self, name: str, status: int) -> bool:
        """Several times in a row."""
        return all(self.status(name) == status for _ in range(8))

    def members(self, *replicas: int, leaving: int | None = None) -> None:
        """From here on these serve the Service; one that leaves still answers."""
        self.gateway.apply([*self.objects, *slices(*replicas, leaving=leaving)])


PORTS: list[int] = []
"""ext_proc ports of the replicas."""


def slices(*replicas: int, leaving: int | None = None) -> list[Object]:
    found = [endpoint_slice("epp", PORTS[each]) for each in replicas]
    if leaving is not None:
        last = endpoint_slice("epp", PORTS[leaving], ready=False)
        last["endpoints"][0]["conditions"] |= {"serving": True, "terminating": True}
        found.append(last)
    return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    http = free_port()
    with ExitStack() as stack:
        sim = stack.enter_context(simulated_servers(1, "--model", "m", "--speed", "instant"))
        servers = [model_server(f"{name}-0", sim.ports[0], name) for name in MODES]
        modes = {"open": "FailOpen", "closed": "FailClose"}
        pools = [pool(name, picker_ref("epp", mode=mode)) for name, mode in modes.items()]
        objects = [
            gateway_class(),
            gateway(listener("http", http)),
            *pools,
            *servers,
            service("epp", 9002),
            *(route(name, rule(to_pool(name)), hostnames=[f"{name}.example"]) for name in MODES),
        ]
        for folder in ("routes", "pools"):
            (tmp_path / folder).mkdir()
        (tmp_path / "pools" / "objects.json").write_text(
            json.dumps({"apiVersion": "v1", "kind": "List", "items": [*pools, *servers]})
        )
        pickers = []
        PORTS[:] = [free_port() for _ in range(REPLICAS)]
        for port in PORTS:
            probe, admin = free_port(), free_port()
            ports = ("--grpc-port", str(port), "--grpc-health-port", str(probe), "--metrics-port", str(admin))
            objects_of = ("-f", str(tmp_path / "pools"), "--pool-name", "open", "--pool-namespace", "default")
            pickers.append((stack.enter_context(stellwerk("epp", *objects_of, *ports)), probe))
        running = stack.enter_context(routed([*objects, *slices(0, 1)], tmp_path / "routes"))
        for child, probe in pickers:
            wait_until("the picker", partial(_serves, child, probe))
        made = World(running, objects, http, [child for child, _ in pickers])
        for name in MODES:
            wait_until(f"pool {name}", partial(made.steadily, name, 200))
        yield made


def _serves(child: Child, port: int) -> bool:
    child.expect_alive()
    try:
        return health(port) == "SERVING"
    except Exception:  # noqa: BLE001 - not there yet
        return False


@pytest.mark.timeout(180)
def test_pickers_that_freeze_keep_no_request_waiting_and_are_asked_again_when_they_wake(world: World) -> None:
    """While a body streams to a picker Envoy knows no time limit; that it answers is checked beside."""
    pids = [child.process.pid for child in world.pickers]
    waiting: Counter[tuple[str, int]] = Counter()

    def wait(name: str) -> None:
        waiting[name, world.status(name)] += 1

    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        threads = [threading.Thread(target=wait, args=(name,)) for name in MODES for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(status >= 200 for _, status in waiting), waiting
        wait_until("FailOpen to serve", lambda: world.steadily("open", 200))
        assert world.steadily("closed", 503)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    wait_until("the pickers to be asked again", lambda: world.steadily("closed", 200))


class Load:
    """Chat completions of pool `closed`, by three clients at once, while it is entered; each has to be answered."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._statuses: Counter[tuple[int, str]] = Counter()
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]

    def more(self, count: int) -> None:
        """Wait for so many more answers."""
        enough = self._statuses.total() + count
        wait_until("more answers", lambda: self._statuses.total() > enough)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()
        if kind is None:
            assert self._statuses.keys() == {(200, "")}, self._statuses

    def _ask(self) -> None:
        while not self._ends.is_set():
            try:
                answer = ask(self._world.http, CHAT, host="closed.example", body=BODY, timeout=60.0)
            except OSError as error:
                self._statuses[0, repr(error)] += 1
            else:
                self._statuses[answer.status, "" if answer.status == 200 else answer.body.decode()[:400]] += 1


def test_a_replica_that_leaves_its_service_and_ends_costs_no_request(world: World) -> None:
    with Load(world) as load:
        for gone in (0, 1):
            world.members(1 - gone, leaving=gone)
            load.more(50)
            world.members(1 - gone)
            load.more(50)
            world.members(0, 1)
            load.more(50)
        world.members(1, leaving=0)
        world.pickers[0].process.send_signal(signal.SIGTERM)
        world.pickers[0].process.wait(60)
        load.more(50)


def test_a_replica_that_takes_the_place_of_another_at_once_costs_no_request(world: World) -> None:
    """Whoever comes has not answered Envoy's check when the one before is gone."""
    with Load(world) as load:
        for only in (0, 1, 0, 1, 0):
            world.members(only)
            load.more(100)


def test_a_replica_that_has_left_stands_in_for_a_while_and_is_forgotten_then(world: World) -> None:
    """Envoy is told twice."""
    pattern = re.compile(r'^stellwerk_envoy_updates_total\{kind="endpoints",result="taken"\} (\d+)$', re.MULTILINE)

    def told() -> int:
        found = pattern.search(world.gateway.metrics())
        assert found is not None
        return int(found[1])

    before = told()
    world.members(0)
    wait_until("Envoy to forget", lambda: told() >= before + 2)
    assert world.steadily("closed", 200)


def test_a_replica_that_is_killed_is_replaced_within_the_call(world: World) -> None:
    """Envoy does not know yet that it is gone: whoever is not answered asks the other one."""
    world.pickers[0].process.kill()
    world.pickers[0].process.wait()
    statuses = Counter(world.status("closed") for _ in range(30))
    assert statuses.keys() == {200}, statuses


def test_dozens_of_certificates_and_pools_need_no_more_of_the_kernel_than_one(tmp_path: Path) -> None:
    """One inotify instance per watched file, of which a user has 128."""
    http, https = free_port(), free_port()
    chain, key = certificate("*.example.com")
    names = [f"h{number}" for number in range(40)]
    with model_servers(1) as (server,):
        listeners = [
            listener(name, https, "HTTPS", hostname=f"{name}.example.com", tls={"certificateRefs": [{"name": name}]})
            for name in names
        ]
        objects = [
            gateway_class(),
            gateway(listener("http", http), *listeners),
            *(tls_secret(name, chain, key) for name in names),
            *(pool(name) for name in names),
            *(model_server(f"{name}-0", server.port, name) for name in names),
            service("web"),
            endpoint_slice("web", server.port),
            route("web", rule(to_service("web"), path="/web")),
            route("pools", *(rule(to_pool(name), path=f"/{name}") for name in names[:16])),
        ]
        last = f"{names[-1]}.example.com"
        with routed(objects, tmp_path) as running:
            wait_until("the last certificate", lambda: _status(lambda: ask_tls(https, last, "/web")[0]) == 200)
            (envoy,) = (pid for pid, line in children_of(running.child.process.pid).items() if "--config-path" in line)
            descriptors = Path(f"/proc/{envoy}/fd").iterdir()
            assert sum(os.readlink(each) == "anon_inode:inotify" for each in descriptors) < 10


def _status(asked: Callable[[], Answer]) -> int:
    """0: no answer."""
    try:
        return asked().status
    except OSError:
        return 0
