"""Installs this checkout into a test cluster, by the manifests that are shipped and with the rights that they give."""

from collections.abc import Mapping

from tests.cluster.cluster import Cluster
from tests.cluster.toolchain import ROOT

MANIFESTS = ROOT / "deploy" / "manifests"
CLASS_NAME = "stellwerk"
NAMESPACE = "stellwerk-system"
_START_SECONDS = 120.0


def install(cluster: Cluster, parameters: Mapping[str, str]) -> None:
    """Definitions, controller and class, with one gateway pod for each Gateway; `parameters` are added to the class's.

    Returns when the controller is ready. Raises ClusterFailed.
    """
    for part in ("crds", "gateway"):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(MANIFESTS / part))
    metadata = {"name": CLASS_NAME, "namespace": NAMESPACE}
    data = {"replicas": "1", **parameters}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    cluster.wait_for_deployment("stellwerk-controller", NAMESPACE, _START_SECONDS)
