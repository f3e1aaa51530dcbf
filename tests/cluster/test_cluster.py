"""The test cluster itself: pods run, are reached, restarted, restricted and deleted as in a real one."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.api import ApiError
from tests.cluster.cluster import Cluster
from tests.cluster.toolchain import ROOT
from tests.kit.processes import call, wait_until

ASK_FOR_PODS = """
import os, ssl, time, urllib.error, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
headers = {"Authorization": "Bearer " + open(folder + "token").read()}
request = urllib.request.Request(f"https://{os.environ['KUBERNETES_SERVICE_HOST']}/api/v1/pods", headers=headers)
try:
    urllib.request.urlopen(request, context=ssl.create_default_context(cafile=folder + "ca.crt"))
except urllib.error.HTTPError as error:
    print("answered", error.code, flush=True)
time.sleep(60)
"""


def pod(name: str, namespace: str, *command: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "example.com/coredns:v1", "command": list(command), **spec}
    if not command:
        del container["command"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 5},
    }


def web(name: str, namespace: str) -> list[dict[str, Any]]:
    """A pod that answers on 3000, and its Service."""
    field = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    probe = {"httpGet": {"path": "/", "port": 3000}}
    server = pod(name, namespace, image="echo-basic", env=[{"name": "POD_NAME", **field}], readinessProbe=probe)
    spec = {"selector": {"app": name}, "type": "LoadBalancer", "ports": [{"port": 80, "targetPort": 3000}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    return [server, service]


def condition(found: dict[str, Any], kind: str) -> str:
    listed = found.get("status", {}).get("conditions", [])
    return next((each["status"] for each in listed if each["type"] == kind), "")


def wait_for_pod(cluster: Cluster, name: str, namespace: str) -> dict[str, Any]:
    cluster.wait(f"pod {name}", lambda: condition(cluster.get("Pod", name, namespace), "Ready") == "True")
    return cluster.get("Pod", name, namespace)


def test_a_pod_is_reached_by_its_address_its_service_and_its_load_balancer(cluster: Cluster, namespace: str) -> None:
    cluster.apply(*web("web", namespace))
    address = wait_for_pod(cluster, "web", namespace)["status"]["podIP"]
    service = partial(cluster.get, "Service", "web", namespace)
    external = cluster.wait("an address", lambda: service()["status"]["loadBalancer"]["ingress"][0]["ip"])

    def asked(url: str) -> str:
        with cluster.network():
            return str(call(url, timeout=5).json()["pod"])

    for url in (f"http://{address}:3000", f"http://{service()['spec']['clusterIP']}", f"http://{external}"):
        assert cluster.wait(url, partial(asked, url)) == "web"


def test_a_pod_gets_its_token_and_may_do_what_its_account_may(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("asker", namespace, sys.executable, "-c", ASK_FOR_PODS))
    cluster.wait("its answer", lambda: "answered 403" in cluster.logs(namespace, "asker"))
    user = f"system:serviceaccount:{namespace}:default"
    cluster.wait("its audit record", lambda: any(each["user"]["username"] == user for each in cluster.audit()))


def test_a_restricted_container_is_restricted(cluster: Cluster, namespace: str) -> None:
    script = "id -u; touch /etc/x; touch /tmp/x && echo tmp; grep -E 'CapBnd|NoNewPrivs' /proc/self/status; sleep 60"
    security = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    document = pod("restricted", namespace, "sh", "-c", script, securityContext=security, volumeMounts=mounts)
    document["spec"]["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    cluster.apply(document)
    log = cluster.wait("its log", lambda: log if "Cap" in (log := cluster.logs(namespace, "restricted")) else "")
    assert "65532\n" in log
    assert "Read-only file system" in log
    assert "\ntmp\n" in log
    assert cluster.kubectl("logs", "restricted", "-n", namespace) == log.split("\n", 1)[1]
    assert "CapBnd:\t0000000000000000" in log
    assert "NoNewPrivs:\t1" in log


def test_a_container_gets_the_variables_of_a_config_map(cluster: Cluster, namespace: str) -> None:
    meta = {"name": "words", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"WORD": "hello"}})
    sources = [{"configMapRef": {"name": "words"}}, {"secretRef": {"name": "none", "optional": True}}]
    own = [{"name": "OWN", "value": "$(WORD) there"}]
    cluster.apply(pod("speaker", namespace, "sh", "-c", "echo $OWN; sleep 60", envFrom=sources, env=own))
    cluster.wait("its word", lambda: "hello there" in cluster.logs(namespace, "speaker"))


def test_a_container_that_falls_is_started_again(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("fragile", namespace, "sh", "-c", "exit 3"))
    cluster.wait(
        "a restart",
        lambda: cluster.get("Pod", "fragile", namespace)["status"]["containerStatuses"][0]["restartCount"] > 0,
    )


def test_a_deleted_pod_gets_sigterm_and_time(cluster: Cluster, namespace: str) -> None:
    script = "trap 'echo asked to go; exit 0' TERM; while true; do sleep 0.1; done"
    document = pod("polite", namespace, "sh", "-c", script)
    cluster.apply(document)
    wait_for_pod(cluster, "polite", namespace)
    cluster.delete(document)

    def is_gone() -> bool:
        try:
            cluster.get("Pod", "polite", namespace)
        except ApiError as problem:
            return problem.code == 404
        return False

    cluster.wait("the pod to be gone", is_gone)
    assert "asked to go" in cluster.logs(namespace, "polite")


def test_a_changed_secret_reaches_its_mount(cluster: Cluster, namespace: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": namespace}}
    cluster.apply({**secret, "stringData": {"word": "first"}})
    mounts = [{"name": "key", "mountPath": "/keys", "readOnly": True}]
    document = pod(
        "reader", namespace, "sh", "-c", "while true; do cat /keys/word; echo; sleep 0.2; done", volumeMounts=mounts
    )
    document["spec"]["volumes"] = [{"name": "key", "secret": {"secretName": "key"}}]
    cluster.apply(document)
    cluster.wait("the first word", lambda: "first" in cluster.logs(namespace, "reader"))
    cluster.apply({**secret, "stringData": {"word": "second"}})
    cluster.wait("the second word", lambda: "second" in cluster.logs(namespace, "reader"))


def test_pods_outlive_an_api_server_that_goes_and_comes_back(cluster: Cluster, namespace: str) -> None:
    cluster.apply(*web("lasting", namespace))
    address = wait_for_pod(cluster, "lasting", namespace)["status"]["podIP"]
    with cluster.api_server_away(), cluster.network():
        assert call(f"http://{address}:3000", timeout=5).json()["pod"] == "lasting"
    found = cluster.get("Pod", "lasting", namespace)
    assert found["status"]["containerStatuses"][0]["restartCount"] == 0
    cluster.apply(*web("later", namespace))
    wait_for_pod(cluster, "later", namespace)


@pytest.mark.usefixtures("cluster")
def test_nothing_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster", "up", str(tmp_path / "state")],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until("the second cluster", (tmp_path / "state" / "ready").exists, 120)
        mine = [pid for pid in _pids() if str(tmp_path) in _command_line(pid) and pid != parent.pid]
        assert any("kube-apiserver" in _command_line(pid) or "etcd" in _command_line(pid) for pid in mine)
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    wait_until("all its processes to be gone", lambda: not any(_command_line(pid) for pid in mine))


def _pids() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def test_kubectl_talks_to_it(cluster: Cluster) -> None:
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))
    assert [each["metadata"]["name"] for each in nodes["items"]] == ["node"]
