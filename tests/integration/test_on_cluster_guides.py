"""The guides' own commands, as they stand, one after the other in one shell, lead to what the guides say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.kit.on_cluster import GATEWAY, blocks, condition, shell

pytestmark = pytest.mark.usefixtures("own_gateway")

MODELS = "inference.networking.x-k8s.io/v1alpha2"
_FORWARD = re.compile(r"^kubectl port-forward .*$", re.MULTILINE)


def followed(cluster: Cluster, page: str, namespace: str, state: Path) -> str:
    """What all commands of a guide print, with `namespace` as the namespace of the user's context. What a reader leaves
    running in another terminal runs beside the rest."""
    config = json.loads(cluster.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = namespace
    kubeconfig = state / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    code = "\n".join(blocks(f"docs/guides/{page}.md", "bash"))
    code = _FORWARD.sub(lambda found: f"beside {found[0]}", code)
    return shell(cluster, f"export KUBECONFIG={kubeconfig}\n{_BESIDE}\n{code}")


_BESIDE = """
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
beside() {
  local said; said=$(mktemp)
  "$@" > "$said" 2>&1 &
  for _ in $(seq 300); do grep -q Forwarding "$said" && return; sleep 0.1; done
  cat "$said"; return 1
}
"""


def gateway(cluster: Cluster, namespace: str) -> Any:
    return cluster.get("Gateway", "inference", namespace, GATEWAY)


def test_the_first_pool_answers_without_a_load_balancer(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    said = followed(cluster, "first-pool", namespace, tmp_path)
    service = cluster.get("Service", "inference-stellwerk", namespace)
    assert service["spec"]["type"] == "ClusterIP"
    assert '"object":"list"' in said, "of /v1/models"
    assert '"chat.completion"' in said
    assert '"pools"' in said
    assert '"picked"' in said, "of /api/decisions"
    assert '"error"' not in said


def test_a_canary_is_moved_on(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    followed(cluster, "canary", namespace, tmp_path)
    targets = cluster.get("InferenceModel", "chat", namespace, MODELS)["spec"]["targetModels"]
    assert [(each["name"], each["weight"]) for each in targets] == [("chat-v1", 50), ("chat-v2", 50)]


def test_the_gateway_gets_the_pickers_configuration_of_the_guide(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    followed(cluster, "lora", namespace, tmp_path)
    assert condition(gateway(cluster, namespace), "Accepted") == "True"

    def is_configured() -> bool:
        container = cluster.get("Deployment", "inference-stellwerk", namespace, "apps/v1")["spec"]["template"]["spec"]
        return "lora-affinity-scorer" in str(container["containers"][0]["args"])

    cluster.wait("the configuration", is_configured)
    cluster.wait_for_deployment("inference-stellwerk", namespace)


def test_a_request_names_its_objective(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    said = followed(cluster, "priorities", namespace, tmp_path)
    assert '"text_completion"' in said
    assert '"error"' not in said
