"""What is read out of a `ProcessingRequest`: headers as a plain mapping, the subset hint, the endpoint that served."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stellwerk.exchange.command import Mode
from stellwerk.exchange.head import Head
from stellwerk.exchange.request_head import addresses

MODES = {0: Mode.NONE, 1: Mode.STREAMED, 2: Mode.BUFFERED, 3: Mode.BUFFERED_PARTIAL, 4: Mode.DUPLEX}
"""By the number in `protocol_config`. Others (GRPC, and those to come) are not supported."""

_SUBSET = ("envoy.lb.subset_hint", "x-gateway-destination-endpoint-subset")
_SERVED = ("envoy.lb", "x-gateway-destination-endpoint-served")
_POOL = b"x-stellwerk-pool"
_MAX_ID_BYTES = 256
_MAX_ADDRESS_BYTES = 64


def header_map(headers: Iterable[Any]) -> dict[str, str]:
    """Lower-case names to Latin-1 values; of a repeated header the first value counts. Envoy fills `raw_value`, other
    proxies may fill `value`."""
    found: dict[str, str] = {}
    for header in headers:
        name = header.key.lower()
        if name not in found:
            raw = header.raw_value
            found[name] = raw.decode("latin-1") if raw else header.value.encode().decode("latin-1")
    return found


def head(headers: Mapping[str, str], make_id: Callable[[], str], now: float) -> Head:
    """The head of a request. The client's request id is kept if it is short and printable; nothing is keyed by it."""
    request_id = headers.get("x-request-id", "")
    if not request_id or len(request_id) > _MAX_ID_BYTES or not (request_id.isascii() and request_id.isprintable()):
        request_id = make_id()
    return Head(headers.get(":method", ""), headers.get(":path", ""), headers, request_id, now)


def subset(filter_metadata: Any) -> tuple[str, ...] | None:
    """The proxy's subset hint: a list of strings, or one string with commas. None: there is none. A hint of another
    type names nobody: it must not open the whole pool."""
    value = _find(filter_metadata, *_SUBSET)
    if value is None:
        return None
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return addresses(value.string_value)
    if kind == "list_value":
        return tuple(address for item in value.list_value.values if (address := item.string_value.strip()))
    return ()


def pool(metadata: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The pool (`namespace/name`) that the proxy's route has chosen, from the metadata of the call."""
    for name, value in metadata:
        if name == _POOL:
            return value.decode("latin-1")
    return None


def served(filter_metadata: Any) -> str | None:
    """The endpoint that the proxy says has answered."""
    value = _find(filter_metadata, *_SERVED)
    if value is None:
        return None
    address: str = value.string_value
    return address if 0 < len(address) <= _MAX_ADDRESS_BYTES and address.isascii() and address.isprintable() else None


def _find(filter_metadata: Any, namespace: str, key: str) -> Any:
    if namespace not in filter_metadata:
        return None
    fields = filter_metadata[namespace].fields
    if key not in fields:
        return None
    return fields[key]
