"""The API server is away for a minute under load, and the world is another one when it is back.

The world changes in etcd, where the API server keeps it: custom resources are JSON there, and nobody can see the change
before the API server is back.
"""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.kit.on_cluster import POOL, ask, expect_no_failure, first_pool, under_load
from tests.kit.processes import call, wait_until

AWAY_SECONDS = 60.0
RIGHT_WITHIN_SECONDS = 2.0
ETCD = "http://127.0.0.1:2379"
OLD, NEW = "0.0.0.0:8000", "0.0.0.0:8001"
"""What the servers of either world say that they are (`x-sim-server`)."""


def other_servers(cluster: Cluster, namespace: str) -> None:
    """Servers beside the pool's, on another port and with another label."""
    servers = cluster.get("Deployment", "llama", namespace, "apps/v1")
    text = json.dumps({"spec": servers["spec"]}).replace("8000", "8001").replace('"app": "llama"', '"app": "other"')
    metadata = {"name": "other", "namespace": namespace}
    cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, **json.loads(text)})
    cluster.wait_for_deployment("other", namespace)


def change_in_etcd(cluster: Cluster, key: str, change: Callable[[Any], None]) -> None:
    """Change a stored custom resource behind the API server's back."""

    def asked(path: str, **words: str) -> Any:
        with cluster.network():
            return call(f"{ETCD}/v3/kv/{path}", {name: encoded(word) for name, word in words.items()}).json()

    def encoded(word: str) -> str:
        return base64.b64encode(word.encode()).decode()

    (found,) = asked("range", key=key)["kvs"]
    document = json.loads(base64.b64decode(found["value"]))
    change(document)
    asked("put", key=key, value=json.dumps(document))


def move_pool(pool: Any) -> None:
    pool["spec"]["selector"]["matchLabels"] = {"app": "other"}
    pool["spec"]["targetPorts"] = [{"number": 8001}]
    pool["metadata"]["generation"] += 1


@pytest.mark.usefixtures("own_gateway")
def test_a_minute_without_the_api_server_fails_no_request(cluster: Cluster, namespace: str) -> None:
    url = first_pool(cluster, namespace)
    other_servers(cluster, namespace)
    with under_load(cluster, url) as seen:
        with cluster.api_server_away():
            gone = time.monotonic()
            change_in_etcd(
                cluster, f"/registry/inference.networking.k8s.io/inferencepools/{namespace}/llama", move_pool
            )
            wait_until("the minute to pass", lambda: time.monotonic() - gone > AWAY_SECONDS, AWAY_SECONDS + 10)
            assert set(seen.servers) == {OLD}
        time.sleep(RIGHT_WITHIN_SECONDS)
        assert cluster.get("InferencePool", "llama", namespace, POOL)["spec"]["selector"]["matchLabels"] == {
            "app": "other"
        }
        settled = seen.servers[OLD], seen.total
        wait_until("answers by the new world", lambda: seen.total > settled[1] + 40)
        late = seen.servers[OLD] - settled[0]
    expect_no_failure(seen)
    assert late <= 4, f"{late} answers by servers that the pool had left"
    assert ask(cluster, url).headers["x-sim-server"] == NEW
