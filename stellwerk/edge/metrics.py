"""The metrics page: the engine's counters, the state of the pools at this moment, and whatever other parts offer.

Made only when asked for, in pieces, so that nothing is paid between two readings and a long page holds up nobody.
Names of pool metrics, like those of `telemetry.meters`, are the reference picker's where it has them.
"""

import os
import platform
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf, sqrt
from pathlib import Path

from stellwerk import __version__
from stellwerk.model.view import EndpointView, PoolsView, PoolView
from stellwerk.telemetry.labels import bounded
from stellwerk.telemetry.meters import INDEX, INDEX_LABELS, Meters
from stellwerk.telemetry.render import Family, counter, gauge, text
from stellwerk.telemetry.twins import twin_of

MAX_ENDPOINT_ROWS = 10_000
"""Endpoints shown one by one; the pools' averages always count all."""

Source = Callable[[], Iterable[Family]]


class MetricsPage:
    """`pieces` writes the page. `describe` is the engine's view of this moment; `sources` are other parts' families."""

    def __init__(self, meters: Meters, describe: Callable[[], PoolsView], sources: Sequence[Source] = ()) -> None:
        self._meters = meters
        self._describe = describe
        self._sources = tuple(sources)

    def pieces(self) -> Iterator[str]:
        """The page as Prometheus text (`telemetry.render.CONTENT_TYPE`)."""
        return text(self._with_twins())

    def _with_twins(self) -> Iterator[Family]:
        for family in self._families():
            yield family
            twin = twin_of(family)
            if twin is not None:
                yield twin

    def _families(self) -> Iterator[Family]:
        yield Family(
            "llm_d_epp_info",
            "gauge",
            "What runs.",
            ("commit", "build_ref"),
            ((("", f"stellwerk-{__version__}"), 1),),
        )
        yield from self._meters.families()
        yield from pool_families(self._describe())
        for source in self._sources:
            yield from source()
        yield from process_families()


def pool_families(view: PoolsView) -> Iterator[Family]:
    """The pools as they are now."""
    pools = [(bounded(pool.name), pool) for pool in view.pools]
    for name, help, value in (
        ("kv_cache_utilization", "share of KV cache blocks in use", lambda endpoint: endpoint.kv_use),
        ("queue_size", "requests waiting in a server", lambda endpoint: endpoint.waiting),
        ("running_requests", "requests running on a server", lambda endpoint: endpoint.running),
    ):
        known = [(label, _known(pool, value)) for label, pool in pools]
        means = tuple(((label,), sum(values) / len(values)) for label, values in known if values)
        average = "average_running_requests" if name == "running_requests" else f"average_{name}"
        yield Family(f"llm_d_epp_{average}", "gauge", f"Mean {help}.", ("name",), means)
        spreads = tuple(((label,), _deviation(values)) for label, values in known if values)
        yield Family(f"llm_d_epp_std_dev_{name}", "gauge", f"Standard deviation of {help}.", ("name",), spreads)
    yield Family(
        "llm_d_epp_ready_endpoints",
        "gauge",
        "Endpoints that may be picked.",
        ("name",),
        tuple(((label,), sum(map(_is_ready, pool.endpoints))) for label, pool in pools),
    )
    yield Family(
        "llm_d_epp_flow_control_pool_saturation",
        "gauge",
        "How full a pool is; 1: it takes no more.",
        ("inference_pool", "stage"),
        tuple(((label, "effective"), pool.saturation) for label, pool in pools),
    )
    yield from _endpoint_families([(label, endpoint) for label, pool in pools for endpoint in pool.endpoints])
    yield from _index_families(view)


