"""CPU, memory and delay of the picker beside a real API server: a pool of 1,000 Pods, 20 of which change each second.

Every change makes a Pod ready or takes that away. The Pods' addresses are of loopback, and one simulated server answers
for all of them, so that their metrics pages are really read. The delay is from the API server's answer until the change
holds: for `stellwerk epp`, until a request that may go to that Pod only is answered accordingly; for a gateway pod,
until Envoy has (or no longer has) the only Pod of a second pool, while the first one goes on changing.
"""

import asyncio
import contextlib
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.cpu import CpuMeter, resident_bytes
from stellwerk.control.crds import definitions
from stellwerk.edge.envoy import EnvoyAdmin
from tests.cluster.api import Api, Document
from tests.cluster.toolchain import CRDS, program
from tests.kit.api_server import ApiServer, missing_programs
from tests.kit.controller_objects import gateway, gateway_class, http_route, inference_pool
from tests.kit.ext_proc_client import channel, pick
from tests.kit.processes import call, children_of, free_port, simulated_servers, stellwerk, wait_until

PODS, CHANGES_PER_SECOND, SAMPLES_PER_SECOND = 1000, 20, 4
NAMESPACE = "scale"
_KINDS = ("gatewayclasses", "gateways", "httproutes", "referencegrants")
_POLL_SECONDS = 0.005
_PATIENCE_SECONDS = 20.0


@dataclass
class Result:
    """One process under one load. `cpu` in seconds per second, `memory` in bytes, `delays` in seconds, sorted."""

    process: str
    changes: float
    cpu: float
    memory: int
    delays: list[float] = field(default_factory=list)


def run(seconds: float = 30.0) -> list[Result]:
    """The picker alone, then a gateway pod. Empty where the API server's programs are not built."""
    if missing_programs():
        return []
    with (
        tempfile.TemporaryDirectory(prefix="stellwerk-bench-") as state,
        contextlib.closing(ApiServer(Path(state))) as server,
        simulated_servers(1, "--host", "0.0.0.0", "--model", "llama", "--speed", "instant") as sim,
    ):
        crds = [yaml.safe_load(next(program(CRDS).glob(f"*_{n}.yaml")).read_text()) for n in _KINDS]
        server.define([*definitions(), *crds])
        pods = Pods(server.api, sim.ports[0])
        return [*_epp(server, pods, seconds), *_gateway(server, pods, seconds)]


def address(index: int) -> str:
    """Of a Pod."""
    return f"127.1.{index // 200}.{index % 200 + 1}"


