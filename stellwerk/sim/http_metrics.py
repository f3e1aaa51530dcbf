"""The part of the `/metrics` page that does not come from the engine: the web framework's counters, the process's."""

import time

from stellwerk.sim.exposition import Histogram, Summary, Values

_HIGH_RESOLUTION = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60
)  # fmt: skip
_BY_HANDLER = (0.1, 0.5, 1)
_CONTENT_LENGTH_ONLY = "Only value of header is respected. Otherwise ignored. No percentile calculated. "
_DURATION_TEXT = (
    "Latency with only few buckets by handler. Made to be only used if aggregation by handler is important. "
)


class HttpMetrics:
    """The `http_` families: what the web framework counts per handler."""

    def __init__(self, created: float) -> None:
        self._requests: dict[str, tuple[int, float]] = {}
        text = "Total number of requests by method, status and handler."
        self._total = Values("http_requests", text, "counter")
        self._total_created = Values("http_requests_created", text, "gauge")
        incoming = f"Content length of incoming requests by handler. {_CONTENT_LENGTH_ONLY}"
        outgoing = f"Content length of outgoing responses by handler. {_CONTENT_LENGTH_ONLY}"
        self._sizes_in = Summary("http_request_size_bytes", incoming)
        self._sizes_out = Summary("http_response_size_bytes", outgoing)
        text = "Latency with many buckets but no API specific labels. Made for more accurate percentile calculations. "
        self._durations = Histogram("http_request_duration_highr_seconds", text, {}, _HIGH_RESOLUTION, created)
        self._by_handler: dict[tuple[str, str], Histogram] = {}
        self._keys: dict[tuple[str, str, int], str] = {}

    def answered(self, handler: str, method: str, status: int, sizes: tuple[int, int], seconds: float) -> None:
        """A request is over. `sizes`: bytes in and out by content-length; `seconds`: from head to end."""
        now = time.time()
        names = (handler, method, status // 100)
        key = self._keys.get(names)
        if key is None:
            labels = {"handler": handler, "method": method, "status": f"{names[2]}xx"}
            key = self._keys[names] = self._total.series(labels)
            self._total_created.series(labels, now)
        self._total.add(key)
        handler_key = f'{{handler="{handler}"}}'
        self._sizes_in.observe(handler_key, sizes[0], now)
        self._sizes_out.observe(handler_key, sizes[1], now)
        self._durations.observe(seconds)
        histogram = self._by_handler.get((handler, method))
        if histogram is None:
            labels = {"handler": handler, "method": method}
            histogram = Histogram("http_request_duration_seconds", _DURATION_TEXT, labels, _BY_HANDLER, now)
            self._by_handler[handler, method] = histogram
        histogram.observe(seconds)

    def render(self) -> str:
        """The `http_` part of the page."""
        parts = [family.render() for family in (self._total, self._total_created, self._sizes_in, self._sizes_out)]
        parts.append(self._durations.render())
        parts.append(Histogram.render_all(list(self._by_handler.values())))
        return "".join(parts)


class ProcessMetrics:
    """The Python client's own families. All but the CPU time are constants here."""

    def __init__(self, started_at: float) -> None:
        """`started_at`: Unix time."""
        collected = Values("python_gc_objects_collected", "Objects collected during gc", "counter")
        uncollectable = Values("python_gc_objects_uncollectable", "Uncollectable objects found during GC", "counter")
        collections = Values("python_gc_collections", "Number of times this generation was collected", "counter")
        for generation, objects in {"0": 15738, "1": 1689, "2": 1340}.items():
            collected.series({"generation": generation}, objects)
            uncollectable.series({"generation": generation})
            collections.series({"generation": generation}, 10)
        info = Values("python_info", "Python platform information", "gauge")
        version = {"implementation": "CPython", "major": "3", "minor": "12", "patchlevel": "11", "version": "3.12.11"}
        info.series(version, 1)
        start = "Start time of the process since unix epoch in seconds."
        self._before = "".join(family.render() for family in (collected, uncollectable, collections, info)) + "".join(
            (
                _single("process_virtual_memory_bytes", "Virtual memory size in bytes.", "gauge", 2192543744.0),
                _single("process_resident_memory_bytes", "Resident memory size in bytes.", "gauge", 665427968.0),
                _single("process_start_time_seconds", start, "gauge", started_at),
            )
        )
        self._cpu = Values("process_cpu_seconds", "Total user and system CPU time spent in seconds.", "counter")
        self._after = _single("process_open_fds", "Number of open file descriptors.", "gauge", 64.0) + _single(
            "process_max_fds", "Maximum number of open file descriptors.", "gauge", 20000.0
        )

    def render(self) -> str:
        """The process's part of the page."""
        self._cpu.set("", round(time.process_time(), 2))
        return self._before + self._cpu.render() + self._after


def _single(name: str, text: str, kind: str, value: float) -> str:
    values = Values(name, text, kind)
    values.series({}, value)
    return values.render()
