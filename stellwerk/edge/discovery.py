"""Who is in each cluster, told to our Envoy as it changes: EndpointDiscoveryService, one stream per cluster.

Each stream has one answer on its way at most; what changes meanwhile goes out, as its newest state, with Envoy's answer
to that. An assignment's version is a digest of it, so that an Envoy that had it before the picker was started again is
not told twice. A cluster that nothing was said about yet is not answered: Envoy keeps what it has.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping

from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.protobuf.message import DecodeError
from msgspec import Struct

from stellwerk.edge.grpc.service import Call
from stellwerk.edge.grpc.status import Status

PATH = "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints"

Members = tuple[tuple[str, int], ...]
"""IP address and port, each once."""

_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
_log = logging.getLogger("stellwerk.envoy")


class _Assignment(Struct, frozen=True):
    """What is said of one cluster. `response` is the serialised DiscoveryResponse; its nonce is its version."""

    members: Members
    version: str
    response: bytes

    @staticmethod
    def of(cluster: str, members: Members) -> "_Assignment":
        assignment = ClusterLoadAssignment(cluster_name=cluster)
        endpoints = assignment.endpoints.add().lb_endpoints
        for host, port in members:
            address = endpoints.add().endpoint.address.socket_address
            address.address, address.port_value = host, port
        content = assignment.SerializeToString(deterministic=True)
        version = hashlib.sha256(content).hexdigest()[:16]
        response = DiscoveryResponse(version_info=version, type_url=_TYPE, nonce=version)
        response.resources.add(type_url=_TYPE, value=content)
        return _Assignment(members, version, response.SerializeToString())


class EndpointDiscovery:
    """The service, and the owner of what Envoy shall know."""

    def __init__(self) -> None:
        self.sent = 0
        """Answers to Envoy."""
        self.rejected = 0
        """Of these, how many it did not take."""
        self._assignments: dict[str, _Assignment] = {}
        self._followers: defaultdict[str, set[_Conversation]] = defaultdict(set)

    def __call__(self, call: Call) -> "_Conversation":
        return _Conversation(self, call)

    def forget(self, clusters: Iterable[str]) -> None:
        """Envoy does not have these any more."""
        for name in clusters:
            self._assignments.pop(name, None)

    def tell(self, members: Mapping[str, Members]) -> None:
        """From here on these are in the clusters of these names."""
        for name, wanted in members.items():
            known = self._assignments.get(name)
            if known is None or known.members != wanted:
                self._assignments[name] = _Assignment.of(name, wanted)
                for follower in self._followers.get(name, ()):
                    follower.catch_up()

    def assignment(self, cluster: str) -> _Assignment | None:
        """What there is to say of a cluster; None: nothing yet."""
        return self._assignments.get(cluster)

    def follow(self, clusters: Iterable[str], follower: "_Conversation") -> None:
        """Tell `follower` when one of these changes."""
        for name in clusters:
            self._followers[name].add(follower)

    def unfollow(self, clusters: Iterable[str], follower: "_Conversation") -> None:
        """The stream is over, or asks for others."""
        for name in clusters:
            self._followers[name].discard(follower)
            if not self._followers[name]:
                del self._followers[name]


class _Conversation:
    """One stream of Envoy's. It asks for one cluster, in practice."""

    def __init__(self, discovery: EndpointDiscovery, call: Call) -> None:
        self._discovery, self._call = discovery, call
        self._clusters: tuple[str, ...] = ()
        self._versions: dict[str, str] = {}
        """What Envoy was told last, by cluster; taken or not, it need not be told again."""
        self._unanswered: str | None = None
        """Nonce of the answer that is on its way."""
        self._is_over = False

    def on_message(self, message: bytes) -> None:
        """Envoy asks, or says what became of an answer."""
        if self._is_over:
            return
        try:
            request = DiscoveryRequest.FromString(message)
        except DecodeError:
            self._is_over = True
            self._call.finish(Status.INVALID_ARGUMENT, "the message is not a DiscoveryRequest")
            return
        clusters = tuple(request.resource_names)
        if clusters != self._clusters:
            self._discovery.unfollow(self._clusters, self)
            self._clusters = clusters
            self._discovery.follow(clusters, self)
        if not request.response_nonce and request.version_info:
            # A new stream of an Envoy that was told before.
            self._versions = dict.fromkeys(clusters, request.version_info)
        if request.HasField("error_detail"):
            self._discovery.rejected += 1
            reason = request.error_detail.message
            fields = {"pools": ", ".join(clusters), "reason": reason[:500]}
            _log.error("Envoy rejected endpoints and keeps the last good ones", extra={"fields": fields})
        if self._unanswered is None or request.response_nonce == self._unanswered:
            self._unanswered = None
            self.catch_up()

    def catch_up(self) -> None:
        """Say the first thing that Envoy does not know, unless it has not answered yet."""
        for name in self._clusters:
            assignment = self._discovery.assignment(name)
            if self._unanswered is None and assignment is not None and self._versions.get(name) != assignment.version:
                self._versions[name] = self._unanswered = assignment.version
                self._discovery.sent += 1
                self._call.send(assignment.response)

    def on_half_close(self) -> None:
        """Envoy goes away."""
        if not self._is_over:
            self._is_over = True
            self._call.finish()

    def on_closed(self) -> None:
        """The stream is over."""
        self._is_over = True
        self._discovery.unfollow(self._clusters, self)
        self._clusters = ()
