"""`stellwerk controller` against a real API server, with the rights that `permissions` says it uses and no others.

Nothing runs pods there: tests write what a kubelet and a load balancer would.
"""

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stellwerk.control.gateway.deployment import Defaults
from stellwerk.control.gateway.permissions import (
    CONTROLLER,
    GATEWAY,
    GATEWAY_CLUSTER,
    GATEWAY_CLUSTER_ROLE,
    GATEWAY_ROLE,
    LEASE,
    RBAC_GROUP,
    rules,
)
from stellwerk.control.gateway.resources import MANAGED_BY
from tests.cluster.api import ApiError, Document
from tests.cluster.toolchain import CRDS, program
from tests.kit.api_server import ApiServer
from tests.kit.controller_objects import (
    config_map,
    gateway,
    gateway_class,
    http_route,
    inference_model,
    inference_pool,
    listener,
    reference_grant,
)
from tests.kit.processes import Child, call, free_port, simulated_servers, stellwerk, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

NAME = "stellwerk-controller"
TAKEOVER_SECONDS = 12.0
"""The lease's 8 s, a look at it every 1.2 s, and a round, on a busy machine."""


class Place:
    """A namespace with a class of its own on the shared server, and what is in it."""

    def __init__(self, server: ApiServer, name: str, state: Path, *, is_narrow: bool = False) -> None:
        """`is_narrow`: the controller has its rights in this namespace only, but for what no Role can give."""
        self.server, self.name, self.state = server, name, state
        self.api = server.api
        self.controller = f"stellwerk.dev/{name}"
        self.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for document in self._narrow_rights() if is_narrow else self._rights():
            self.api.apply(document)
        self.kubeconfig = self.kubeconfig_of(NAME)

    def _rights(self) -> list[Document]:
        role = {"apiVersion": f"{RBAC_GROUP}/v1", "kind": "ClusterRole"}
        binding = {"apiVersion": f"{RBAC_GROUP}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": self.name}}
        subject = {"kind": "ServiceAccount", "name": NAME, "namespace": self.name}
        reference = {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": NAME}
        return [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": self.name}},
            {**role, "metadata": {"name": GATEWAY_ROLE}, "rules": rules(GATEWAY)},
            {**role, "metadata": {"name": NAME}, "rules": rules((*CONTROLLER, *LEASE))},
            {**binding, "roleRef": reference, "subjects": [subject]},
        ]

    def _narrow_rights(self) -> list[Document]:
        account, gateways, _, binding = self._rights()
        wide = [grant for grant in CONTROLLER if grant.is_cluster_wide]
        narrow = [grant for grant in (*CONTROLLER, *LEASE) if not grant.is_cluster_wide]
        cluster_role = {"apiVersion": f"{RBAC_GROUP}/v1", "kind": "ClusterRole"}
        place = {"name": NAME, "namespace": self.name}
        reference = {"apiGroup": RBAC_GROUP, "kind": "Role", "name": NAME}
        return [
            account,
            gateways,
            {**cluster_role, "metadata": {"name": GATEWAY_CLUSTER_ROLE}, "rules": rules(GATEWAY_CLUSTER)},
            {**cluster_role, "metadata": {"name": self.name}, "rules": rules(wide)},
            {**cluster_role, "kind": "Role", "metadata": place, "rules": rules(narrow)},
            {**binding, "roleRef": {**binding["roleRef"], "name": self.name}},
            {**binding, "kind": "RoleBinding", "metadata": place, "roleRef": reference},
        ]

    def kubeconfig_of(self, account: str) -> Path:
        """Of a ServiceAccount of this namespace."""
        path = f"/api/v1/namespaces/{self.name}/serviceaccounts/{account}/token"
        token = self.api.call("POST", path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
        config = json.loads(self.server.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        config["contexts"][0]["context"]["namespace"] = self.name
        file = self.state / f"{account}.kubeconfig"
        file.write_text(json.dumps(config))
        return file

    def apply(self, *documents: Document) -> None:
        """As a user would. The class is `self.name`."""
        for document in documents:
            self.api.apply(_without_uid(document))

    def own(self, **more: Any) -> tuple[Document, Document]:
        """A class of ours, and a Gateway of it."""
        ours = gateway_class(self.name, self.controller)
        front = gateway(namespace=self.name, **{"gatewayClassName": self.name, **more})
        return ours, front

    def get(self, kind: str, name: str, api_version: str = "v1", namespace: str = "") -> Document:
        found: Document = self.api.get(self.api.path_of(api_version, kind, namespace or self.name, name))
        return found

    def has(self, kind: str, name: str, api_version: str = "v1", namespace: str = "") -> bool:
        try:
            return bool(self.get(kind, name, api_version, namespace))
        except ApiError as problem:
            if problem.code != 404:
                raise
            return False

    def said(self, kind: str, name: str, api_version: str = "gateway.networking.k8s.io/v1") -> dict[str, str]:
        """Condition types and reasons; of the first parent where there are parents."""
        status = self.get(kind, name, api_version).get("status", {})
        conditions = (status.get("parents") or [status])[0].get("conditions", [])
        return {one["type"]: one["reason"] for one in conditions}

    def run_pods(self, name: str) -> None:
        """What a kubelet and a load balancer would write."""
        counts = {"readyReplicas": 1, "availableReplicas": 1, "replicas": 1, "updatedReplicas": 1}
        for kind, version, status in (
            ("Deployment", "apps/v1", counts),
            ("Service", "v1", {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}),
        ):
            self.api.merge(self.api.path_of(version, kind, self.name, name) + "/status", {"status": status})

    def run_server(self, address: str) -> None:
        """A Pod with the label of the pool; it is ready, and whatever listens at `address` answers for it."""
        metadata = {"name": "server", "namespace": self.name, "labels": {"app": "llama"}}
        spec = {"containers": [{"name": "main", "image": "vllm"}], "terminationGracePeriodSeconds": 0}
        self.api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        condition = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [condition]}
        self.api.merge(self.api.path_of("v1", "Pod", self.name, "server") + "/status", {"status": status})

    @contextlib.contextmanager
    def pod(self, name: str) -> Iterator[Child]:
        """A pod of Deployment `name`: its own command line, with the rights of its own account."""
        container = self.get("Deployment", name, "apps/v1")["spec"]["template"]["spec"]["containers"][0]
        arguments = [*container["args"], "--kubeconfig", str(self.kubeconfig_of(name))]
        arguments[arguments.index("--admin") + 1] = f"127.0.0.1:{free_port()}"
        with stellwerk(*arguments) as child:
            yield child

    @staticmethod
    def asked(port: int, path: str) -> int:
        """Status of an answer; 0: none came."""
        try:
            return call(f"http://127.0.0.1:{port}{path}", timeout=5).status
        except OSError:
            return 0

    def versions(self, *kinds: tuple[str, str]) -> dict[str, str]:
        """Of all objects of some kinds in this namespace, and of the binding of gateway pods."""
        found = {}
        for version, kind in kinds:
            for value in self.api.get(self.api.path_of(version, kind, self.name))["items"]:
                found[f"{kind}/{value['metadata']['name']}"] = value["metadata"]["resourceVersion"]
        binding = self.api.get(self.api.path_of(f"{RBAC_GROUP}/v1", "ClusterRoleBinding", None, GATEWAY_ROLE))
        return {**found, "binding": binding["metadata"]["resourceVersion"]}

    @contextlib.contextmanager
    def controlled(self, *more: str) -> Iterator[Child]:
        """A controller that is ready."""
        port = free_port()
        arguments = ["--kubeconfig", str(self.kubeconfig), "--controller-name", self.controller]
        with stellwerk(
            "controller", *arguments, "--admin", f"127.0.0.1:{port}", "--log-level", "debug", *more
        ) as child:
            yield child


def _without_uid(document: Document) -> Document:
    metadata = {key: value for key, value in document["metadata"].items() if key not in ("uid", "generation")}
    return {**document, "metadata": metadata}


@pytest.fixture(scope="session")
def gateway_api(api_server: ApiServer) -> ApiServer:
    """The server with the Gateway API's definitions."""
    folder = program(CRDS)
    wanted = [
        yaml.safe_load(path.read_text())
        for name in ("gatewayclasses", "gateways", "httproutes", "referencegrants")
        for path in folder.glob(f"*_{name}.yaml")
    ]
    if len(wanted) < 4:
        pytest.skip("no definitions of the Gateway API (make them: python -m tests.cluster build)")
    api_server.define(wanted)
    return api_server


@pytest.fixture
def place(gateway_api: ApiServer, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """A namespace of the test's own."""
    return Place(gateway_api, f"t{abs(hash(request.node.name)) % 10**8}", tmp_path)


def expect(child: Child, what: str, check: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait; on failure with the controller's log."""

    def holds() -> bool:
        child.expect_alive()
        try:
            return bool(check())
        except ApiError as problem:
            if problem.code != 404:
                raise
            return False

    try:
        wait_until(what, holds, seconds)
    except AssertionError as problem:
        raise AssertionError(f"{problem}\n{child.log[-6000:]}") from None


WRITTEN = (
    ("gateway.networking.k8s.io/v1", "Gateway"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("inference.networking.k8s.io/v1", "InferencePool"),
    ("inference.networking.x-k8s.io/v1alpha2", "InferenceModel"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
    (f"{RBAC_GROUP}/v1", "Role"),
    (f"{RBAC_GROUP}/v1", "RoleBinding"),
)


def test_a_gateway_comes_up_is_left_alone_and_survives_a_restart_without_a_write(place: Place) -> None:
    resources = "requests: {cpu: 1000m, memory: 1024Mi}"
    reference = {"group": "", "kind": "ConfigMap", "name": "parameters"}
    secret = {"name": "certificate", "namespace": f"{place.name}-far"}
    https = listener("https", 443, "HTTPS", tls={"certificateRefs": [secret]})
    ours, front = place.own(listeners=[listener(), https], infrastructure={"parametersRef": reference})
    parent = {"name": "front"}
    far = secret["namespace"]
    place.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": far}})
    place.apply(
        ours,
        front,
        config_map({"resources": resources, "replicas": "2"}, namespace=place.name),
        http_route(namespace=place.name, parents=[parent]),
        inference_pool(namespace=place.name),
        inference_model("model", namespace=place.name),
        reference_grant("Gateway", "Secret", far, place.name),
    )
    name = f"front-{place.name}"
    with place.controlled() as child:
        expect(child, "a Deployment", lambda: place.has("Deployment", name, "apps/v1"))
        place.run_pods(name)
        expect(child, "Programmed", lambda: place.said("Gateway", "front").get("Programmed") == "Programmed")
        expect(
            child,
            "a model that is accepted",
            lambda: (
                place.said("InferenceModel", "model", "inference.networking.x-k8s.io/v1alpha2").get("Accepted")
                == "Accepted"
            ),
        )
        assert place.said("HTTPRoute", "route") == {"Accepted": "Accepted", "ResolvedRefs": "ResolvedRefs"}
        role = f"{place.name}.{name}-secrets"
        assert place.get("Role", role, f"{RBAC_GROUP}/v1", far)["rules"][0]["resourceNames"] == ["certificate"]
        deployment = place.get("Deployment", name, "apps/v1")
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        assert container["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}, "in the server's own words"
        assert deployment["metadata"]["ownerReferences"][0]["kind"] == "Gateway"
        time.sleep(1.0)  # whatever was still to be written
        before = place.versions(*WRITTEN)
        time.sleep(1.0)
        assert place.versions(*WRITTEN) == before
        assert "not written" not in child.log
        assert "forbidden" not in child.log
    with place.controlled() as child:
        expect(child, "leadership", lambda: '"leading"' in child.log)
        place.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": place.name}})
        time.sleep(1.5)
        assert place.versions(*WRITTEN) == before


def test_what_is_not_ours_to_say_is_left_to_others_and_the_rest_is_put_back(place: Place) -> None:
    place.apply(*place.own())
    name = f"front-{place.name}"
    path = place.api.path_of("apps/v1", "Deployment", place.name, name)
    with place.controlled() as child:
        expect(child, "a Deployment", lambda: place.has("Deployment", name, "apps/v1"))
        place.api.merge(path, {"spec": {"replicas": 3}, "metadata": {"labels": {"of": "others"}}})
        place.api.merge(path, {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}})

        def pod() -> Any:
            return place.get("Deployment", name, "apps/v1")["spec"]["template"]["spec"]

        expect(child, "the grace period", lambda: pod()["terminationGracePeriodSeconds"] == Defaults().grace_seconds)
        # Without the label by which it is followed it is out of sight, and still the Gateway's.
        spec = {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}
        place.api.merge(path, {"metadata": {"labels": {MANAGED_BY: None}}, "spec": spec})
        expect(
            child, "the grace period again", lambda: pod()["terminationGracePeriodSeconds"] == Defaults().grace_seconds
        )
        assert place.get("Deployment", name, "apps/v1")["metadata"]["labels"][MANAGED_BY]
        deployment = place.get("Deployment", name, "apps/v1")
        assert deployment["spec"]["replicas"] == 3
        assert deployment["metadata"]["labels"]["of"] == "others"


def test_what_has_our_names_already_stays_whose_it_is_until_it_is_gone(place: Place) -> None:
    name = f"front-{place.name}"
    metadata = {"name": name, "namespace": place.name}
    service = {"selector": {"app": "theirs"}, "ports": [{"port": 5432}]}
    theirs = (
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
    )
    place.apply(*theirs, *place.own())
    with place.controlled() as child:
        expect(child, "a word", lambda: place.said("Gateway", "front").get("Programmed") == "NoResources")
        time.sleep(1.0)
        assert place.get("Service", name)["spec"]["selector"] == {"app": "theirs"}
        assert not place.get("ServiceAccount", name)["metadata"].get("labels")
        assert not place.has("Deployment", name, "apps/v1")
        for each in theirs:
            place.api.delete(each)
        expect(child, "a Deployment", lambda: place.has("Deployment", name, "apps/v1"), 60)
        expect(child, "our Service", lambda: place.get("Service", name)["spec"]["selector"] != {"app": "theirs"})
        assert "forbidden" not in child.log.lower()


def test_when_the_leader_is_killed_a_standby_writes_within_the_stated_time(place: Place) -> None:
    ours, front = place.own()
    with place.controlled() as first:
        expect(first, "a leader", lambda: '"leading"' in first.log)
        with place.controlled() as second:
            place.apply(ours)
            expect(first, "an accepted class", lambda: "Accepted" in place.said("GatewayClass", place.name))
            assert '"leading"' not in second.log
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
            place.apply(front)
            name = f"front-{place.name}"
            expect(second, "a Deployment", lambda: place.has("Deployment", name, "apps/v1"), TAKEOVER_SECONDS)


def test_a_controller_of_one_namespace_and_its_gateways_do_with_rights_in_it(
    gateway_api: ApiServer, tmp_path: Path
) -> None:
    place, port = Place(gateway_api, "narrow", tmp_path, is_narrow=True), free_port()
    secret = {"certificateRefs": [{"name": "certificate"}]}
    place.apply(*place.own(listeners=[listener(port=port), listener("https", free_port(), "HTTPS", tls=secret)]))
    name = "front-narrow"
    with place.controlled("--namespace", place.name) as child, simulated_servers(1, "--model", "tiny") as sim:
        expect(child, "a Deployment", lambda: place.has("Deployment", name, "apps/v1"))
        place.run_pods(name)
        expect(child, "Programmed", lambda: place.said("Gateway", "front").get("Programmed") == "Programmed")
        binding = place.get("RoleBinding", GATEWAY_ROLE, f"{RBAC_GROUP}/v1")
        assert [one["name"] for one in binding["subjects"]] == [name]
        wide = place.api.get(place.api.path_of(f"{RBAC_GROUP}/v1", "ClusterRoleBinding", None, GATEWAY_CLUSTER_ROLE))
        assert [one["name"] for one in wide["subjects"]] == [name]
        assert "forbidden" not in child.log.lower()
        pool = inference_pool(namespace=place.name, targetPorts=[{"number": sim.ports[0]}])
        place.apply(pool, http_route(namespace=place.name, parents=[{"name": "front"}]))
        place.run_server("127.0.0.1")
        with place.pod(name) as pod:
            expect(pod, "a model list", lambda: place.asked(port, "/v1/models") == 200)
            assert "forbidden" not in pod.log.lower()