def _endpoint_families(rows: list[tuple[str, EndpointView]]) -> Iterator[Family]:
    shown = [(pool, bounded(endpoint.key), endpoint) for pool, endpoint in rows[:MAX_ENDPOINT_ROWS]]
    yield Family(
        "llm_d_epp_per_endpoint_queue_size",
        "gauge",
        "Requests waiting in the server.",
        ("name", "model_server_endpoint"),
        tuple(((pool, key), endpoint.waiting) for pool, key, endpoint in shown if endpoint.waiting is not None),
    )
    yield Family(
        "stellwerk_endpoint_signal_age_seconds",
        "gauge",
        "Since the endpoint's metrics page was last read.",
        ("pool", "endpoint"),
        tuple(((pool, key), endpoint.age_seconds) for pool, key, endpoint in shown if endpoint.age_seconds is not None),
    )
    yield Family(
        "stellwerk_endpoint_health",
        "gauge",
        "1 for the state that the endpoint is in.",
        ("pool", "endpoint", "health"),
        tuple(((pool, key, endpoint.health), 1) for pool, key, endpoint in shown),
    )
    yield Family(
        "stellwerk_endpoint_implausible_signals",
        "gauge",
        "Metric families on the endpoint's page whose value cannot be true.",
        ("pool", "endpoint"),
        tuple(((pool, key), len(endpoint.implausible)) for pool, key, endpoint in shown if endpoint.implausible),
    )
    yield Family(
        "stellwerk_endpoint_inflight_requests",
        "gauge",
        "Requests in flight through this gateway.",
        ("pool", "endpoint"),
        tuple(((pool, key), endpoint.requests) for pool, key, endpoint in shown),
    )
    yield Family(
        "stellwerk_endpoint_inflight_tokens",
        "gauge",
        "Estimated tokens in flight through this gateway.",
        ("pool", "endpoint"),
        tuple(((pool, key), endpoint.tokens) for pool, key, endpoint in shown),
    )


def _index_families(view: PoolsView) -> Iterator[Family]:
    yield Family(
        "llm_d_epp_prefix_indexer_size",
        "gauge",
        "Distinct hashes in the prefix index, over all servers.",
        INDEX_LABELS,
        ((INDEX, view.prefix_index_blocks),),
    )
    yield gauge("stellwerk_prefix_index_bytes", "Memory of the prefix index.", view.prefix_index_bytes)
    yield gauge("stellwerk_prefix_index_max_bytes", "Its upper bound.", view.prefix_index_max_bytes)
    yield gauge("stellwerk_waiting_requests", "Requests waiting in the gateway for a decision.", view.waiting_requests)
    yield gauge("stellwerk_catalog_generation", "Counts the changes of the objects.", view.generation)
    yield gauge("stellwerk_draining", "1 while shutting down.", int(view.is_draining))
    yield counter(
        "stellwerk_unknown_tickets_total", "Events for exchanges not known (any more).", view.unknown_ticket_count
    )
    yield counter(
        "stellwerk_unreported_exchanges_total", "Exchanges whose access log did not come.", view.unreported_count
    )


def process_families() -> Iterator[Family]:
    """This process, under the names that Prometheus clients use."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    yield counter("process_cpu_seconds_total", "CPU time of this process.", usage.ru_utime + usage.ru_stime)
    yield from kernel_families(Path("/proc"))
    yield gauge("stellwerk_process_peak_memory_bytes", "Most memory ever resident.", usage.ru_maxrss * unit)
    yield Family("python_info", "gauge", "The interpreter.", ("version",), (((platform.python_version(),), 1),))


def kernel_families(proc: Path) -> Iterator[Family]:
    """What the kernel tells of this process; most of it stands in /proc (proc(5)), where there is one."""
    try:
        # Fields are counted from what follows the command's name, which may hold anything but its last bracket.
        fields = (proc / "self/stat").read_bytes().rpartition(b") ")[2].split()
        virtual_bytes, resident_pages = int(fields[20]), int(fields[21])
        yield gauge("process_virtual_memory_bytes", "Address space in use.", virtual_bytes)
        yield gauge("process_resident_memory_bytes", "Memory resident.", resident_pages * resource.getpagesize())
        _, found, booted = (proc / "stat").read_bytes().partition(b"\nbtime ")
        if found:
            started = int(booted.split(maxsplit=1)[0]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
            yield gauge("process_start_time_seconds", "When this process began, in Unix time.", started)
        yield gauge("process_open_fds", "File descriptors that are open.", _open_count(proc / "self/fd"))
    except (OSError, ValueError, IndexError):
        pass
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield gauge("process_max_fds", "File descriptors that may be open.", inf if most < 0 else most)


def _open_count(descriptors: Path) -> int:
    """Linux tells it as the folder's size, from 6.2 on; else they are listed, and the listing holds one itself."""
    return descriptors.stat().st_size or len(os.listdir(descriptors)) - 1


def _known(pool: PoolView, value: Callable[[EndpointView], float | None]) -> list[float]:
    values = (value(endpoint) for endpoint in pool.endpoints)
    return [number for number in values if number is not None]


def _is_ready(endpoint: EndpointView) -> bool:
    return endpoint.health in ("healthy", "unknown")


def _deviation(values: list[float]) -> float:
    """Of the population, as the reference computes it."""
    mean = sum(values) / len(values)
    return sqrt(sum((value - mean) ** 2 for value in values) / len(values))
