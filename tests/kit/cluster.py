"""The test cluster as a fixture: one for the session, skipped by name where something it needs is absent.

Tests that ask for it are integration tests with a longer timeout. They share it, so each works in a namespace of its
own (`namespace`), and leaves cluster-wide objects as it found them.
"""

import re
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster, running
from tests.cluster.installation import install
from tests.cluster.toolchain import missing

_TIMEOUT_SECONDS = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what every user of the cluster would have to mark."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.timeout(_TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster with the CRDs of the Gateway API and of the inference extension."""
    if absent := missing():
        pytest.skip(f"no test cluster: missing {'; '.join(absent)}")
    with running() as started:
        yield started


CONTROLLER_SECONDS = 150.0
"""After an outage of the API server Kubernetes' controllers look again within a minute, which they draw by lot."""


@pytest.fixture(scope="session")
def own_gateway(cluster: Cluster) -> None:
    """This checkout's controller, installed with a GatewayClass of the name `stellwerk`."""
    install(cluster, {})


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, named after it; deleted, with all that is in it, but not waited for."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[-50:].strip("-")
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": f"{name}-"}}
    created = cluster.api.call("POST", "/api/v1/namespaces", document)
    name = created["metadata"]["name"]
    path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    cluster.wait(f"the default account of {name}", lambda: cluster.api.get(path), CONTROLLER_SECONDS)
    yield name
    cluster.delete(created)
