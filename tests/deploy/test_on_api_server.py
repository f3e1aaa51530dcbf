"""A real API server takes every object that is shipped, and every example, field by field."""

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from deploy.generate import HERE, INSTALLS
from tests.cluster.api import Document
from tests.cluster.toolchain import CRDS, OTHERS, program
from tests.kit.api_server import ApiServer, api_server
from tests.kit.manifests import EXAMPLES, documents, kustomized
from tests.kit.programs import built

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
__all__ = ["api_server"]


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> ApiServer:
    """With the definitions of the Gateway API, of Istio and of the Prometheus operator."""
    paths = [*program(CRDS).glob("gateway.networking.k8s.io_*.yaml"), *Path(built(OTHERS)).glob("*.yaml")]
    found = [each for path in sorted(paths) for each in documents(path)]
    api_server.define([each for each in found if each["kind"] == "CustomResourceDefinition"])
    return api_server


def create(server: ApiServer, document: Document) -> Document:
    """Server-side apply. A field that the server does not know is an error."""
    query = urlencode({"fieldManager": "test", "force": "true", "fieldValidation": "Strict"})
    path = f"{server.api.path_to(document)}?{query}"
    made: Document = server.api.call("PATCH", path, document, "application/apply-patch+yaml")
    return made


@pytest.mark.parametrize("install", INSTALLS, ids=lambda install: install.chart)
def test_the_installation_is_taken(server: ApiServer, install: Any) -> None:
    for document in kustomized(HERE / "manifests" / f"{install.directory}-monitoring"):
        create(server, document)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_taken(server: ApiServer, example: Path) -> None:
    namespace = f"example-{example.name}"
    create(server, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for document in kustomized(example):
        is_cluster_wide = document["kind"] == "GatewayClass"
        place = {} if is_cluster_wide else {"namespace": namespace}
        create(server, {**document, "metadata": {**document["metadata"], **place}})
