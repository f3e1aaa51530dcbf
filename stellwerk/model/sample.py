"""One reading of a server's metrics page, engine-neutral. None: the page did not say, or said something implausible."""

from msgspec import Struct


class Sample(Struct, frozen=True, gc=False):
    """Values are checked (finite, within range) where the page is parsed; `implausible` counts those left out."""

    waiting: float | None = None
    """Requests queued in the server, >= 0."""
    running: float | None = None
    """Requests being computed, >= 0."""
    kv_use: float | None = None
    """Share of KV cache blocks in use, 0..1."""
    running_adapters: frozenset[str] = frozenset()
    waiting_adapters: frozenset[str] = frozenset()
    max_adapters: int | None = None
    block_size_tokens: int | None = None
    block_count: int | None = None
    started_at: float | None = None
    """Unix time of the server process's start, if the page tells: a change means its caches are empty."""
    progress: float | None = None
    """A counter that grows whenever the engine works (prompt plus generated tokens): it falling means a restart, and
    it standing still while requests run means a wedged engine."""
    prefix_queries: float | None = None
    prefix_hits: float | None = None
    implausible: tuple[str, ...] = ()
    """Names of families whose value was dropped."""
