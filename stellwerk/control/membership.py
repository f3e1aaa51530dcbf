"""Which endpoints a pool has: the ModelServers its selector matches, times their addresses, times their ports."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import cast

from msgspec import Struct

from stellwerk.control.address import literal
from stellwerk.control.finding import nearest
from stellwerk.control.intake import Item
from stellwerk.control.kinds import InferencePool, ModelServer, OldInferencePool, Pool, SelectedPool
from stellwerk.control.remark import Remark
from stellwerk.model.endpoint import Endpoint
from stellwerk.model.engines import DEFAULT_ENGINES, EngineRule

Addresses = Mapping[str, tuple[str, ...]]
"""DNS name, as the object writes it, to literal addresses. A missing name has not been resolved."""


ACTIVE_PORTS = ("llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports")
"""Annotations of a server: which of the pool's ports it serves on, separated by commas. The newer name counts."""

_PORT = re.compile(r"\s*[0-9]{1,5}\s*")

MAX_COMPARED = 500
"""Servers whose labels are looked at for a hint."""


class Selected(Struct, frozen=True):
    """The endpoints of one pool, in a fixed order, and the servers they come from."""

    endpoints: tuple[Endpoint, ...]
    servers: tuple[Item, ...]
    remarks: tuple[Remark, ...]


def selector_of(pool: Pool) -> Mapping[str, str]:
    """The labels that a server of `pool` must have."""
    return pool.spec.selector.match_labels if isinstance(pool, InferencePool) else pool.spec.selector


def ports_of(pool: Pool) -> tuple[int, ...]:
    """The ports of servers that name none themselves."""
    if isinstance(pool, OldInferencePool):
        return (pool.spec.target_port_number,)
    return tuple(port.number for port in pool.spec.target_ports)


def members(
    item: Item,
    pool: Pool,
    servers: Sequence[tuple[Item, ModelServer]],
    addresses: Addresses,
    engines: EngineRule = DEFAULT_ENGINES,
) -> Selected:
    """What `pool` selects out of `servers`, which are sorted by age. Of two servers with one address the older counts:
    the proxy reports who answered by address."""
    wanted, ports = selector_of(pool), ports_of(pool)
    remarks: list[Remark] = []
    found: dict[str, Endpoint] = {}
    selected: list[Item] = []
    namespace = pool.metadata.namespace
    for server_item, server in servers:
        is_member = isinstance(pool, SelectedPool) or _matches(wanted, server)
        if server.metadata.namespace != namespace or not is_member:
            continue
        selected.append(server_item)
        is_lasting = server_item.origin.document is None and literal(server.spec.address) is not None
        made = _lasting(server_item, ports, engines) if is_lasting else endpoints_of(server, ports, addresses, engines)
        for endpoint in made:
            first = found.setdefault(endpoint.address, endpoint)
            if first is not endpoint:
                message = f"{endpoint.address} is the address of ModelServer {first.server} too: only that one is used"
                remarks.append(Remark(server_item, ("spec", "address"), message))
    if not selected:
        text = f'pool "{pool.shown_name}" selects no ModelServer: {_why_none(pool, wanted, servers)}'
        remarks.append(Remark(item, ("spec", "selector"), text))
    ordered = sorted(found.values(), key=lambda endpoint: (endpoint.server, endpoint.host, endpoint.rank))
    return Selected(tuple(ordered), tuple(selected), tuple(remarks))


@lru_cache(maxsize=16_384)
def _lasting(item: Item, pool_ports: tuple[int, ...], engines: EngineRule) -> tuple[Endpoint, ...]:
    """The endpoints of an object that an API server sent, remembered while that object stays the same: of thousands of
    servers few change at a time, and endpoints that are identical are equal at no cost."""
    return tuple(endpoints_of(cast(ModelServer, item.object), pool_ports, {}, engines))


def endpoints_of(
    server: ModelServer, pool_ports: tuple[int, ...], addresses: Addresses, engines: EngineRule
) -> Iterator[Endpoint]:
    """One endpoint per address and port. Behind a DNS name every address is a server of its own, and named by it."""
    written = server.spec.address
    own = literal(written)
    active = active_ports(server)
    metadata = server.metadata
    full_name = server.full_name
    engine = (server.spec.engine or engines.of(metadata.labels)).value
    for host in (own,) if own is not None else addresses.get(written, ()):
        suffix = "" if own is not None else f"@[{host}]" if ":" in host else f"@{host}"
        for rank, port in enumerate(server.spec.ports or pool_ports):
            if active is not None and port not in active:
                continue
            yield Endpoint(
                key=f"{full_name}{suffix}:{port}",
                server=f"{metadata.name}{suffix}",
                namespace=metadata.namespace,
                host=host,
                port=port,
                engine=engine,
                labels=metadata.labels,
                uid=_uid(server, host, engine),
                rank=rank,
            )


def active_ports(server: ModelServer) -> frozenset[int] | None:
    """The ports that the server's annotation names; None: it names none, all are in use. What is no number counts as
    nothing, so that a server that says `none` has no endpoint."""
    annotations = server.metadata.annotations
    for name in ACTIVE_PORTS if annotations else ():
        if name in annotations:
            return frozenset(int(part) for part in annotations[name].split(",") if _PORT.fullmatch(part))
    return None


def _uid(server: ModelServer, host: str, engine: str) -> str:
    """The object's own, else one that changes with what makes it another server."""
    if server.metadata.uid:
        return f"{server.metadata.uid}@{host}"
    identity = "\n".join((server.full_name, host, engine))
    return blake2b(identity.encode(), digest_size=8).hexdigest()


def _matches(wanted: Mapping[str, str], server: ModelServer) -> bool:
    """An empty selector selects nothing, as that of a Service."""
    return bool(wanted) and wanted.items() <= server.metadata.labels.items()


def _why_none(pool: Pool, wanted: Mapping[str, str], servers: Iterable[tuple[Item, ModelServer]]) -> str:
    """The end of the remark on an empty pool: what is nearest to what it wants."""
    if isinstance(pool, SelectedPool):
        return f"no Pod that is ready matches {pool.expression}"
    if not wanted:
        return "its selector is empty"
    text = ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))
    here = [server for _, server in servers if server.metadata.namespace == pool.metadata.namespace]
    elsewhere = [server for _, server in servers if server.metadata.namespace != pool.metadata.namespace]
    for server in elsewhere:
        if _matches(wanted, server):
            return f"{server.full_name} has the labels {text}, but a pool selects in its own namespace only"
    if not here:
        return f"there is none in namespace {pool.metadata.namespace}"
    close = _nearest_labels(wanted, here)
    return f"no object has the labels {text}" + (f" (nearest: {close})" if close else "")


def _nearest_labels(wanted: Mapping[str, str], servers: Sequence[ModelServer]) -> str | None:
    """The labels of the server that is closest to `wanted`, as far as they speak about the same keys."""
    existing = {f"{key}={value}" for server in servers[:MAX_COMPARED] for key, value in server.metadata.labels.items()}
    missing = [f"{key}={value}" for key, value in sorted(wanted.items()) if f"{key}={value}" not in existing]
    if not missing:
        most = max(servers, key=lambda server: (len(wanted.items() & server.metadata.labels.items()), server.full_name))
        return ",".join(f"{key}={value}" for key, value in sorted(most.metadata.labels.items()))
    close = [found for label in missing if (found := nearest(label, sorted(existing)))]
    return ",".join(dict.fromkeys(close)) or None
