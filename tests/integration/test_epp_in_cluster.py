"""`stellwerk epp` with its objects in a real API server: Pods are objects there, and simulated servers on loopback.

The proxy's end of ext_proc is played by grpcio, or by the gateway's health checks where several pickers serve.
"""

import contextlib
import json
import re
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from stellwerk.edge.grpc.tls import self_signed_pem
from stellwerk.edge.kube.lease import DEFAULT_PACE
from tests.cluster.api import ApiError
from tests.kit.api_server import ApiServer
from tests.kit.ext_proc_client import Pick, channel, health, pick
from tests.kit.processes import Child, call, free_port, simulated_servers, stellwerk, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

EXT_PROC = "envoy.service.ext_proc.v3.ExternalProcessor"
TAKEOVER_SECONDS = 12.0
"""A standby serves at most so long after the last renewal of a leader that was killed: the lease's 8 s, one look at it
and the health check."""


@dataclass
class Epp:
    """A running picker."""

    child: Child
    port: int
    health_port: int
    metrics_port: int

    def health(self, service: str = "") -> str:
        return health(self.health_port, service)

    def pick(self, **options: Any) -> Pick:
        with channel(self.port) as connection:
            return pick(connection, **options)

    def addresses(self) -> set[str]:
        """Of the endpoints that it knows."""
        pools = call(f"http://127.0.0.1:{self.metrics_port}/api/pools").json()["pools"]
        return {endpoint["address"] for pool in pools for endpoint in pool["endpoints"]}


@contextlib.contextmanager
def epp(api_server: ApiServer, *arguments: str, is_ready: bool = True, is_open: bool = True) -> Iterator[Epp]:
    """A picker on loopback; with `is_open` its metrics need no token, with `is_ready` it serves."""
    ports = {name: free_port() for name in ("grpc-port", "grpc-health-port", "metrics-port")}
    flags = [f"--{name}={port}" for name, port in ports.items()]
    flags += ["--bind-address=127.0.0.1", f"--kubeconfig={api_server.kubeconfig}", "--drain-timeout=20s"]
    flags += ["--metrics-endpoint-auth=false"] if is_open else []
    if not any(argument.startswith(("--secure-serving", "--cert-path")) for argument in arguments):
        flags.append("--secure-serving=false")
    with stellwerk("epp", *flags, *arguments) as child:
        running = Epp(child, *ports.values())
        try:
            if is_ready:
                wait_until(
                    "the picker to serve", lambda: running.health() == "SERVING" or child.process.poll() is not None
                )
                child.expect_alive()
            yield running
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{child.log[-4000:]}") from problem


@dataclass
class World:
    """A namespace with a pool `llama` and the Pods that the test makes. Addresses are 127.0.0.1; ports tell them
    apart."""

    server: ApiServer
    namespace: str

    def path(self, api_version: str, kind: str, name: str) -> str:
        return self.server.api.path_of(api_version, kind, self.namespace, name)

    def pool(self, *ports: int, name: str = "llama") -> None:
        self.server.api.apply(
            {
                "apiVersion": "inference.networking.k8s.io/v1",
                "kind": "InferencePool",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {
                    "selector": {"matchLabels": {"app": "llama"}},
                    "targetPorts": [{"number": port} for port in ports],
                },
            }
        )

    def pod(
        self,
        name: str,
        address: str,
        is_ready: bool = True,
        annotations: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
    ) -> None:
        own = {"app": "llama", **(labels or {})}
        metadata: dict[str, Any] = {"name": name, "namespace": self.namespace, "labels": own}
        spec = {"containers": [{"name": "main", "image": "vllm"}], "terminationGracePeriodSeconds": 0}
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        if annotations:
            metadata["annotations"] = annotations
        self.server.api.apply(document)
        self.set_ready(name, address, is_ready)

    def set_ready(self, name: str, address: str, is_ready: bool) -> None:
        condition = {"type": "Ready", "status": "True" if is_ready else "False"}
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [condition]}
        self.server.api.merge(f"{self.path('v1', 'Pod', name)}/status", {"status": status})

    def delete_pod(self, name: str) -> None:
        self.server.api.call("DELETE", self.path("v1", "Pod", name) + "?gracePeriodSeconds=0")

    def lease(self, pool: str = "llama") -> Any:
        """The spec of the pool's Lease; {} while there is none."""
        try:
            path = self.path("coordination.k8s.io/v1", "Lease", f"epp-{self.namespace}-{pool}.llm-d.ai")
            return self.server.api.get(path)["spec"]
        except ApiError as problem:
            if problem.code != 404:
                raise
            return {}


