"""`grpc.health.v1.Health`: is this service serving? Its messages are small enough to read and write by hand."""

from collections.abc import Iterator, Mapping
from typing import Final

from stellwerk.edge.grpc.service import Call, Handler, Service
from stellwerk.edge.grpc.status import GrpcError, Status

CHECK: Final = "/grpc.health.v1.Health/Check"
WATCH: Final = "/grpc.health.v1.Health/Watch"
LIST: Final = "/grpc.health.v1.Health/List"

_SERVING: Final = b"\x08\x01"
"""HealthCheckResponse{status: SERVING}, field 1 as a varint."""
_NOT_SERVING: Final = b"\x08\x02"
_SERVICE_UNKNOWN: Final = b"\x08\x03"
_MAX_NAME_BYTES: Final = 256
_MAX_UNSENT_BYTES: Final = 4096


class Health:
    """What this process says about its services. The empty name is the server as a whole."""

    def __init__(self) -> None:
        self._states: dict[str, bytes] = {}
        self._watchers: dict[str, set[Call]] = {}

    def set(self, service: str, is_serving: bool) -> None:
        """State whether `service` (`package.Service`, or empty) is serving; watchers are told when that is news."""
        state = _SERVING if is_serving else _NOT_SERVING
        if self._states.get(service) == state:
            return
        self._states[service] = state
        for call in tuple(self._watchers.get(service, ())):
            if call.unsent_bytes > _MAX_UNSENT_BYTES:
                call.finish(Status.RESOURCE_EXHAUSTED, "the watcher does not read")
            else:
                call.send(state)

    def services(self) -> Mapping[str, Service]:
        """The methods by their paths, for `GrpcServer`."""
        return {CHECK: self._check, WATCH: self._watch, LIST: self._list}

    def _check(self, call: Call) -> Handler:
        return _Check(self, call)

    def _watch(self, call: Call) -> Handler:
        return _Watch(self, call)

    def _list(self, call: Call) -> Handler:
        return _List(self, call)

    def state(self, service: str) -> bytes | None:
        """HealthCheckResponse of a service; None when nothing was ever said about it."""
        return self._states.get(service)

    def states(self) -> bytes:
        """HealthListResponse: a map, field 1, from the name of each service to its HealthCheckResponse."""
        return b"".join(
            _sized(b"\x0a", _sized(b"\x0a", name.encode()) + _sized(b"\x12", state))
            for name, state in self._states.items()
        )

    def follow(self, service: str, call: Call) -> None:
        """Tell `call` the state now and whenever it changes."""
        self._watchers.setdefault(service, set()).add(call)
        call.send(self._states.get(service, _SERVICE_UNKNOWN))

    def unfollow(self, service: str, call: Call) -> None:
        """The call is over."""
        watchers = self._watchers.get(service)
        if watchers is not None:
            watchers.discard(call)
            if not watchers:
                del self._watchers[service]


class _Check:
    """One Check."""

    def __init__(self, health: Health, call: Call) -> None:
        self._health = health
        self._call = call

    def on_message(self, message: bytes) -> None:
        state = self._health.state(_service_name(message))
        if state is None:
            raise GrpcError(Status.NOT_FOUND, "unknown service")
        self._call.send(state)
        self._call.finish()

    def on_half_close(self) -> None:
        raise GrpcError(Status.INTERNAL, "Check takes one request")

    def on_closed(self) -> None:
        pass


class _List:
    """One List."""

    def __init__(self, health: Health, call: Call) -> None:
        self._health = health
        self._call = call

    def on_message(self, message: bytes) -> None:
        for _ in _fields(message):
            pass
        self._call.send(self._health.states())
        self._call.finish()

    def on_half_close(self) -> None:
        raise GrpcError(Status.INTERNAL, "List takes one request")

    def on_closed(self) -> None:
        pass


class _Watch:
    """One Watch; lasts until the peer ends it."""

    def __init__(self, health: Health, call: Call) -> None:
        self._health = health
        self._call = call
        self._name: str | None = None

    def on_message(self, message: bytes) -> None:
        if self._name is not None:
            raise GrpcError(Status.INVALID_ARGUMENT, "Watch takes one request")
        name = _service_name(message)
        self._name = name
        self._health.follow(name, self._call)

    def on_half_close(self) -> None:
        if self._name is None:
            raise GrpcError(Status.INTERNAL, "Watch takes one request")

    def on_closed(self) -> None:
        if self._name is not None:
            self._health.unfollow(self._name, self._call)


def _service_name(message: bytes) -> str:
    """`HealthCheckRequest.service`, field 1; unknown fields are skipped, the last occurrence counts, as in protobuf."""
    name = b""
    for field, wire, value in _fields(message):
        if field == 1 and wire == 2:
            name = value
    if len(name) > _MAX_NAME_BYTES:
        raise GrpcError(Status.INVALID_ARGUMENT, f"a service name takes at most {_MAX_NAME_BYTES} bytes")
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise _unreadable() from None


def _fields(message: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, wire type and bytes of each field."""
    pos = 0
    while pos < len(message):
        tag, pos = _varint(message, pos)
        field, wire = tag >> 3, tag & 7
        start = pos
        if wire == 0:
            _, pos = _varint(message, pos)
        elif wire == 1:
            pos += 8
        elif wire == 2:
            size, start = _varint(message, pos)
            pos = start + size
        elif wire == 5:
            pos += 4
        else:
            raise _unreadable()
        if pos > len(message) or field == 0:
            raise _unreadable()
        yield field, wire, message[start:pos]


def _sized(tag: bytes, value: bytes) -> bytes:
    """A field of wire type 2."""
    size = len(value)
    encoded = bytearray(tag)
    while size >= 0x80:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded) + value


def _varint(message: bytes, pos: int) -> tuple[int, int]:
    """A number and where the rest begins."""
    number = 0
    for shift in range(0, 70, 7):
        if pos >= len(message):
            break
        byte = message[pos]
        pos += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, pos
    raise _unreadable()


def _unreadable() -> GrpcError:
    return GrpcError(Status.INVALID_ARGUMENT, "not a request of this method")
