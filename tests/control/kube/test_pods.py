"""Which Pods can be picked, and as what."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.control.kinds import ModelServer
from stellwerk.control.kube.pods import kept_of_pod, server_of
from tests.kit.kube_api import pod


def server(value: dict[str, Any]) -> ModelServer | None:
    """What a Pod amounts to."""
    item = server_of(kept_of_pod(value))
    if item is None:
        return None
    assert isinstance(item.object, ModelServer)
    return item.object


def test_a_ready_pod_is_a_server() -> None:
    found = server(pod("a", "10.0.0.7", {"app": "llama"}, namespace="x", uid="u-1"))
    assert found is not None
    assert found.full_name == "x/a"
    assert found.spec.address == "10.0.0.7"
    assert found.metadata.uid == "u-1"
    assert found.metadata.labels == {"app": "llama"}


@pytest.mark.parametrize(
    "value",
    [
        pod("a", is_ready=False),
        pod("a", is_terminating=True),
        pod("a", address=None),
        pod("a", address="0.0.0.0"),
        pod("a", address="nonsense"),
        {**pod("a"), "status": {}},
        {**pod("a"), "status": {**pod("a")["status"], "phase": "Failed"}},
        {**pod("a"), "status": {**pod("a")["status"], "conditions": None}},
    ],
)
def test_a_pod_that_cannot_serve_is_none(value: dict[str, Any]) -> None:
    assert server(value) is None


def test_of_two_families_the_primary_address_counts() -> None:
    value = pod("a", "fd00::1")
    value["status"]["podIPs"] = [{"ip": "fd00::1"}, {"ip": "10.0.0.1"}]
    found = server(value)
    assert found is not None
    assert found.spec.address == "fd00::1"


def test_little_is_kept_of_a_pod() -> None:
    value = pod("a", annotations={"llm-d.ai/active-ports": "8000", "other": "x" * 10_000})
    kept = kept_of_pod(value)
    assert set(kept) == {"metadata", "address", "is_ready"}
    assert kept["metadata"]["annotations"] == {"llm-d.ai/active-ports": "8000"}
    assert "managedFields" not in kept["metadata"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("labels", "annotations", "uid", "namespace"), JSON)), JSON)
@settings(deadline=None, max_examples=100)
def test_what_an_odd_server_says_of_a_pod_is_taken_or_refused_as_malformed(metadata: Any, status: Any) -> None:
    value = {"metadata": {"name": "a", **metadata}, "status": status}
    try:
        kept = kept_of_pod(value)
    except (KeyError, TypeError, AttributeError, ValueError):
        return
    server_of(kept)
