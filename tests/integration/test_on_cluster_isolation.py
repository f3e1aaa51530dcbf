"""Who may edit models in one namespace reaches nothing of another: by the API server's rights, and by ours."""

from typing import Any

import pytest

from stellwerk.control.gateway.ports import ADMIN_PORT
from tests.cluster.api import Api, ApiError
from tests.cluster.cluster import Cluster
from tests.kit.on_cluster import POOL, ask, first_pool
from tests.kit.processes import call

MODELS = "inference.networking.x-k8s.io/v1alpha2"
RBAC = "rbac.authorization.k8s.io/v1"

pytestmark = pytest.mark.usefixtures("own_gateway")


def model(namespace: str) -> dict[str, Any]:
    """An InferenceModel that turns requests for `llama` into requests for what no server has."""
    return {
        "apiVersion": MODELS,
        "kind": "InferenceModel",
        "metadata": {"name": "mine", "namespace": namespace},
        "spec": {
            "modelName": "llama",
            "poolRef": {"name": "llama", "group": "inference.networking.k8s.io"},
            "targetModels": [{"name": "nowhere"}],
        },
    }


def reaching_out(mine: str, other: str) -> dict[str, Any]:
    """The same, with a namespace in its reference, which the API does not have."""
    document = model(mine)
    document["spec"]["poolRef"]["namespace"] = other
    return document


def editor(cluster: Cluster, namespace: str) -> Api:
    """The API as somebody sees it who has the shipped role for people, in one namespace."""
    place = {"name": "editor", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place})
    cluster.apply(
        {
            "apiVersion": RBAC,
            "kind": "RoleBinding",
            "metadata": place,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "stellwerk-model-editor",
            },
            "subjects": [{"kind": "ServiceAccount", **place}],
        }
    )
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/editor/token"
    document = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = cluster.api.call("POST", path, document)["status"]["token"]
    return cluster.api.as_user(token)


def create(api: Api, document: dict[str, Any]) -> Any:
    """POST; fields that the server does not know are dropped."""
    return api.call(
        "POST", api.path_of(document["apiVersion"], document["kind"], document["metadata"]["namespace"]), document
    )


@pytest.fixture
def mine(cluster: Cluster, namespace: str) -> str:
    """A second namespace; `namespace` is the others'."""
    name = f"{namespace}-mine"[-63:].strip("-")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def refusal(api: Api, method: str, path: str, body: dict[str, Any] | None = None) -> int:
    """The status of a call that is refused; 0 when it is not."""
    try:
        api.call(method, path, body)
    except ApiError as problem:
        return problem.code
    return 0


def test_an_editor_of_models_may_edit_models_in_one_namespace_only(cluster: Cluster, namespace: str, mine: str) -> None:
    user = editor(cluster, mine)
    created = cluster.wait("the right to create", lambda: create(user, reaching_out(mine, namespace)))
    assert created["spec"]["poolRef"] == model(mine)["spec"]["poolRef"] | {"kind": "InferencePool"}, "no namespace"
    for place in (mine, namespace):
        for version, kind in (("v1", "Pod"), ("v1", "Secret"), ("v1", "ConfigMap"), (POOL, "InferencePool")):
            path = cluster.api.path_of(version, kind, place)
            assert refusal(user, "GET", path) == 403
            named = {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": place}}
            assert refusal(user, "POST", path, named) == 403
            assert refusal(user, "DELETE", f"{path}/llama") == 403
    others = cluster.api.path_of(MODELS, "InferenceModel", namespace)
    assert refusal(user, "GET", others) == 403
    assert refusal(user, "POST", others, model(namespace)) == 403
    own = cluster.api.path_of(MODELS, "InferenceModel", mine)
    assert refusal(user, "GET", own) == 0
    assert refusal(user, "PATCH", f"{own}/mine/status", {}) == 403, "statuses are the controller's"


def test_a_model_acts_on_no_pool_of_another_namespace(cluster: Cluster, namespace: str, mine: str) -> None:
    url = first_pool(cluster, namespace)
    user = editor(cluster, mine)
    cluster.wait("the right to create", lambda: create(user, reaching_out(mine, namespace)))

    def said() -> str:
        status = cluster.get("InferenceModel", "mine", mine, MODELS).get("status", {})
        return next((each["reason"] for each in status.get("conditions", []) if each["type"] == "Accepted"), "")

    assert cluster.wait("its status", lambda: said() if said() else "") == "Pending"
    assert [ask(cluster, url).status for _ in range(20)] == [200] * 20
    # The same object in the pool's own namespace acts at once, so the silence above means something.
    cluster.apply(model(namespace))
    cluster.wait("the model of the pool's namespace to act", lambda: ask(cluster, url).status == 404)


def test_what_a_gateway_pod_decides_is_shown_to_nobody_elsewhere(cluster: Cluster, namespace: str) -> None:
    url = first_pool(cluster, namespace, 1)
    assert ask(cluster, url).status == 200
    found = [each for each in cluster.list("Pod", namespace) if each["metadata"]["name"].startswith("inference-")]
    (pod,) = (each for each in found if "deletionTimestamp" not in each["metadata"])

    def shown(path: str) -> int:
        with cluster.network():
            return call(f"http://{pod['status']['podIP']}:{ADMIN_PORT}{path}", timeout=10).status

    assert [shown(path) for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
    assert [shown(path) for path in ("/api/pools", "/api/decisions")] == [403] * 2