class Pods:
    """All Pods as they were written last. One writer."""

    def __init__(self, api: Api, port: int) -> None:
        self.port = port
        self._api = api
        self._ready: dict[str, bool] = {}
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        api.apply(_plain(gateway_class("ours")))
        api.apply(_plain(gateway("front", NAMESPACE)))
        for pool in ("large", "small"):
            made = inference_pool(pool, NAMESPACE)
            spec = {"selector": {"matchLabels": {"app": pool}}, "targetPorts": [{"number": port}]}
            api.apply(_plain({**made, "spec": spec}))
            backend = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": pool}
            api.apply(
                _plain(http_route(pool, NAMESPACE, [{"name": "front"}], [backend], hostnames=[f"{pool}.example"]))
            )
        for index in range(PODS):
            self._make(f"pod-{index}", "large", address(index))
        self._make("only", "small", address(PODS))

    def _make(self, name: str, pool: str, ip: str) -> None:
        metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app": pool}}
        spec = {"containers": [{"name": "c", "image": "i"}]}
        self._api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        self.set(name, True, ip)

    def set(self, name: str, is_ready: bool, ip: str | None = None) -> None:
        """Ready, or not."""
        self._ready[name] = is_ready
        status: Document = {"conditions": [{"type": "Ready", "status": str(is_ready)}]}
        if ip is not None:
            status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
        self._api.merge(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/status", {"status": status})

    @property
    def ready_count(self) -> int:
        """Of the large pool."""
        return sum(is_ready for name, is_ready in self._ready.items() if name != "only")

    def turn(self, name: str) -> bool:
        """The other way round; returns how it is now."""
        self.set(name, not self._ready[name])
        return self._ready[name]


def _plain(value: Document) -> Document:
    return {**value, "metadata": {key: part for key, part in value["metadata"].items() if key != "uid"}}


class Delays:
    """Measures, in a thread of its own, how long changes take to hold; one at a time, and those that come meanwhile
    are not looked at."""

    def __init__(self, holds: Callable[[str, bool], bool]) -> None:
        self.seconds: list[float] = []
        self._holds = holds
        self._changes: queue.Queue[tuple[str, bool, float] | None] = queue.Queue(1)
        self._thread = threading.Thread(target=self._look, name="delays")
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether the next change would be looked at."""
        return self._changes.unfinished_tasks == 0

    def changed(self, name: str, is_ready: bool) -> None:
        """A change that the API server has taken just now."""
        self._changes.put((name, is_ready, time.monotonic()))

    def close(self) -> None:
        """Wait for the last one."""
        self._changes.put(None)
        self._thread.join()

    def _look(self) -> None:
        while (change := self._changes.get()) is not None:
            name, is_ready, since = change
            while not self._holds(name, is_ready) and time.monotonic() - since < _PATIENCE_SECONDS:
                time.sleep(_POLL_SECONDS)
            self.seconds.append(time.monotonic() - since)
            self._changes.task_done()


def _epp(server: ApiServer, pods: Pods, seconds: float) -> Iterator[Result]:
    grpc, health, metrics = free_port(), free_port(), free_port()
    ports = ("--grpc-port", str(grpc), "--grpc-health-port", str(health), "--metrics-port", str(metrics))
    where = ("--kubeconfig", str(server.kubeconfig), "--pool-name", "large", "--pool-namespace", NAMESPACE)
    plain = ("--secure-serving=false", "--metrics-endpoint-auth=false", "--bind-address", "127.0.0.1")
    with stellwerk("epp", *where, *ports, *plain) as child, channel(grpc) as connection:
        child.expect_alive()

        def holds(name: str, is_ready: bool) -> bool:
            only = f"{address(int(name.removeprefix('pod-')))}:{pods.port}"
            return (pick(connection, subset=[only]).status == 200) == is_ready

        wait_until("the picker", lambda: _answers(f"http://127.0.0.1:{metrics}/readyz"), 60.0)
        yield from _measured({"picker": child.process.pid}, pods, holds, lambda count: f"pod-{count % PODS}", seconds)


def _gateway(server: ApiServer, pods: Pods, seconds: float) -> Iterator[Result]:
    admin = free_port()
    where = ("--kubeconfig", str(server.kubeconfig), "--gateway", f"{NAMESPACE}/front")
    with stellwerk("gateway", *where, "--bind-address", "127.0.0.1", "--admin", f"127.0.0.1:{admin}") as child:
        wait_until("the gateway", lambda: _answers(f"http://127.0.0.1:{admin}/readyz"), 60.0)
        envoy, picker = (_child(child.process.pid, part) for part in ("--config-path", "stellwerk.app picker"))
        words = children_of(child.process.pid)[envoy].split()
        socket = Path(words[words.index("--config-path") + 1]).parent / "envoy-admin.sock"

        def members(pool: str) -> int:
            async def asked() -> int:
                asking, name = EnvoyAdmin(str(socket)), f"cluster.{NAMESPACE}/{pool}.membership_total"
                try:
                    return (await asking.stats(f"^{name}$")).get(name, -1)
                except (OSError, TimeoutError):
                    return -1
                finally:
                    await asking.close()

            return asyncio.run(asked())

        def holds(name: str, is_ready: bool) -> bool:
            return members("small") == int(is_ready)

        wait_until("all Pods in Envoy", lambda: members("large") == pods.ready_count, 60.0)
        yield from _measured({"picker": picker, "Envoy": envoy}, pods, holds, lambda _: "only", seconds)


def _child(pid: int, part: str) -> int:
    """The descendant whose command line has `part` in it."""
    return wait_until(part, lambda: next((one for one, line in children_of(pid).items() if part in line), 0))


def _answers(url: str) -> bool:
    try:
        return call(url, timeout=2).status == 200
    except OSError:
        return False


def _measured(
    pids: Mapping[str, int],
    pods: Pods,
    holds: Callable[[str, bool], bool],
    looked_at: Callable[[int], str],
    seconds: float,
) -> Iterator[Result]:
    """At rest, then while Pods change. `looked_at` names the Pod whose change is timed."""
    time.sleep(8.0)  # past the start, when every page and model list is read
    meter, started = CpuMeter(pids.values()), time.monotonic()
    time.sleep(seconds / 3)
    took = time.monotonic() - started
    idle = {pid: meter.used(pid) / took for pid in pids.values()}
    for name, pid in pids.items():
        yield Result(name, 0.0, idle[pid], resident_bytes(pid))
    delays, count, every = Delays(holds), 0, CHANGES_PER_SECOND // SAMPLES_PER_SECOND
    meter, started = CpuMeter(pids.values()), time.monotonic()
    while time.monotonic() - started < seconds:
        is_timed = count % every == 0 and delays.is_idle
        name = looked_at(count) if is_timed else f"pod-{count % PODS}"
        is_ready = pods.turn(name)
        if is_timed:
            delays.changed(name, is_ready)
        count += 1
        time.sleep(max(0.0, started + count / CHANGES_PER_SECOND - time.monotonic()))
    took = time.monotonic() - started
    used = {pid: meter.used(pid) / took for pid in pids.values()}
    delays.close()
    for number, (name, pid) in enumerate(pids.items()):
        yield Result(name, count / took, used[pid], resident_bytes(pid), [] if number else sorted(delays.seconds))


def table(results: list[Result]) -> str:
    """Markdown."""
    if not results:
        return "Not measured: the API server's programs are not built (`python -m tests.cluster build`)."
    places = ["stellwerk epp"] * 2 + ["gateway pod"] * (len(results) - 2)
    rows = [
        f"A pool of {PODS:,} Pods, whose metrics pages are read all the time.",
        "",
        "| where | process | changes per second | CPU per second | memory | in effect after: median, p99 (samples) |",
        "|---|---|---|---|---|---|",
    ]
    for place, each in zip(places, results, strict=True):
        told = each.delays
        delay = f"{_ms(told, 0.5)}, {_ms(told, 0.99)} ({len(told)})" if told else ""
        rows.append(
            f"| {place} | {each.process} | {each.changes:.0f} | {each.cpu * 1000:.0f} ms "
            f"| {each.memory / 1e6:.0f} MB | {delay} |"
        )
    return "\n".join(rows)


def _ms(values: list[float], share: float) -> str:
    return f"{values[min(len(values) - 1, int(len(values) * share))] * 1000:.0f} ms"


if __name__ == "__main__":
    print(table(run()))
