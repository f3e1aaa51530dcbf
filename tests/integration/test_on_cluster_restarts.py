"""Rolling restarts under load, and the death of a leader, on the cluster and by the shipped manifests."""

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.installation import CLASS_NAME
from tests.cluster.installation import NAMESPACE as SYSTEM
from tests.cluster.toolchain import ROOT
from tests.kit.on_cluster import GATEWAY, condition, expect_no_failure, first_pool, under_load
from tests.kit.processes import children_of, wait_until

TAKEOVER_SECONDS = 10.0
"""As docs/gateways.md states it."""

pytestmark = pytest.mark.usefixtures("own_gateway")


def restart(cluster: Cluster, namespace: str, name: str) -> None:
    """As people do it; returns when all pods are new and the old ones are gone."""
    before = pods(cluster, namespace, name)
    assert len(before) == 2
    cluster.kubectl("rollout", "restart", f"deployment/{name}", "-n", namespace)
    cluster.wait_for_deployment(name, namespace, 120)
    cluster.wait("the old pods to be gone", lambda: not before & pods(cluster, namespace, name), 90)


def pods(cluster: Cluster, namespace: str, name: str) -> set[str]:
    names = {each["metadata"]["name"] for each in cluster.list("Pod", namespace)}
    return {each for each in names if each.startswith(f"{name}-")}


def test_a_rolling_restart_of_two_gateway_pods_fails_no_request(cluster: Cluster, namespace: str) -> None:
    url = first_pool(cluster, namespace)
    with under_load(cluster, url) as seen:
        restart(cluster, namespace, "inference-stellwerk")
        enough = seen.total + 20
        wait_until("answers of the new pods", lambda: seen.total > enough)
    expect_no_failure(seen)


def test_a_rolling_restart_of_two_pickers_fails_no_request(cluster: Cluster) -> None:
    """The manifests of `stellwerk epp` are for namespace default."""
    namespace, picker = "default", str(ROOT / "deploy/manifests/epp")
    try:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", picker)
        url = first_pool(cluster, namespace)
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", picker)
        cluster.wait_for_deployment("llama-epp", namespace)
        with under_load(cluster, url) as seen:
            wait_until("decisions of the pickers", lambda: seen.total > 40)
            restart(cluster, namespace, "llama-epp")
            enough = seen.total + 20
            wait_until("answers by the new pickers", lambda: seen.total > enough)
        expect_no_failure(seen)
    finally:
        for part in ("examples/first-pool", "manifests/epp"):
            cluster.kubectl("delete", "-k", str(ROOT / "deploy" / part), "--ignore-not-found", "--wait=false")


def leader(cluster: Cluster) -> str:
    """The controller's pod that holds the Lease; "" while none does."""
    lease = cluster.get("Lease", "stellwerk-controller", SYSTEM, "coordination.k8s.io/v1")["spec"]
    return next((each for each in pods(cluster, SYSTEM, "stellwerk-controller") if each in lease["holderIdentity"]), "")


def kill(cluster: Cluster, pod: str) -> None:
    """SIGKILL to the pod's `stellwerk`, as the kernel does when memory is short."""
    for pid, line in children_of(cluster.pid).items():
        with contextlib.suppress(OSError):  # of those that end by themselves meanwhile
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if f"HOSTNAME={pod}".encode() in environment and "-m stellwerk" in line:
                os.kill(pid, signal.SIGKILL)


def test_a_killed_controller_is_followed_by_the_standby(cluster: Cluster, namespace: str) -> None:
    url = first_pool(cluster, namespace)
    old = cluster.wait("a leader", lambda: leader(cluster))
    spec = {"gatewayClassName": "stellwerk", "listeners": [{"name": "http", "port": 81, "protocol": "HTTP"}]}
    later = {"apiVersion": GATEWAY, "kind": "Gateway", "metadata": {"name": "later", "namespace": namespace}}
    with under_load(cluster, url) as seen:
        kill(cluster, old)
        began = time.monotonic()
        cluster.apply({**later, "spec": spec})
        accepted = lambda: condition(cluster.get("Gateway", "later", namespace, GATEWAY), "Accepted") == "True"  # noqa: E731
        cluster.wait("the standby's work", accepted)
        assert time.monotonic() - began < TAKEOVER_SECONDS
        assert leader(cluster) not in ("", old)
    expect_no_failure(seen)


def test_a_class_that_is_deleted_takes_no_traffic_along(cluster: Cluster, namespace: str) -> None:
    """Nor the right to read that a new pod needs."""
    url = first_pool(cluster, namespace)
    place = {"apiVersion": GATEWAY, "kind": "GatewayClass", "metadata": {"name": CLASS_NAME}}
    spec = cluster.get("GatewayClass", CLASS_NAME, None, GATEWAY)["spec"]
    before = pods(cluster, namespace, "inference-stellwerk")
    with under_load(cluster, url) as seen:
        cluster.delete(place)
        try:
            gone = sorted(before)[0]
            cluster.kubectl("delete", "pod", gone, "-n", namespace, "--wait=false")
            cluster.wait("its end", lambda: gone not in pods(cluster, namespace, "inference-stellwerk"), 90)
            cluster.wait_for_deployment("inference-stellwerk", namespace, 120)
            enough = seen.total + 20
            wait_until("answers, also of the new pod", lambda: seen.total > enough)
        finally:
            cluster.apply({**place, "spec": spec})
    expect_no_failure(seen)
    assert condition(cluster.get("Gateway", "inference", namespace, GATEWAY), "Programmed") == "True"
