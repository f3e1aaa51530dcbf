"""What tests on the cluster share: the README's commands, the first pool in any namespace, and load from inside.

The load runs in a thread of its own, because calls to the API server block.
"""

import asyncio
import contextlib
import queue
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tests.cluster.api import Document
from tests.cluster.cluster import Cluster
from tests.cluster.toolchain import ROOT
from tests.kit.load import Outcomes, chat, load
from tests.kit.processes import Answer, call, wait_until

GATEWAY = "gateway.networking.k8s.io/v1"
POOL = "inference.networking.k8s.io/v1"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str, kind: str) -> list[str]:
    """The blocks of this kind of a page, in order."""
    return [str(code) for found, code in _BLOCK.findall((ROOT / page).read_text()) if found == kind]


def readme(kind: str, containing: str) -> str:
    """The only block of the README of this kind with this text in it."""
    (code,) = (code for code in blocks("README.md", kind) if containing in code)
    return code


def shell(cluster: Cluster, code: str) -> str:
    """Run a documented block, from the root of this checkout; its output."""
    return cluster.run("bash", "-euo", "pipefail", "-c", f"cd {ROOT}\n{code}", timeout=150)


def first_pool(cluster: Cluster, namespace: str, replicas: int = 2) -> str:
    """The example's servers, pool and Gateway with so many pods, answering; the base URL of the Gateway."""
    cluster.kubectl("apply", "--server-side", "-n", namespace, "-k", str(ROOT / "deploy/examples/first-pool"))
    metadata = {"name": "gateways", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"replicas": str(replicas)}})
    reference = {"group": "", "kind": "ConfigMap", "name": "gateways"}
    gateway = cluster.api.path_of(GATEWAY, "Gateway", namespace, "inference")
    cluster.api.merge(gateway, {"spec": {"infrastructure": {"parametersRef": reference}}})
    deployment = partial(cluster.get, "Deployment", "inference-stellwerk", namespace, "apps/v1")
    cluster.wait(f"{replicas} gateway pods", lambda: deployment()["spec"]["replicas"] == replicas)
    cluster.wait_for_deployment("llama", namespace)
    cluster.wait_for_deployment("inference-stellwerk", namespace)
    url = f"http://{address(cluster, namespace)}"
    cluster.wait("a first answer", lambda: ask(cluster, url).status == 200)
    return url


def address(cluster: Cluster, namespace: str) -> str:
    """Of the Gateway."""

    def assigned() -> Any:
        return cluster.get("Gateway", "inference", namespace, GATEWAY)["status"]["addresses"][0]["value"]

    return str(cluster.wait("the Gateway's address", assigned))


def ask(cluster: Cluster, url: str, model: str = "llama") -> Answer:
    """One chat completion."""
    with cluster.network():
        return call(f"{url}/v1/chat/completions", chat(model), timeout=10)


def condition(document: Document, kind: str) -> str:
    """Status of a condition of an object; empty while it has none."""
    found = document.get("status", {}).get("conditions", [])
    return next((str(each["status"]) for each in found if each["type"] == kind), "")


@contextlib.contextmanager
def under_load(cluster: Cluster, url: str, workers: int = 4) -> Iterator[Outcomes]:
    """Chat completions all through the block, which begins after the first answers."""
    started: queue.Queue[tuple[Outcomes, Callable[[], object]]] = queue.Queue()

    async def send() -> None:
        loop, ends = asyncio.get_running_loop(), asyncio.Event()
        async with load(f"{url}/v1/chat/completions", lambda _: chat(), workers, pause_seconds=0.05) as seen:
            started.put((seen, lambda: loop.call_soon_threadsafe(ends.set)))
            await ends.wait()

    def run() -> None:
        with cluster.network():
            asyncio.run(send())

    thread = threading.Thread(target=run, daemon=True, name="load")
    thread.start()
    seen, end = started.get(timeout=30)
    try:
        wait_until("first answers", lambda: seen.total > workers)
        yield seen
    finally:
        end()
        thread.join(40)


def expect_no_failure(seen: Outcomes) -> None:
    """Every request was answered, in full and with 200."""
    assert seen.statuses.keys() == {200}, (seen.statuses, seen.refusals, seen.failures)
    assert not seen.failures, seen.failures
    assert seen.cut == 0
