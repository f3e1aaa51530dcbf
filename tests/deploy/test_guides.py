"""The installation and the guides on a cluster: applied as they are shipped, they answer as the pages say."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.generate import HERE, PICKER_INSTALL
from stellwerk import __version__
from stellwerk.control.fields import LEGACY_GROUP
from stellwerk.control.gateway.permissions import ROUTING
from stellwerk.control.kube.permissions import PICKER, REVIEWS
from tests.cluster.cluster import Cluster, running
from tests.cluster.toolchain import missing
from tests.kit.helm import rendered
from tests.kit.manifests import FOREIGN, kustomized
from tests.kit.on_cluster import condition
from tests.kit.processes import call
from tests.kit.upstream_charts import STARTED, deployment

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
GATEWAY = "gateway.networking.k8s.io/v1"


@pytest.fixture(scope="module")
def installed() -> Iterator[Cluster]:
    """A cluster of its own, with the manifests as they are."""
    if absent := missing():
        pytest.skip(f"no test cluster: missing {'; '.join(absent)}")
    with running() as started:
        for part in ("crds", "gateway"):
            started.apply(*kustomized(HERE / "manifests" / part))
        started.wait_for_deployment("stellwerk-controller", "stellwerk-system")
        yield started


@pytest.fixture
def namespace(installed: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Named after the guide; deleted with everything in it."""
    name = f"guide-{request.node.callspec.params['example']}"
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    installed.apply(document)
    path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    installed.wait(f"the default account of {name}", lambda: installed.api.get(path))
    yield name
    installed.delete(document)


def placed(example: str, namespace: str) -> list[dict[str, Any]]:
    found = kustomized(HERE / "examples" / example)
    return [{**each, "metadata": {**each["metadata"], "namespace": namespace}} for each in found]


def address_of(cluster: Cluster, namespace: str) -> str:
    """Of the Gateway, once it works."""

    def programmed() -> str:
        status = cluster.get("Gateway", "inference", namespace, GATEWAY).get("status", {})
        states = {each["type"]: each["status"] for each in status.get("conditions", [])}
        addresses = status.get("addresses") or [{}]
        return str(addresses[0].get("value", "")) if states.get("Programmed") == "True" else ""

    return cluster.wait("the Gateway", programmed, 120)


def ask(cluster: Cluster, address: str, model: str) -> Any:
    body = json.dumps({"model": model, "prompt": "Hello", "max_tokens": 2}).encode()

    def answered() -> Any:
        with cluster.network():
            return call(f"http://{address}/v1/completions", body, {"content-type": "application/json"}, timeout=10)

    return cluster.wait(f"an answer of {model}", lambda: (found := answered()).status == 200 and found, 60)


@pytest.mark.parametrize(
    ("example", "models"),
    [
        ("first-pool", ["llama"]),
        ("canary", ["chat", "assistant"]),
        ("lora", ["food-review", "summary"]),
        ("priorities", ["assistant", "nightly"]),
    ],
)
def test_a_guide_leads_to_answers(installed: Cluster, namespace: str, example: str, models: list[str]) -> None:
    installed.apply(*placed(example, namespace))
    installed.wait_for_deployment("llama", namespace)
    address = address_of(installed, namespace)
    for model in models:
        answer = ask(installed, address, model)
        assert answer.json()["model"] == model


def test_the_picker_of_the_manifests_serves_its_pool(installed: Cluster) -> None:
    installed.apply(*placed("servers", "default"), *kustomized(HERE / "manifests" / "epp"))
    installed.wait_for_deployment("llama", "default")
    installed.wait_for_deployment("llama-epp", "default")


def test_the_chart_serves_a_pool_of_june_2025(installed: Cluster) -> None:
    old = {
        "apiVersion": f"{LEGACY_GROUP}/v1alpha2",
        "kind": "InferencePool",
        "metadata": {"name": "june", "namespace": "default"},
        "spec": {"selector": {"app": "llama"}, "targetPortNumber": 8000, "extensionRef": {"name": "june-epp"}},
    }
    defaults = PICKER_INSTALL.values()
    pool = {**defaults["pool"], "create": False, "name": "june", "group": LEGACY_GROUP}
    values = {**defaults, "name": "june-epp", "pool": pool}
    installed.apply(*placed("servers", "default"), old)
    installed.apply(*rendered(HERE / "charts" / PICKER_INSTALL.chart, values, "default"))
    installed.wait_for_deployment("june-epp", "default")


def test_pickers_that_elect_one_are_replaced_and_their_leader_may_be_evicted(installed: Cluster) -> None:
    defaults = PICKER_INSTALL.values()
    pool = {**defaults["pool"], "create": False}
    values = {**defaults, "name": "elected-epp", "pool": pool, "leaderElection": True}
    installed.apply(*placed("servers", "default"), *kustomized(HERE / "manifests" / "epp"))
    installed.apply(*rendered(HERE / "charts" / PICKER_INSTALL.chart, values, "default"))
    old = installed.wait("a leader", lambda: leading(installed))
    installed.kubectl("rollout", "restart", "deployment/elected-epp")
    new = installed.wait("a leader of the new replicas", lambda: (now := leading(installed)) != old and now, 120)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": new, "namespace": "default"}}
    installed.api.call("POST", f"/api/v1/namespaces/default/pods/{new}/eviction", eviction)
    installed.wait("a leader after the evicted one", lambda: leading(installed) not in ("", new), 120)


