"""What the engine says about itself: for the admin API, metrics and the log.

JSON-ready; infinite and unknown are None.
"""

from msgspec import Struct


class EndpointView(Struct, frozen=True, gc=False):
    """One endpoint of a pool."""

    key: str
    address: str
    engine: str
    health: str
    health_reason: str
    waiting: float | None
    running: float | None
    kv_use: float | None
    age_seconds: float | None
    """Of the three values above; None: no page was ever read."""
    requests: int
    """In flight through this gateway."""
    tokens: int
    models: tuple[str, ...] | None
    """As its `/v1/models` lists them; None: not read yet."""
    running_adapters: tuple[str, ...] = ()
    waiting_adapters: tuple[str, ...] = ()
    prefix_blocks: int = 0
    implausible: tuple[str, ...] = ()
    """Metric families of its page whose value could not be true."""


class PoolView(Struct, frozen=True, gc=False):
    """One pool."""

    name: str
    endpoints: tuple[EndpointView, ...]
    saturation: float
    saturation_cause: str


class PoolsView(Struct, frozen=True, gc=False):
    """Everything."""

    generation: int
    pools: tuple[PoolView, ...]
    prefix_index_bytes: int = 0
    prefix_index_blocks: int = 0
    prefix_index_max_bytes: int = 0
    waiting_requests: int = 0
    is_draining: bool = False
    unknown_ticket_count: int = 0
    """Events for exchanges that are not known (any more)."""
    unreported_count: int = 0
    """Exchanges on which no report came in time."""