@pytest.fixture
def world(api_server: ApiServer, request: pytest.FixtureRequest) -> Iterator[World]:
    name = "epp-" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-40:].strip("-")
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    api_server.api.apply(document)
    yield World(api_server, name)
    for pod in api_server.api.get(f"/api/v1/namespaces/{name}/pods")["items"]:
        api_server.api.call("DELETE", f"/api/v1/namespaces/{name}/pods/{pod['metadata']['name']}?gracePeriodSeconds=0")


def of_pool(world: World) -> tuple[str, str]:
    return "--pool-name=llama", f"--pool-namespace={world.namespace}"


def test_it_follows_readiness_deletion_and_ports(api_server: ApiServer, world: World) -> None:
    with simulated_servers(2) as sim, epp(api_server, *of_pool(world), is_ready=False) as picker:
        wait_until("liveness", lambda: picker.health("liveness") == "SERVING")
        assert picker.health("readiness") == "NOT_SERVING"
        world.pool(sim.ports[0])
        wait_until("the pool", lambda: picker.health("readiness") == "SERVING")
        assert picker.pick().status == 503

        world.pod("a", "127.0.0.1", is_ready=False)
        time.sleep(0.3)
        assert picker.pick().status == 503
        world.set_ready("a", "127.0.0.1", True)
        first = f"127.0.0.1:{sim.ports[0]}"
        wait_until("the first Pod", lambda: picker.pick().endpoints == [first])

        world.pool(*sim.ports)
        both = {f"127.0.0.1:{port}" for port in sim.ports}
        wait_until("both ports", lambda: picker.addresses() == both)
        world.pod("a", "127.0.0.1", annotations={"inference.networking.k8s.io/active-ports": str(sim.ports[1])})
        wait_until("the active port", lambda: picker.pick().endpoints == [f"127.0.0.1:{sim.ports[1]}"])

        world.set_ready("a", "127.0.0.1", False)
        wait_until("nobody", lambda: picker.pick().status == 503)
        world.set_ready("a", "127.0.0.1", True)
        wait_until("somebody", lambda: picker.pick().status == 200)
        world.delete_pod("a")
        wait_until("nobody again", lambda: picker.pick().status == 503)
        api_server.api.call("DELETE", world.path("inference.networking.k8s.io/v1", "InferencePool", "llama"))
        wait_until("not ready without the pool", lambda: picker.health() == "NOT_SERVING")
        assert picker.health("liveness") == "SERVING"


def test_health_knows_upstreams_names(api_server: ApiServer, world: World) -> None:
    world.pool(8000)
    with epp(api_server, *of_pool(world), "--health-checking") as picker:
        for name in ("", "liveness", "readiness", "inference-extension", EXT_PROC):
            assert picker.health(name) == "SERVING"
            assert health(picker.port, name) == "SERVING"
        assert picker.health("stranger") == "NOT_FOUND"


def test_pods_are_served_without_a_pool(api_server: ApiServer, world: World) -> None:
    with simulated_servers(1) as sim:
        world.pod("a", "127.0.0.1")
        flags = ("--endpoint-selector=app=llama", f"--endpoint-target-ports={sim.ports[0]}")
        with epp(api_server, *flags, f"--pool-namespace={world.namespace}") as picker:
            wait_until("the Pod", lambda: picker.pick().endpoints == [f"127.0.0.1:{sim.ports[0]}"])


def test_the_api_server_evaluates_the_selector(api_server: ApiServer, world: World) -> None:
    with simulated_servers(2) as sim:
        for name, port, labels in (("a", sim.ports[0], {"tier": "hot"}), ("b", sim.ports[1], {"tier": "cold"})):
            world.pod(name, "127.0.0.1", annotations={"llm-d.ai/active-ports": str(port)}, labels=labels)
        ports = f"--endpoint-target-ports={sim.ports[0]},{sim.ports[1]}"
        one, other = (f"127.0.0.1:{port}" for port in sim.ports)
        for selector, expected in (
            ("app in (llama,other),tier!=cold,!old", {one}),
            ("app==llama,tier", {one, other}),
            ("tier notin (hot)", {other}),
        ):
            flags = (f"--endpoint-selector={selector}", ports, f"--pool-namespace={world.namespace}")
            with epp(api_server, *flags) as picker:
                wait_until(f"the Pods of {selector}", lambda: picker.addresses() == expected)  # noqa: B023