def leading(cluster: Cluster) -> str:
    """The only ready pod of two electing pickers; empty while there is none."""
    pods = cluster.list("Pod", "default", query="?labelSelector=app.kubernetes.io/instance=elected-epp")
    ready = [each["metadata"]["name"] for each in pods if condition(each, "Ready") == "True"]
    return str(ready[0]) if len(ready) == 1 else ""


def test_the_image_for_the_go_pickers_manifests_serves_with_their_flags_and_rights(installed: Cluster) -> None:
    (started,) = (each for each in STARTED if each.chart == "llm-d-router-gateway 0.9 and 0.10, two replicas")
    installed.apply(*placed("servers", "default"), *kustomized(HERE / "manifests" / "epp"))
    installed.apply(*deployment(started, f"stellwerk-epp:{__version__}", "default"))
    installed.wait("one that serves", lambda: ready(installed, "upstream-epp"))


def ready(cluster: Cluster, name: str) -> int:
    """Replicas that are."""
    return int(cluster.get("Deployment", name, "default", "apps/v1").get("status", {}).get("readyReplicas", 0))


def test_the_account_for_monitoring_may_read_a_pickers_metrics_and_nobody_else(installed: Cluster) -> None:
    installed.apply(*placed("servers", "default"))
    monitoring = kustomized(HERE / "manifests" / "epp-monitoring")
    installed.apply(*(each for each in monitoring if not each["apiVersion"].startswith(FOREIGN)))
    installed.wait_for_deployment("llama-epp", "default")
    address = installed.get("Service", "llama-epp", "default")["spec"]["clusterIP"]
    token = installed.wait(
        "its token", lambda: installed.get("Secret", "llama-epp-metrics", "default")["data"]["token"]
    )

    def asked(headers: dict[str, str]) -> int:
        with installed.network():
            return call(f"http://{address}:9090/metrics", headers=headers, timeout=10).status

    bearer = {"authorization": f"Bearer {base64.b64decode(token).decode()}"}
    installed.wait("metrics", lambda: asked(bearer) == 200)
    assert asked({}) == 401


def test_an_editor_of_models_reaches_nothing_else(installed: Cluster) -> None:
    """One whom the shipped role is bound to in one namespace."""
    user, group = "ada", "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "models", "namespace": "default"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "stellwerk-model-editor"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    installed.apply(binding)

    def may(verb: str, group: str, resource: str, namespace: str = "default") -> bool:
        asked = {"verb": verb, "group": group, "resource": resource, "namespace": namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": asked},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(installed.api.call("POST", path, review)["status"]["allowed"])

    old, new = "inference.networking.x-k8s.io", "inference.networking.k8s.io"
    installed.wait("the binding to hold", lambda: may("create", old, "inferencemodels"))
    assert may("update", "llm-d.ai", "inferencemodelrewrites")
    assert not may("create", old, "inferencemodels", "stellwerk-system")
    assert not may("update", old, "inferencemodels/status")
    for kind, of in (
        ("inferencepools", new),
        ("pods", ""),
        ("secrets", ""),
        ("httproutes", "gateway.networking.k8s.io"),
    ):
        for verb in ("get", "list", "create", "update", "delete"):
            assert not may(verb, of, kind), (verb, kind)


def forbidden(event: dict[str, Any]) -> str:
    """What was asked for without the right to, else empty. (A namespace that is going away says 403 too.)"""
    decision = (event.get("annotations") or {}).get("authorization.k8s.io/decision")
    return f"{event['verb']} {event['requestURI']}" if decision == "forbid" else ""


def test_the_shipped_rights_are_enough_and_read_what_they_may(installed: Cluster) -> None:
    """Last, since it is about everything that our accounts asked for above."""
    found = list(installed.audit())
    for account, grants in (
        (":stellwerk-system:stellwerk-controller", ROUTING),
        (":default:llama-epp", PICKER + REVIEWS),
    ):
        ours = [each for each in found if each["user"]["username"].endswith(account)]
        assert not [request for each in ours if (request := forbidden(each))]
        granted = {(rule.group, name, verb) for rule in grants for name in rule.resources for verb in rule.verbs}
        refs = [(each.get("objectRef") or {}, each["verb"]) for each in ours]
        used = {(ref.get("apiGroup", ""), ref.get("resource"), verb) for ref, verb in refs}
        assert granted <= used, account
    pods = [each for each in found if each["user"]["username"].endswith(":inference-stellwerk")]
    assert pods
    assert not [request for each in pods if (request := forbidden(each))]
