"""CPU, memory and delay of the controller beside a real API server: a cluster of some size that changes all the time.

Two loads: Pods that come and go (which the controller does not follow), and HTTPRoutes that are edited. The delay is
from an edit's answer to a status that names its generation.
"""

import math
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.cpu import CpuMeter, resident_bytes
from stellwerk.control.crds import definitions
from tests.cluster.api import Api, Document
from tests.cluster.toolchain import CRDS, program
from tests.kit.api_server import ApiServer, missing_programs
from tests.kit.controller_objects import gateway, gateway_class, http_route, inference_model, inference_pool
from tests.kit.processes import call, free_port, stellwerk, wait_until

PODS, POOLS, ROUTES, GATEWAYS, MODELS = 1000, 50, 200, 10, 200
CHANGES_PER_SECOND = 20
NAMESPACE = "scale"
_CRDS = ("gatewayclasses", "gateways", "httproutes", "referencegrants")


@dataclass(frozen=True)
class Result:
    """`cpu` in seconds per second, `memory` in bytes, delays in seconds."""

    load: str
    changes: float
    cpu: float
    memory: int
    median: float = math.nan
    worst: float = math.nan
    """99th percentile."""


def run(seconds: float = 20.0) -> list[Result]:
    """Nothing, Pods, routes. Empty where the API server's programs are not built."""
    if missing_programs():
        return []
    with tempfile.TemporaryDirectory(prefix="stellwerk-bench-") as state:
        server = ApiServer(Path(state))
        try:
            return _measure(server, Path(state), seconds)
        finally:
            server.close()


def _measure(server: ApiServer, state: Path, seconds: float) -> list[Result]:
    crds = [yaml.safe_load(next(program(CRDS).glob(f"*_{name}.yaml")).read_text()) for name in _CRDS]
    server.define([*definitions(), *crds])
    _fill(server.api)
    port = free_port()
    arguments = ("--kubeconfig", str(server.kubeconfig), "--admin", f"127.0.0.1:{port}", "--lease-namespace", NAMESPACE)
    with stellwerk("controller", *arguments) as child:
        last = f"route-{ROUTES - 1}"
        wait_until("the last route's status", lambda: bool(_observed(server.api, last)), 120.0)
        time.sleep(5.0)  # what is left of the first round
        pid = child.process.pid

        def measured(load: str, work: Callable[[int], None] | None) -> Result:
            meter, started, count = CpuMeter([pid]), time.monotonic(), 0
            while time.monotonic() - started < seconds:
                if work is not None:
                    work(count)
                    count += 1
                time.sleep(max(0.0, started + count / CHANGES_PER_SECOND - time.monotonic()) if work else 0.5)
            took = time.monotonic() - started
            return Result(load, count / took, meter.used(pid) / took, resident_bytes(pid))

        idle = measured("nothing changes", None)
        pods = measured(f"Pods ({PODS:,})", lambda count: _change_pod(server.api, count))
        delays = Delays(server.api)
        routes = measured(f"HTTPRoutes ({ROUTES})", delays.edit)
        delays.close()
        assert call(f"http://127.0.0.1:{port}/readyz").status == 200
        told = sorted(delays.seconds)
        median, worst = told[len(told) // 2], told[int(len(told) * 0.99)]
        return [idle, pods, Result(routes.load, routes.changes, routes.cpu, routes.memory, median, worst)]


def _fill(api: Api) -> None:
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    api.apply(_plain(gateway_class("ours")))
    for index in range(GATEWAYS):
        api.apply(_plain(gateway(f"gateway-{index}", NAMESPACE)))
    for index in range(POOLS):
        api.apply(_plain(inference_pool(f"pool-{index}", NAMESPACE)))
    for index in range(MODELS):
        api.apply(_plain(inference_model(f"model-{index}", f"m{index}", f"pool-{index % POOLS}", NAMESPACE)))
    for index in range(ROUTES):
        api.apply(_route(index, 0))
    for index in range(PODS):
        api.apply(_pod(index))


def _plain(value: Document) -> Document:
    return {**value, "metadata": {key: part for key, part in value["metadata"].items() if key != "uid"}}


def _route(index: int, edit: int) -> Document:
    backend = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": f"pool-{index % POOLS}"}
    parent = {"name": f"gateway-{index % GATEWAYS}"}
    hostnames = [f"host-{index}.example", f"edit-{edit}.example"]
    return _plain(http_route(f"route-{index}", NAMESPACE, [parent], [backend], hostnames=hostnames))


def _pod(index: int) -> Document:
    metadata = {"name": f"pod-{index}", "namespace": NAMESPACE, "labels": {"app": "llama"}}
    spec = {"containers": [{"name": "c", "image": "i"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _change_pod(api: Api, count: int) -> None:
    ready = {"type": "Ready", "status": "True" if count // PODS % 2 == 0 else "False"}
    status = {"podIP": f"10.0.{count % 250}.{count % 200}", "conditions": [ready]}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/pod-{count % PODS}/status"
    api.merge(path, {"status": status})


def _observed(api: Api, name: str) -> int:
    parents = api.get(_path(name)).get("status", {}).get("parents", [])
    return min((one["observedGeneration"] for entry in parents for one in entry["conditions"]), default=0)


def _path(name: str) -> str:
    return f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes/{name}"


class Delays:
    """Edits routes, and learns from a watch when each edit was answered by a status."""

    def __init__(self, api: Api) -> None:
        self.seconds: list[float] = []
        self._api, self._edited = api, dict[tuple[str, int], float]()
        self._thread = threading.Thread(target=api.watch, args=(_path("").rstrip("/"), self._see), daemon=True)
        self._thread.start()

    def edit(self, count: int) -> None:
        """One route, with other hostnames."""
        made: Any = self._api.apply(_route(count % ROUTES, count + 1))
        self._edited[made["metadata"]["name"], made["metadata"]["generation"]] = time.monotonic()

    def close(self) -> None:
        """Wait for the last answers."""
        wait_until("the last status", lambda: not self._edited, 30.0)

    def _see(self, kind: str, value: Any) -> None:
        if kind == "SYNC":
            return
        conditions = [one for entry in value.get("status", {}).get("parents", []) for one in entry["conditions"]]
        generation = min((one["observedGeneration"] for one in conditions), default=0)
        edited = self._edited.pop((value["metadata"]["name"], generation), None)
        if edited is not None:
            self.seconds.append(time.monotonic() - edited)


def table(results: list[Result]) -> str:
    """Markdown."""
    if not results:
        return "Not measured: the API server's programs are not built (`python -m tests.cluster build`)."
    size = f"{GATEWAYS} Gateways, {ROUTES} HTTPRoutes, {POOLS} InferencePools, {MODELS} InferenceModels, {PODS:,} Pods."
    rows = [
        "| what changes | changes per second | CPU per second | memory | status after: median, p99 |",
        "|---|---|---|---|---|",
    ]
    for each in results:
        delay = "" if math.isnan(each.median) else f"{each.median * 1000:.0f} ms, {each.worst * 1000:.0f} ms"
        rows.append(
            f"| {each.load} | {each.changes:.0f} | {each.cpu * 1000:.1f} ms | {each.memory / 1e6:.0f} MB | {delay} |"
        )
    return "\n".join([size, "", *rows])


if __name__ == "__main__":
    print(table(run()))
