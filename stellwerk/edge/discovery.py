"""What our Envoy asks the picker for and is told as it changes: who is in a cluster (EDS), certificates (SDS).

A stream asks for one resource. It has one answer on its way at most; what changes meanwhile goes out, as its newest
state, with Envoy's answer to that. A resource's version is a digest of it, so that an Envoy that had it before the
picker was started again is not told twice. Of what nothing was said yet there is no answer: Envoy keeps what it has.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from envoy.config.core.v3.health_check_pb2 import HealthStatus
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.protobuf.message import DecodeError
from msgspec import Struct

from stellwerk.edge.grpc.service import Call
from stellwerk.edge.grpc.status import Status
from stellwerk.model.members import Members

ENDPOINTS_PATH = "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints"
SECRETS_PATH = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
PATHS = frozenset({ENDPOINTS_PATH, SECRETS_PATH})

Pair = tuple[bytes, bytes]
"""A certificate chain and its key, in PEM."""

_ALL_TO_THE_HEALTHY = 100 * 1000
"""Percent: one healthy member of a thousand takes everything."""
T = TypeVar("T")
_log = logging.getLogger("stellwerk.envoy")


class _Resource(Struct, Generic[T], frozen=True):
    """What is said of one name. `response` is the serialised DiscoveryResponse; its nonce is its version."""

    content: T
    version: str
    response: bytes


class Discovery(Generic[T]):
    """The service of one type of resource, and the owner of what Envoy shall know of it.

    `encode` makes the serialised message of type `type` from a name and a content.
    """

    def __init__(self, type: str, encode: Callable[[str, T], bytes]) -> None:
        self.sent = 0
        """Answers to Envoy."""
        self.rejected = 0
        """Of these, how many it did not take."""
        self._type = f"type.googleapis.com/{type}"
        self._encode = encode
        self._resources: dict[str, _Resource[T]] = {}
        self._followers: defaultdict[str, set[_Conversation[T]]] = defaultdict(set)

    def __call__(self, call: Call) -> "_Conversation[T]":
        return _Conversation(self, call)

    def tell(self, contents: Mapping[str, T]) -> None:
        """From here on these hold; what was said of other names stays."""
        for name, content in contents.items():
            known = self._resources.get(name)
            if known is None or known.content != content:
                self._resources[name] = self._made(name, content)
                for follower in self._followers.get(name, ()):
                    follower.catch_up()

    def forget(self, names: Iterable[str]) -> None:
        """Envoy does not have these any more."""
        for name in names:
            self._resources.pop(name, None)

    def keep(self, names: Iterable[str]) -> None:
        """Forget all others."""
        self.forget(self._resources.keys() - set(names))

    def resource(self, name: str) -> _Resource[T] | None:
        """What there is to say; None: nothing yet."""
        return self._resources.get(name)

    def follow(self, names: Iterable[str], follower: "_Conversation[T]") -> None:
        """Tell `follower` when one of these changes."""
        for name in names:
            self._followers[name].add(follower)

    def unfollow(self, names: Iterable[str], follower: "_Conversation[T]") -> None:
        """The stream is over, or asks for others."""
        for name in names:
            self._followers[name].discard(follower)
            if not self._followers[name]:
                del self._followers[name]

    def _made(self, name: str, content: T) -> _Resource[T]:
        encoded = self._encode(name, content)
        version = hashlib.sha256(encoded).hexdigest()[:16]
        response = DiscoveryResponse(version_info=version, type_url=self._type, nonce=version)
        response.resources.add(type_url=self._type, value=encoded)
        return _Resource(content, version, response.SerializeToString())


def endpoints() -> Discovery[Members]:
    """By name of the cluster."""
    return Discovery("envoy.config.endpoint.v3.ClusterLoadAssignment", _assignment)


def secrets() -> Discovery[Pair]:
    """By name of the Secret."""
    return Discovery("envoy.extensions.transport_sockets.tls.v3.Secret", _secret)


def _assignment(cluster: str, members: Members) -> bytes:
    """Those that leave are degraded: Envoy asks them only where nobody else can take it, which is what the factor is
    for; with Envoy's own, 1.4, half of the healthy ones would have to be there."""
    assignment = ClusterLoadAssignment(cluster_name=cluster)
    assignment.policy.overprovisioning_factor.value = _ALL_TO_THE_HEALTHY
    listed = assignment.endpoints.add().lb_endpoints
    for addresses, status in ((members.ready, HealthStatus.UNKNOWN), (members.leaving, HealthStatus.DEGRADED)):
        for host, port in addresses:
            made = listed.add(health_status=status)
            address = made.endpoint.address.socket_address
            address.address, address.port_value = host, port
    encoded: bytes = assignment.SerializeToString(deterministic=True)
    return encoded


def _secret(name: str, pair: Pair) -> bytes:
    made = Secret(name=name)
    made.tls_certificate.certificate_chain.inline_bytes, made.tls_certificate.private_key.inline_bytes = pair
    encoded: bytes = made.SerializeToString(deterministic=True)
    return encoded


class _Conversation(Generic[T]):
    """One stream of Envoy's. It asks for one name, in practice."""

    def __init__(self, discovery: Discovery[T], call: Call) -> None:
        self._discovery, self._call = discovery, call
        self._names: tuple[str, ...] = ()
        self._versions: dict[str, str] = {}
        """What Envoy was told last, by name; taken or not, it need not be told again."""
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
        names = tuple(request.resource_names)
        if names != self._names:
            self._discovery.unfollow(self._names, self)
            self._names = names
            self._discovery.follow(names, self)
        if not request.response_nonce and request.version_info:
            # A new stream of an Envoy that was told before.
            self._versions = dict.fromkeys(names, request.version_info)
        if request.HasField("error_detail"):
            self._discovery.rejected += 1
            reason = request.error_detail.message
            fields = {"names": ", ".join(names), "reason": reason[:500]}
            _log.error("Envoy rejected an update and keeps the last good one", extra={"fields": fields})
        if self._unanswered is None or request.response_nonce == self._unanswered:
            self._unanswered = None
            self.catch_up()

    def catch_up(self) -> None:
        """Say the first thing that Envoy does not know, unless it has not answered yet."""
        for name in self._names:
            resource = self._discovery.resource(name)
            if self._unanswered is None and resource is not None and self._versions.get(name) != resource.version:
                self._versions[name] = self._unanswered = resource.version
                self._discovery.sent += 1
                self._call.send(resource.response)

    def on_half_close(self) -> None:
        """Envoy goes away."""
        if not self._is_over:
            self._is_over = True
            self._call.finish()

    def on_closed(self) -> None:
        """The stream is over."""
        self._is_over = True
        self._discovery.unfollow(self._names, self)
        self._names = ()