def test_an_old_pool_is_served_by_its_group(api_server: ApiServer, world: World) -> None:
    with simulated_servers(1) as sim:
        world.pod("a", "127.0.0.1")
        metadata = {"name": "llama", "namespace": world.namespace}
        spec = {"selector": {"app": "llama"}, "targetPortNumber": sim.ports[0], "extensionRef": {"name": "epp"}}
        version = "inference.networking.x-k8s.io/v1alpha2"
        api_server.api.apply({"apiVersion": version, "kind": "InferencePool", "metadata": metadata, "spec": spec})
        with epp(api_server, *of_pool(world), "--pool-group=inference.networking.x-k8s.io") as picker:
            wait_until("the Pod", lambda: picker.pick().endpoints == [f"127.0.0.1:{sim.ports[0]}"])


def test_subset_hints_and_steering(api_server: ApiServer, world: World) -> None:
    with simulated_servers(2) as sim:
        world.pool(*sim.ports)
        world.pod("a", "127.0.0.1")
        one, other = (f"127.0.0.1:{port}" for port in sim.ports)
        with epp(api_server, *of_pool(world), "--test-endpoint-selection") as picker:
            wait_until("both", lambda: picker.addresses() == {one, other})
            assert picker.pick(subset=[one]).endpoints == [one]
            assert picker.pick(subset=other).endpoints == [other]
            assert picker.pick(subset=[]).status == 503
            assert picker.pick(subset=["10.0.0.1:1"]).status == 503
            bodyless = {":method": "GET", ":path": "/anything"}
            assert picker.pick(headers=bodyless, subset=[one], body=b"").endpoints == [one]
            steered = picker.pick(headers={"test-epp-endpoint-selection": other}, subset=[one], served=other)
            assert steered.endpoints == [other]
            assert steered.answer_headers["x-conformance-test-served-endpoint"] == other
        with epp(api_server, *of_pool(world), "--disable-endpoint-subset-filter") as picker:
            wait_until("both", lambda: picker.addresses() == {one, other})
            assert picker.pick(subset=["10.0.0.1:1"]).endpoints[0] in (one, other)


def test_metrics_need_a_token_and_the_right_to_read_them(api_server: ApiServer, world: World) -> None:
    world.pool(8000)
    rule = {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "scrape"}}
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "scrape"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "scraper"}
    api_server.api.apply({**role, "rules": [rule]})
    api_server.api.apply({**binding, "metadata": {"name": "scrape"}, "roleRef": reference, "subjects": [subject]})
    with epp(api_server, *of_pool(world), is_open=False) as picker:
        base = f"http://127.0.0.1:{picker.metrics_port}"

        def status(path: str, token: str | None) -> int:
            return call(f"{base}{path}", headers={"Authorization": f"Bearer {token}"} if token else {}).status

        assert status("/metrics", None) == 401
        assert status("/metrics", "nonsense") == 401
        assert status("/metrics", api_server.user("stranger")) == 403
        assert status("/metrics", api_server.user("scraper")) == 200
        assert status("/api/pools", api_server.user("scraper")) == 403
        assert status("/api/pools", api_server.user("admin")) == 200
        assert status("/healthz", None) == 200
        assert status("/readyz", None) in (200, 503)


def test_tls_is_the_default_and_a_renewed_certificate_is_taken_up(
    api_server: ApiServer, world: World, tmp_path: Path
) -> None:
    def renew() -> bytes:
        chain, key = self_signed_pem(["localhost"])
        (tmp_path / "tls.key").write_bytes(key)
        (tmp_path / "tls.crt").write_bytes(chain)
        return chain

    def shown(picker: Epp) -> bytes:
        return ssl.get_server_certificate(("127.0.0.1", picker.port)).encode()

    world.pool(8000)
    with epp(api_server, *of_pool(world), "--secure-serving") as picker, channel(picker.port, shown(picker)) as secure:
        assert pick(secure).status == 503
    before = renew()
    with epp(api_server, *of_pool(world), f"--cert-path={tmp_path}", "--enable-cert-reload") as picker:
        assert shown(picker).strip() == before.strip()
        after = renew()
        wait_until("the new certificate", lambda: shown(picker).strip() == after.strip())


