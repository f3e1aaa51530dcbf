"""From nothing to a first answer on a cluster, by the README's commands."""

import sys

from tests.cluster.cluster import Cluster
from tests.cluster.installation import CLASS_NAME, NAMESPACE
from tests.kit.on_cluster import readme, shell


def test_the_readmes_commands_lead_to_an_answer(cluster: Cluster) -> None:
    """Another test may have installed already, with parameters of its own: those go first."""
    metadata = {"name": CLASS_NAME, "namespace": NAMESPACE}
    cluster.delete({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    shell(cluster, readme("console", "stellwerk crds"))
    try:
        address = shell(cluster, readme("console", "first-pool")).split()[-1]
        code = readme("python", "import openai")
        assert "http://127.0.0.1:8080/v1" in code
        code = code.replace("http://127.0.0.1:8080/v1", f"http://{address}/v1")
        assert cluster.run(sys.executable, "-c", code).strip()
    finally:
        shell(cluster, "kubectl delete -k deploy/examples/first-pool --ignore-not-found --wait=false")
