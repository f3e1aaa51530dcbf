"""Endpoints of clusters as Envoy asks for them: one stream per cluster, one answer on its way at most."""

from typing import Any

import pytest
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.edge.discovery import EndpointDiscovery, Members
from stellwerk.edge.grpc.status import Status

TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
A, B, C = ("10.0.0.1", 8000), ("10.0.0.2", 8000), ("fd00::3", 8001)


class Envoy:
    """One stream, from Envoy's side. `members` is what it has taken."""

    path = ""
    metadata = ()
    unsent_bytes = 0

    def __init__(self, discovery: EndpointDiscovery, cluster: str = "pool", version: str = "") -> None:
        self.unread: list[Any] = []
        self.members: Members | None = None
        self.version, self.nonce = version, ""
        self.ended: Status | None = None
        self._cluster = cluster
        self.handler = discovery(self)
        self.ask()

    def send(self, *messages: bytes) -> None:
        self.unread += map(DiscoveryResponse.FromString, messages)

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        self.ended = status

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def ask(self, error: str = "") -> None:
        request = DiscoveryRequest(
            version_info=self.version, resource_names=[self._cluster], type_url=TYPE, response_nonce=self.nonce
        )
        if error:
            request.error_detail.message = error
        self.handler.on_message(request.SerializeToString())

    def read(self, error: str = "") -> None:
        """Take the oldest answer, or refuse it."""
        response = self.unread.pop(0)
        self.nonce = response.nonce
        if not error:
            assignment = ClusterLoadAssignment.FromString(response.resources[0].value)
            assert response.type_url == response.resources[0].type_url == TYPE
            assert assignment.cluster_name == self._cluster
            found = [each.endpoint.address.socket_address for each in assignment.endpoints[0].lb_endpoints]
            self.members, self.version = tuple((each.address, each.port_value) for each in found), response.version_info
        self.ask(error)


def test_a_cluster_is_told_at_once_and_whenever_it_changes() -> None:
    discovery = EndpointDiscovery()
    envoy = Envoy(discovery)
    for members in ((A, C), (A,)):
        discovery.tell({"pool": members, "other": (B,)})
        envoy.read()
        assert envoy.members == members
    discovery.tell({"pool": (A,)})
    assert not envoy.unread


def test_a_cluster_that_nothing_is_known_of_is_answered_when_there_is_something_to_say() -> None:
    discovery = EndpointDiscovery()
    envoy = Envoy(discovery)
    assert not envoy.unread
    discovery.tell({"pool": ()})
    envoy.read()
    assert envoy.members == ()


def test_an_envoy_that_is_slow_gets_the_newest_state_only() -> None:
    discovery = EndpointDiscovery()
    discovery.tell({"pool": (A,)})
    envoy = Envoy(discovery)
    for members in ((A, B), (B,), (B, C)):
        discovery.tell({"pool": members})
    assert len(envoy.unread) == 1
    envoy.read()
    assert len(envoy.unread) == 1
    envoy.read()
    assert envoy.members == (B, C)
    assert not envoy.unread


def test_what_envoy_had_before_the_picker_started_again_is_not_told_twice() -> None:
    before, after = EndpointDiscovery(), EndpointDiscovery()
    before.tell({"pool": (A, B)})
    first = Envoy(before)
    first.read()
    after.tell({"pool": (A, B)})
    again = Envoy(after, version=first.version)
    assert not again.unread
    after.tell({"pool": (A,)})
    again.read()
    assert again.members == (A,)


def test_what_envoy_rejects_is_counted_said_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    discovery = EndpointDiscovery()
    discovery.tell({"pool": (("not an address", 1),)})
    envoy = Envoy(discovery)
    envoy.read(error="malformed IP address")
    assert not envoy.unread
    assert (discovery.sent, discovery.rejected) == (1, 1)
    assert "keeps the last good ones" in caplog.text
    discovery.tell({"pool": (A,)})
    envoy.read()
    assert envoy.members == (A,)


def test_a_stream_that_is_over_is_told_nothing() -> None:
    discovery = EndpointDiscovery()
    discovery.tell({"pool": (A,)})
    envoy = Envoy(discovery)
    envoy.handler.on_closed()
    discovery.tell({"pool": (B,)})
    assert len(envoy.unread) == 1
    half = Envoy(discovery)
    half.handler.on_half_close()
    assert half.ended is Status.OK


def test_nonsense_ends_its_own_stream_only() -> None:
    discovery = EndpointDiscovery()
    discovery.tell({"pool": (A,)})
    good, bad = Envoy(discovery), Envoy(discovery)
    bad.handler.on_message(b"\xff\xff\xff")
    bad.handler.on_message(b"")
    assert bad.ended is Status.INVALID_ARGUMENT
    good.read()
    assert good.members == (A,)


def test_a_cluster_that_is_forgotten_and_comes_back_is_told_again() -> None:
    discovery = EndpointDiscovery()
    discovery.tell({"pool": (A,)})
    discovery.forget(["pool", "unknown"])
    envoy = Envoy(discovery)
    assert not envoy.unread
    discovery.tell({"pool": (B,)})
    envoy.read()
    assert envoy.members == (B,)


MOVES = st.one_of(
    st.tuples(st.just("tell"), st.lists(st.sampled_from([A, B, C]), unique=True).map(tuple)),
    st.tuples(st.sampled_from(["read", "refuse", "reconnect", "restart"]), st.just(())),
)


@given(st.lists(MOVES, max_size=40))
def test_after_any_history_envoy_has_what_was_told_last(moves: list[tuple[str, Members]]) -> None:
    """Seen to fail with an answer for ever on its way, and with a changed cluster taken for the old one."""
    discovery = EndpointDiscovery()
    told: Members = (A,)
    discovery.tell({"pool": told})
    envoy, refused = Envoy(discovery), None
    for move, members in moves:
        if move == "tell":
            told = members
            discovery.tell({"pool": told})
        elif move == "restart":
            discovery = EndpointDiscovery()
            discovery.tell({"pool": told})
        if move in ("restart", "reconnect"):
            fresh = Envoy(discovery, version=envoy.version)
            fresh.members, envoy = envoy.members, fresh
        elif move == "read" and envoy.unread:
            envoy.read()
        elif move == "refuse" and envoy.unread:
            refused = envoy.unread[0].version_info
            envoy.read("no")
        assert len(envoy.unread) <= 1
    while envoy.unread:
        envoy.read()
    newest = discovery.assignment("pool")
    assert newest is not None
    assert envoy.members == told or refused == newest.version
