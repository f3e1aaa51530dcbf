"""Endpoints and certificates as Envoy asks for them: one stream per name, one answer on its way at most."""

from typing import Any

import pytest
from envoy.config.core.v3.health_check_pb2 import HealthStatus
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.edge.discovery import Discovery, endpoints, secrets
from stellwerk.edge.grpc.status import Status
from stellwerk.model.members import Members

TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
UNKNOWN, DEGRADED = HealthStatus.UNKNOWN, HealthStatus.DEGRADED
A, B, C = ("10.0.0.1", 8000), ("10.0.0.2", 8000), ("fd00::3", 8001)


class Envoy:
    """One stream, from Envoy's side. `members` is what it has taken."""

    path = ""
    metadata = ()
    unsent_bytes = 0

    def __init__(self, discovery: Discovery[Members], cluster: str = "pool", version: str = "") -> None:
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
            listed: dict[int, list[tuple[str, int]]] = {UNKNOWN: [], DEGRADED: []}
            for each in assignment.endpoints[0].lb_endpoints:
                address = each.endpoint.address.socket_address
                listed[each.health_status].append((address.address, address.port_value))
            self.members = Members(tuple(listed[UNKNOWN]), tuple(listed[DEGRADED]))
            self.version = response.version_info
        self.ask(error)


def test_a_cluster_is_told_at_once_and_whenever_it_changes() -> None:
    discovery = endpoints()
    envoy = Envoy(discovery)
    for members in (Members((A, C)), Members((A,), (C,)), Members((), (C,))):
        discovery.tell({"pool": members, "other": Members((B,))})
        envoy.read()
        assert envoy.members == members
    discovery.tell({"pool": members})
    assert not envoy.unread


def test_a_cluster_that_nothing_is_known_of_is_answered_when_there_is_something_to_say() -> None:
    discovery = endpoints()
    envoy = Envoy(discovery)
    assert not envoy.unread
    discovery.tell({"pool": Members(())})
    envoy.read()
    assert envoy.members == Members(())


def test_an_envoy_that_is_slow_gets_the_newest_state_only() -> None:
    discovery = endpoints()
    discovery.tell({"pool": Members((A,))})
    envoy = Envoy(discovery)
    for members in (Members((A, B)), Members((B,)), Members((B, C))):
        discovery.tell({"pool": members})
    assert len(envoy.unread) == 1
    envoy.read()
    assert len(envoy.unread) == 1
    envoy.read()
    assert envoy.members == Members((B, C))
    assert not envoy.unread


def test_what_envoy_had_before_the_picker_started_again_is_not_told_twice() -> None:
    before, after = endpoints(), endpoints()
    before.tell({"pool": Members((A, B))})
    first = Envoy(before)
    first.read()
    after.tell({"pool": Members((A, B))})
    again = Envoy(after, version=first.version)
    assert not again.unread
    after.tell({"pool": Members((A,))})
    again.read()
    assert again.members == Members((A,))


def test_what_envoy_rejects_is_counted_said_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    discovery = endpoints()
    discovery.tell({"pool": Members((("not an address", 1),))})
    envoy = Envoy(discovery)
    envoy.read(error="malformed IP address")
    assert not envoy.unread
    assert (discovery.sent, discovery.rejected) == (1, 1)
    assert "keeps the last good one" in caplog.text
    discovery.tell({"pool": Members((A,))})
    envoy.read()
    assert envoy.members == Members((A,))


def test_a_stream_that_is_over_is_told_nothing() -> None:
    discovery = endpoints()
    discovery.tell({"pool": Members((A,))})
    envoy = Envoy(discovery)
    envoy.handler.on_closed()
    discovery.tell({"pool": Members((B,))})
    assert len(envoy.unread) == 1
    half = Envoy(discovery)
    half.handler.on_half_close()
    assert half.ended is Status.OK


def test_nonsense_ends_its_own_stream_only() -> None:
    discovery = endpoints()
    discovery.tell({"pool": Members((A,))})
    good, bad = Envoy(discovery), Envoy(discovery)
    bad.handler.on_message(b"\xff\xff\xff")
    bad.handler.on_message(b"")
    assert bad.ended is Status.INVALID_ARGUMENT
    good.read()
    assert good.members == Members((A,))


def test_a_cluster_that_is_forgotten_and_comes_back_is_told_again() -> None:
    discovery = endpoints()
    discovery.tell({"pool": Members((A,))})
    discovery.forget(["pool", "unknown"])
    envoy = Envoy(discovery)
    assert not envoy.unread
    discovery.tell({"pool": Members((B,))})
    envoy.read()
    assert envoy.members == Members((B,))


def test_a_certificate_is_told_as_envoy_reads_it() -> None:
    discovery, sent = secrets(), list[Any]()

    class Call(Envoy):
        def send(self, *messages: bytes) -> None:
            sent.extend(map(DiscoveryResponse.FromString, messages))

    discovery.tell({"default/cert": (b"chain", b"key")})
    Call(discovery, "default/cert")  # type: ignore[arg-type]
    (resource,) = sent[0].resources
    found = Secret.FromString(resource.value)
    assert resource.type_url.endswith("envoy.extensions.transport_sockets.tls.v3.Secret")
    assert found.name == "default/cert"
    assert found.tls_certificate.certificate_chain.inline_bytes == b"chain"
    assert found.tls_certificate.private_key.inline_bytes == b"key"
    discovery.keep(["default/other"])
    assert discovery.resource("default/cert") is None


MOVES = st.one_of(
    st.tuples(
        st.just("tell"), st.lists(st.sampled_from([A, B, C]), unique=True).map(lambda each: Members(tuple(each)))
    ),
    st.tuples(st.sampled_from(["read", "refuse", "reconnect", "restart"]), st.just(Members())),
)


@given(st.lists(MOVES, max_size=40))
def test_after_any_history_envoy_has_what_was_told_last(moves: list[tuple[str, Members]]) -> None:
    """Seen to fail with an answer for ever on its way, and with a changed cluster taken for the old one."""
    discovery = endpoints()
    told = Members((A,))
    discovery.tell({"pool": told})
    envoy, refused = Envoy(discovery), None
    for move, members in moves:
        if move == "tell":
            told = members
            discovery.tell({"pool": told})
        elif move == "restart":
            discovery = endpoints()
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
    newest = discovery.resource("pool")
    assert newest is not None
    assert envoy.members == told or refused == newest.version