@contextlib.contextmanager
def two_replicas(api_server: ApiServer, world: World) -> Iterator[tuple[Epp, Epp]]:
    """A leader that serves, and a standby that has seen everything."""
    flags = (*of_pool(world), "--ha-enable-leader-election")
    with epp(api_server, *flags) as leader, epp(api_server, *flags, is_ready=False) as standby:
        wait_until("the Pod", lambda: leader.pick().status == 200)
        wait_until("liveness", lambda: standby.health("liveness") == "SERVING")
        wait_until("a warm standby", standby.addresses)
        yield leader, standby


def test_a_killed_leader_is_followed_by_the_standby(api_server: ApiServer, world: World) -> None:
    with simulated_servers(1) as sim:
        world.pool(sim.ports[0])
        world.pod("a", "127.0.0.1")
        with two_replicas(api_server, world) as (leader, standby):
            assert standby.health() == standby.health(EXT_PROC) == "NOT_SERVING"
            assert leader.health() == "SERVING"
            leader.child.process.send_signal(signal.SIGKILL)
            began = time.monotonic()
            wait_until("the standby to serve", lambda: standby.health() == "SERVING", 40)
            assert time.monotonic() - began < TAKEOVER_SECONDS
            assert standby.pick().endpoints == [f"127.0.0.1:{sim.ports[0]}"]
            metrics = call(f"http://127.0.0.1:{standby.metrics_port}/metrics").body.decode()
            assert "\nstellwerk_leader 1" in metrics


class Gateway(threading.Thread):
    """Keeps sending requests to the first picker that says that it serves, as a proxy with health checks does."""

    def __init__(self, *pickers: Epp) -> None:
        super().__init__(daemon=True)
        self.failures: list[str] = []
        self.picked = 0
        self._pickers = pickers
        self._ends = threading.Event()

    def run(self) -> None:
        with contextlib.ExitStack() as stack:
            channels = [stack.enter_context(channel(picker.port)) for picker in self._pickers]
            current = 0
            while not self._ends.is_set():
                serving = [index for index, picker in enumerate(self._pickers) if self.serves(picker)]
                current = serving[0] if serving else current
                for _ in range(10):
                    self.send(channels[current])

    def serves(self, picker: Epp) -> bool:
        return picker.child.process.poll() is None and picker.health(EXT_PROC) == "SERVING"

    def send(self, connection: grpc.Channel) -> None:
        try:
            found = pick(connection)
        except grpc.RpcError as error:
            self.failures.append(f"{error.code()} {error.details()}")
        else:
            self.picked += found.status == 200
            if found.status != 200:
                self.failures.append(str(found.status))

    def end(self) -> None:
        self._ends.set()
        self.join(20)


def test_sigterm_of_the_leader_fails_no_request(api_server: ApiServer, world: World) -> None:
    with simulated_servers(1) as sim:
        world.pool(sim.ports[0])
        world.pod("a", "127.0.0.1")
        with two_replicas(api_server, world) as (leader, standby):
            gateway = Gateway(leader, standby)
            gateway.start()
            wait_until("traffic", lambda: gateway.picked > 50)
            holder = world.lease()["holderIdentity"]
            leader.child.process.send_signal(signal.SIGTERM)
            wait_until("not serving", lambda: leader.health() == "NOT_SERVING", 3)
            assert leader.health("liveness") == "SERVING"
            wait_until("another leader", lambda: world.lease()["holderIdentity"] not in ("", holder), 5)
            wait_until("the standby to serve", lambda: standby.health() == "SERVING", 5)
            before = gateway.picked
            assert leader.child.process.wait(30) == 0
            wait_until("more traffic", lambda: gateway.picked > before + 50)
            gateway.end()
            assert not gateway.failures, gateway.failures[:5]


def test_a_new_configuration_file_holds_without_a_restart(api_server: ApiServer, world: World, tmp_path: Path) -> None:
    file = tmp_path / "picker.yaml"
    head = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
    file.write_text(head)
    world.pool(8000)
    with epp(api_server, *of_pool(world), f"--config-file={file}") as picker:
        file.write_text(f"{head}plugins: [{{type: queue-scorr}}]\n")

        def remarks() -> str:
            return json.dumps(call(f"http://127.0.0.1:{picker.metrics_port}/readyz").json()["remarks"])

        wait_until("a remark", lambda: "queue-scorr" in remarks())
        file.write_text(f"{head}plugins: [{{type: random-picker}}]\n")
        wait_until("no remark", lambda: "queue-scorr" not in remarks())


