"""The installation and the guides on a cluster: applied as they are shipped, they answer as the pages say."""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pytest

from deploy.generate import HERE, PICKER_INSTALL
from stellwerk import __version__
from stellwerk.control.fields import LEGACY_GROUP, POOL_GROUP, ROUTER_GROUP
from stellwerk.control.gateway import permissions
from stellwerk.control.gateway.access import secret_access
from stellwerk.control.gateway.permissions import LEASE, RBAC_GROUP, Grant
from stellwerk.control.kube.permissions import PICKER, REVIEWS
from tests.cluster.cluster import Cluster, running
from tests.cluster.toolchain import missing
from tests.kit.gateway_objects import certificate, gateway, gateway_class, listener, tls_secret
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


def test_a_gateway_of_another_class_runs_on_nothing_of_the_old_one(installed: Cluster) -> None:
    """With HTTPS, so that there is a Secret to read, and leave to read it to be taken back."""
    place = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "moving"}}
    other = gateway_class("other")
    tls = {"certificateRefs": [{"name": "certificate"}]}
    moving = gateway(listener("https", 443, "HTTPS", tls=tls), name="moving", namespace="moving")
    installed.apply(place, other, tls_secret("certificate", *certificate("a.example"), namespace="moving"), moving)
    installed.wait_for_deployment("moving-stellwerk", "moving", 120)
    installed.api.merge(installed.api.path_to(moving), {"spec": {"gatewayClassName": "other"}})
    installed.wait_for_deployment("moving-other", "moving", 120)
    kinds = (
        ("apps/v1", "Deployment"),
        ("v1", "Service"),
        ("policy/v1", "PodDisruptionBudget"),
        ("v1", "ServiceAccount"),
    )
    rbac = [("rbac.authorization.k8s.io/v1", kind) for kind in ("Role", "RoleBinding")]

    def left() -> list[str]:
        found = [each for version, kind in (*kinds, *rbac) for each in installed.list(kind, "moving", version)]
        return [each["metadata"]["name"] for each in found if each["metadata"]["name"].startswith("moving-stellwerk")]

    installed.wait("the end of the old ones", lambda: not left())
    installed.delete(place, other)


def test_policies_of_both_groups_are_told_that_they_are_accepted(installed: Cluster) -> None:
    reference = {"poolRef": {"name": "llama"}}
    target = [{"targets": [{"modelRewrite": "llama"}]}]
    installed.apply(*kustomized(HERE / "manifests" / "epp"))
    for group in (LEGACY_GROUP, ROUTER_GROUP):
        version = f"{group}/v1alpha2"
        for kind, spec in (("InferenceObjective", {"priority": 1}), ("InferenceModelRewrite", {"rules": target})):
            metadata = {"name": "old" if group == LEGACY_GROUP else "new", "namespace": "default"}
            policy = {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": {**spec, **reference}}
            installed.apply(policy)
            told = partial(installed.get, kind, metadata["name"], "default", version)
            installed.wait(f"a status of {kind} of {group}", lambda: condition(told(), "Accepted"))  # noqa: B023
            installed.delete(policy)


def test_pickers_that_elect_one_are_replaced_and_their_leader_may_be_evicted(installed: Cluster) -> None:
    defaults = PICKER_INSTALL.values()
    pool = {**defaults["pool"], "create": False}
    values = {**defaults, "name": "elected-epp", "pool": pool, "leaderElection": True}
    installed.apply(*placed("servers", "default"), *kustomized(HERE / "manifests" / "epp"))
    electing = rendered(HERE / "charts" / PICKER_INSTALL.chart, values, "default")
    installed.apply(*electing)
    old = installed.wait("a leader", lambda: leading(installed))
    installed.kubectl("rollout", "restart", "deployment/elected-epp")
    new = installed.wait("a leader of the new replicas", lambda: (now := leading(installed)) != old and now, 120)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": new, "namespace": "default"}}
    installed.api.call("POST", f"/api/v1/namespaces/default/pods/{new}/eviction", eviction)
    installed.wait("a leader after the evicted one", lambda: leading(installed) not in ("", new), 120)
    # Others of the pool stand in the same election.
    installed.delete(*(each for each in electing if each["kind"] == "Deployment"))


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


Right = tuple[str, str, str]
"""API group, resource and verb."""
SECRETS = tuple(
    Grant("", ("secrets",), tuple(rule["verbs"])) for rule in secret_access(("", ""), "", ())["Role"]["rules"]
)
"""Of a gateway pod, in Roles that the controller makes."""
ACCOUNTS: tuple[tuple[str, str, tuple[Grant, ...]], ...] = (
    ("controller", "stellwerk-system:stellwerk-controller", (*permissions.CONTROLLER, *LEASE)),
    ("gateway pods", "(inference|moving)-stellwerk", (*permissions.GATEWAY, *SECRETS)),
    ("pickers", "default:(llama|elected)-epp", (*PICKER, *REVIEWS, *LEASE)),
)
"""Whose names end in that, and what is granted to them."""
APPLIED = (
    ("", "services"),
    ("", "serviceaccounts"),
    ("apps", "deployments"),
    ("policy", "poddisruptionbudgets"),
    (RBAC_GROUP, "roles"),
    (RBAC_GROUP, "rolebindings"),
    (RBAC_GROUP, "clusterrolebindings"),
)
WITH_STATUS = (
    ("gateway.networking.k8s.io", "gatewayclasses"),
    ("gateway.networking.k8s.io", "gateways"),
    ("gateway.networking.k8s.io", "httproutes"),
    (POOL_GROUP, "inferencepools"),
    (LEGACY_GROUP, "inferencemodels"),
    (LEGACY_GROUP, "inferenceobjectives"),
    (LEGACY_GROUP, "inferencemodelrewrites"),
    (ROUTER_GROUP, "inferenceobjectives"),
    (ROUTER_GROUP, "inferencemodelrewrites"),
)
UNSEEN: set[Right] = {
    # Of whoever makes an object by server-side apply the API server wants `create` too, and it logs a `patch`.
    *((group, name, "create") for group, name in APPLIED),
    # Asked only after somebody else has written the status at the same time.
    *((group, name, "get") for group, name in WITH_STATUS),
    # Looked for when a binding is made; never a request.
    (RBAC_GROUP, "clusterroles", "bind"),
}
"""Needed, although the log may have no such request."""


def rights(grants: Iterable[Grant]) -> set[Right]:
    return {(grant.group, name, verb) for grant in grants for name in grant.resources for verb in grant.verbs}


def asked(event: dict[str, Any]) -> Right:
    about = event.get("objectRef") or {}
    parts = (about.get("resource", ""), about.get("subresource", ""))
    return about.get("apiGroup", ""), "/".join(filter(None, parts)), event["verb"]


def test_what_is_needed_unseen_is_granted() -> None:
    assert {right for _, _, grants in ACCOUNTS for right in rights(grants)} >= UNSEEN


@pytest.mark.parametrize(("who", "name", "grants"), ACCOUNTS, ids=[who for who, _, _ in ACCOUNTS])
def test_the_shipped_rights_are_enough_and_all_are_used(
    installed: Cluster, who: str, name: str, grants: tuple[Grant, ...]
) -> None:
    """Last, since it is about everything that our accounts asked for above."""
    ours = [each for each in installed.audit() if re.search(f":{name}$", each["user"]["username"])]
    assert ours
    assert not [request for each in ours if (request := forbidden(each))]
    unused = sorted(rights(grants) - {asked(each) for each in ours} - UNSEEN)
    assert not unused, "\n".join(map(str, unused))
