"""Good and bad objects on a real API server: our definitions, `stellwerk validate` and upstream's definitions agree."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stellwerk.blueprint import Source, draft
from stellwerk.control.crds import STORED, definitions
from stellwerk.control.document import read
from stellwerk.control.fields import OWN_GROUP
from tests.cluster.api import ApiError
from tests.control.objects_table import BAD, GOOD, MODEL, REF, SELECTOR, Case, model, pool, server
from tests.kit.api_server import ApiServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

UPSTREAM = Path(__file__).parents[1] / "fixtures" / "upstream-crds"
OF_NOTATION = {"an exponent": "numbers are written to the server as JSON, and 1e3 is one"}
"""Cases about how a file is written, that an API server cannot tell."""

STRICTER = {
    # Upstream's Go types bound keys with the same pattern; OpenAPI cannot say it, and their rules in CEL do not.
    "a bad label key": "no Pod can have it, and an API server refuses to watch Pods by it",
    "a bad label key of an old pool": "as above",
}
"""Cases that we refuse and upstream's definitions do not, and why (docs/decisions/objects.md)."""


def is_object(case: Case) -> bool:
    """Whether the text holds one object of a kind that an API server stores, and leaves no doubt what it says."""
    text = read("f.yaml", case.text.encode())
    if case.name in OF_NOTATION or text.problems or len(text.documents) != 1 or text.documents[0].doubts:
        return False
    value = text.documents[0].root.unfolded()
    return isinstance(value, dict) and (value.get("apiVersion"), value.get("kind")) in STORED


OBJECTS = [case for case in (*GOOD, *BAD) if is_object(case)]
OF_UPSTREAM = [case for case in OBJECTS if OWN_GROUP not in case.text]


def refusal(api_server: ApiServer, text: str) -> str:
    """What the server says against creating the object, in `kubectl`'s strict way; empty: nothing."""
    # An object that was printed by an API server cannot be created again with its version.
    text = re.sub(r"(?m)^ *resourceVersion: .*\n", "", text)
    version = re.search(r"(?m)^[\"']?apiVersion[\"']?: *(\S+)$|\"apiVersion\": \"([^\"]+)\"", text)
    kind = re.search(r"(?m)^kind: *(\S+)$|\"kind\": \"([^\"]+)\"", text)
    assert version is not None
    assert kind is not None
    namespace = re.search(r"namespace: *([^\s,}]+)", text)
    key = (version[1] or version[2], kind[1] or kind[2])
    path = f"/apis/{key[0]}/namespaces/{namespace[1] if namespace else 'default'}/{STORED[key].plural}"
    content_type = "application/json" if text.startswith("{") else "application/yaml"
    try:
        api_server.api.call("POST", f"{path}?dryRun=All&fieldValidation=Strict", text, content_type)
    except ApiError as problem:
        if problem.code not in (400, 404, 422):
            raise
        return str(problem)
    return ""


@pytest.fixture(scope="module")
def ours(api_server: ApiServer) -> ApiServer:
    """With our definitions, and the namespace that a case needs."""
    api_server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod"}})
    return api_server


@pytest.fixture(scope="module")
def upstreams(ours: ApiServer) -> Iterator[ApiServer]:
    """With upstream's definitions for the time being."""
    theirs = [yaml.safe_load(path.read_text()) for path in sorted(UPSTREAM.glob("*.yaml"))]
    assert len(theirs) == len([api_version for api_version, _ in STORED if OWN_GROUP not in api_version])
    ours.define(theirs)
    yield ours
    ours.define(definitions())


@pytest.mark.parametrize("case", OBJECTS, ids=lambda case: case.name)
def test_our_definitions_and_validate_agree(ours: ApiServer, case: Case) -> None:
    said = refusal(ours, case.text)
    problems = draft([Source("f.yaml", case.text.encode())]).problems
    assert bool(said) == bool(problems), (said, problems)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (pool(SELECTOR, "targetPorts: [{number: 1}, {number: 1}]"), "port number must be unique"),
        (pool("selector: {matchLabels: {app~: a}}", "targetPorts: [{number: 1}]"), "every key must be a label key"),
        (server("address: 'http://a:1'"), r"\"http://a:1\" is neither an IPv4 or IPv6 address nor a DNS name"),
        (server("address: 'ff02::1'"), r"\"ff02::1\" is an address to listen on"),
        (model("modelName: c", "targetModels: [{name: a, weight: 1}, {name: b}]"), "Weights should be set for all"),
    ],
)
def test_the_server_says_what_validate_says(ours: ApiServer, text: str, message: str) -> None:
    assert message in refusal(ours, text).replace("\\\\", "\\")


def test_defaults_are_filled_in(ours: ApiServer) -> None:
    reference = "endpointPickerRef: {name: e, port: {number: 2}}"
    made = ours.api.apply(yaml.safe_load(pool(SELECTOR, "targetPorts: [{number: 1}]", reference)))
    assert made["spec"]["appProtocol"] == "http"
    filled_in = {"group": "", "kind": "Service", "name": "e", "port": {"number": 2}, "failureMode": "FailClose"}
    assert made["spec"]["endpointPickerRef"] == filled_in
    ours.api.delete(made)


def test_a_models_name_cannot_change(ours: ApiServer) -> None:
    made = ours.api.apply(yaml.safe_load(f"{MODEL}spec: {{modelName: a, {REF}}}"))
    try:
        with pytest.raises(ApiError, match="modelName is immutable"):
            ours.api.merge(ours.api.path_to(made), {"spec": {"modelName": "b"}})
    finally:
        ours.api.delete(made)


def test_status_is_written_apart_and_starts_as_waiting(ours: ApiServer) -> None:
    made = ours.api.apply(yaml.safe_load(f"{MODEL}spec: {{modelName: a, {REF}}}"))
    path = ours.api.path_to(made)
    try:
        assert "status" not in ours.api.merge(path, {"status": {"conditions": []}})
        began = ours.api.merge(f"{path}/status", {"status": {}})
        assert [each["reason"] for each in began["status"]["conditions"]] == ["Pending"]
        condition = {
            "type": "Accepted",
            "status": "True",
            "reason": "Accepted",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 1,
        }
        written = ours.api.merge(f"{path}/status", {"status": {"conditions": [condition]}})
        assert written["status"]["conditions"] == [condition]
        with pytest.raises(ApiError, match="Duplicate value"):
            ours.api.merge(f"{path}/status", {"status": {"conditions": [condition, condition]}})
    finally:
        ours.api.delete(made)


def test_every_definition_is_structural_and_its_rules_compile(ours: ApiServer) -> None:
    for definition in definitions():
        name = definition["metadata"]["name"]
        found = ours.api.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
        wrong = [each for each in found["status"]["conditions"] if each["type"] == "NonStructuralSchema"]
        assert not wrong, wrong
        assert found["status"]["acceptedNames"] == definition["spec"]["names"]


@pytest.mark.parametrize("case", OF_UPSTREAM, ids=lambda case: case.name)
def test_upstreams_definitions_accept_and_refuse_the_same(upstreams: ApiServer, case: Case) -> None:
    said = refusal(upstreams, case.text)
    is_wrong = bool(draft([Source("f.yaml", case.text.encode())]).problems)
    assert bool(said) == (is_wrong and case.name not in STRICTER), said


def test_what_is_stricter_on_purpose_is_in_the_table() -> None:
    assert {case.name for case in OF_UPSTREAM if case.problems} >= STRICTER.keys()