def test_it_waits_for_an_api_server_that_comes_late(api_server: ApiServer, world: World, tmp_path: Path) -> None:
    config = json.loads(api_server.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    away = tmp_path / "kubeconfig"
    away.write_text(json.dumps(config))
    with epp(api_server, *of_pool(world), f"--kubeconfig={away}", is_ready=False) as picker:
        wait_until("liveness", lambda: picker.health("liveness") == "SERVING")
        assert picker.health() == "NOT_SERVING"
        page = call(f"http://127.0.0.1:{picker.metrics_port}/readyz")
        assert page.status == 503
        assert picker.child.stop(10) == 0


def test_it_picks_on_while_the_api_server_is_away_and_catches_up(api_server: ApiServer, world: World) -> None:
    with simulated_servers(2) as sim:
        world.pool(*sim.ports)
        world.pod("a", "127.0.0.1")
        one, other = (f"127.0.0.1:{port}" for port in sim.ports)
        with epp(api_server, *of_pool(world)) as picker:
            wait_until("both", lambda: picker.addresses() == {one, other})
            api_server.stop()
            try:
                for _ in range(20):
                    assert picker.pick().status == 200
                    time.sleep(0.1)
                assert picker.health() == "SERVING"
            finally:
                api_server.start()
            world.pool(sim.ports[1])
            wait_until("the new ports", lambda: picker.addresses() == {other}, 10)
            assert picker.pick().endpoints == [other]


def test_the_last_leader_serves_on_while_the_api_server_is_away_for_longer_than_its_lease(
    api_server: ApiServer, world: World
) -> None:
    with simulated_servers(2) as sim:
        world.pool(*sim.ports)
        world.pod("a", "127.0.0.1")
        one, other = (f"127.0.0.1:{port}" for port in sim.ports)
        with two_replicas(api_server, world) as (leader, standby):
            wait_until("both", lambda: leader.addresses() == {one, other})
            api_server.stop()
            try:
                ends = time.monotonic() + DEFAULT_PACE.lease_seconds + 5.0
                while time.monotonic() < ends:
                    assert (leader.health(), leader.health(EXT_PROC)) == ("SERVING", "SERVING")
                    assert leader.pick().status == 200
                    time.sleep(0.1)
                page = call(f"http://127.0.0.1:{leader.metrics_port}/readyz")
                assert page.status == 200
                assert "serving on, as the last that led" in json.dumps(page.json()["remarks"])
                assert standby.health() == "NOT_SERVING"
                assert "standing by: " in call(f"http://127.0.0.1:{standby.metrics_port}/readyz").body.decode()
            finally:
                api_server.start()
            world.pool(sim.ports[1])
            pickers = (leader, standby)
            wait_until("one to serve", lambda: sum(picker.health() == "SERVING" for picker in pickers) == 1, 20)
            wait_until("the new ports", lambda: leader.addresses() == standby.addresses() == {other}, 10)


def test_an_api_server_that_stands_still_is_remarked_on_soon_and_stops_nothing(
    api_server: ApiServer, world: World
) -> None:
    with simulated_servers(1) as sim:
        world.pool(sim.ports[0])
        world.pod("a", "127.0.0.1")
        with epp(api_server, *of_pool(world)) as picker:
            base = f"http://127.0.0.1:{picker.metrics_port}"

            def ages() -> list[float]:
                page = call(f"{base}/metrics").body.decode()
                return [float(age) for age in re.findall(r"stellwerk_kube_age_seconds{.*} (.*)", page)]

            def remarks() -> str:
                return json.dumps(call(f"{base}/readyz").json()["remarks"])

            wait_until("a first pick", lambda: picker.pick().status == 200)
            assert max(ages()) == 0.0
            with api_server.frozen():
                wait_until("a remark", lambda: "API server: " in remarks(), 30)
                assert min(ages()) > 4.0
                assert picker.health() == "SERVING"
                assert picker.pick().status == 200
            wait_until("no remark", lambda: "API server: " not in remarks(), 30)
            wait_until("everything is as new", lambda: max(ages()) == 0.0)
