"""What the picker tells health checkers, by what it is doing."""

import asyncio

import pytest

from stellwerk.app.in_cluster import InCluster
from stellwerk.app.picker import HEALTH_SERVICES, Picker, Place
from stellwerk.app.running import files_of
from stellwerk.app.standalone import extproc_settings
from stellwerk.config import Cluster, Config, Epp
from stellwerk.edge.kube.access import Access
from stellwerk.edge.kube.client import KubeClient

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


def picker(place: Place) -> Picker:
    config = Config(servers=("http://127.0.0.1:1",))
    return Picker(config, extproc_settings(config), files_of(config), place=place)


@pytest.mark.parametrize(
    ("is_listening", "is_draining", "closed", "is_open"),
    [
        (False, False, (), False),
        (True, False, (), True),
        (True, True, (), False),
        (True, False, ("standing by",), False),
    ],
)
def test_readiness_is_to_listen_to_lead_and_not_to_drain(
    is_listening: bool, is_draining: bool, closed: tuple[str, ...], is_open: bool
) -> None:
    one = picker(Place(closed=lambda: closed))
    one._is_listening, one._is_draining = is_listening, is_draining
    one.show_health()
    for name in HEALTH_SERVICES:
        assert one.health.state(name) == (SERVING if is_open or name == "liveness" else NOT_SERVING)
    assert one.health.state("stranger") is None


def test_reasons_of_its_place_are_reasons_not_to_be_ready() -> None:
    assert "standing by" in picker(Place(closed=lambda: ("standing by",))).unready()


def in_cluster(cluster: Cluster) -> InCluster:
    config = Config(epp=Epp(cluster=cluster))
    return InCluster(config, cluster, KubeClient(Access("http://127.0.0.1:1", namespace="pods")))


def test_a_picker_without_its_pool_and_without_the_lease_says_both() -> None:
    place = in_cluster(Cluster(pool_name="llama", elects=True))
    assert place.config.epp.pool == "pods/llama"
    assert list(place.closed()) == ["the cluster has no InferencePool pods/llama", "standing by: nobody leads"]


def test_a_pool_that_is_only_a_selector_is_named_after_the_deployment() -> None:
    async def name(instance: str | None) -> str | None:
        return in_cluster(Cluster(selector="app=llama", ports=(8000,), instance=instance)).config.epp.pool

    assert asyncio.run(name("llama-epp-5d8f9c-x7k2p")) == "pods/llama-epp"
    assert asyncio.run(name(None)) == "pods/epp"


def test_a_token_is_asked_for_unless_the_guard_is_off() -> None:
    assert in_cluster(Cluster(pool_name="llama")).place.guard is not None
    assert in_cluster(Cluster(pool_name="llama", guards_metrics=False)).place.guard is None
    assert in_cluster(Cluster(pool_name="llama")).place.until_draining is None
