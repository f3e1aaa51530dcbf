"""What each engine calls its signals, and how its page becomes a `Sample`.

Names are those of the reference picker (llm-d-router, `extractor/metrics/factories.go`), checked against the engines'
own sources. Where a page has several series of one family (data-parallel engines behind one port), counts are summed
and the KV share is the mean over the engines; the reference takes the first. With one series both agree.
"""

import math
from collections.abc import Iterable

from msgspec import Struct

from stellwerk.model.sample import Sample
from stellwerk.telemetry.exposition import Page, Series

MAX_REQUESTS = 1e7
"""A queue or batch beyond this is not believed."""
MAX_ADAPTERS = 1024
MAX_NAME_LENGTH = 256
_KV_TOLERANCE = 0.01
_MAX_COUNTER = 1e18
_MAX_BLOCK_TOKENS = 1e6
_MAX_BLOCKS = 1e12
_MAX_UNIX_TIME = 1e11


class Spec(Struct, frozen=True):
    """One family, or those of its series that carry exactly these labels; `label`: the value is that label's."""

    family: bytes
    match: tuple[tuple[str, str], ...] = ()
    label: str | None = None


def spec(text: str, label: str | None = None) -> Spec:
    """Reads `name` or `name{label=value,...}`, the grammar of the reference's `engineConfigs`."""
    name, _, rest = text.partition("{")
    pairs = (pair.partition("=") for pair in rest.rstrip("}").split(",") if pair)
    return Spec(name.encode(), tuple((key, value) for key, _, value in pairs), label)


class Dialect(Struct, frozen=True):
    """Where one engine says what. Of each field's specs the first that the page has counts; a field whose specs are to
    be added up is a tuple of tuples."""

    name: str
    waiting: tuple[Spec, ...]
    running: tuple[Spec, ...] = ()
    kv_use: tuple[Spec, ...] = ()
    block_size: tuple[Spec, ...] = ()
    block_count: tuple[Spec, ...] = ()
    adapters: Spec | None = None
    progress: tuple[tuple[Spec, ...], ...] = ()
    prefix_queries: tuple[tuple[Spec, ...], ...] = ()
    prefix_hits: tuple[tuple[Spec, ...], ...] = ()
    ranks: tuple[str, ...] = ()
    """Labels that tell independent engines of one page apart; series that differ in others repeat each other."""
    breakdown: str | None = None
    """A label that, when not empty, marks a series as a part of another one."""
    paths: tuple[str, ...] = ("/metrics",)
    """Where the page may be, best first."""


_STARTED_AT = spec("process_start_time_seconds")

VLLM = Dialect(
    name="vllm",
    waiting=(spec("vllm:num_requests_waiting"),),
    running=(spec("vllm:num_requests_running"),),
    kv_use=(spec("vllm:kv_cache_usage_perc"), spec("vllm:gpu_cache_usage_perc")),
    block_size=(spec("vllm:cache_config_info", "block_size"),),
    block_count=(spec("vllm:cache_config_info", "num_gpu_blocks"),),
    adapters=spec("vllm:lora_requests_info"),
    progress=((spec("vllm:prompt_tokens_total"),), (spec("vllm:generation_tokens_total"),)),
    prefix_queries=((spec("vllm:prefix_cache_queries_total"), spec("vllm:gpu_prefix_cache_queries_total")),),
    prefix_hits=((spec("vllm:prefix_cache_hits_total"), spec("vllm:gpu_prefix_cache_hits_total")),),
    ranks=("engine",),
)

SGLANG = Dialect(
    name="sglang",
    waiting=(spec("sglang:num_queue_reqs"),),
    running=(spec("sglang:num_running_reqs"),),
    kv_use=(spec("sglang:token_usage"),),
    block_size=(spec("sglang:page_size"), spec("sglang:cache_config_info", "page_size")),
    block_count=(spec("sglang:num_pages"), spec("sglang:cache_config_info", "num_pages")),
    # Its prompt and generation totals grow only when a request ends, so they stand still while a long one runs.
    progress=(
        (spec("sglang:realtime_tokens_total{mode=prefill_compute}"),),
        (spec("sglang:realtime_tokens_total{mode=decode}"),),
    ),
    prefix_queries=((spec("sglang:prompt_tokens_total"),),),
    prefix_hits=((spec("sglang:cached_tokens_total"),),),
    ranks=("dp_rank", "cache_source", "is_streaming"),
    breakdown="priority",
)

TRTLLM_SERVE = Dialect(
    name="trtllm-serve",
    waiting=(spec("trtllm_num_requests_waiting"),),
    running=(spec("trtllm_num_requests_running"),),
    kv_use=(spec("trtllm_kv_cache_utilization"),),
    block_size=(spec("trtllm_kv_cache_tokens_per_block"),),
    block_count=(spec("trtllm_kv_cache_max_blocks"),),
    # As with SGLang, its token totals grow only when a request ends; blocks are taken while it runs.
    progress=(
        (spec("trtllm_kv_cache_gen_alloc_blocks_total"),),
        (spec("trtllm_kv_cache_iter_missed_blocks_total"),),
        (spec("trtllm_kv_cache_iter_reused_blocks_total"),),
    ),
    prefix_queries=((spec("trtllm_kv_cache_reused_blocks_total"),), (spec("trtllm_kv_cache_missed_blocks_total"),)),
    prefix_hits=((spec("trtllm_kv_cache_reused_blocks_total"),),),
    # At /metrics trtllm-serve answers with JSON, unless a proxy or an old version says otherwise.
    paths=("/prometheus/metrics", "/metrics"),
)

TRITON_TRTLLM = Dialect(
    name="triton-tensorrt-llm",
    waiting=(spec("nv_trt_llm_request_metrics{request_type=waiting}"),),
    running=(spec("nv_trt_llm_request_metrics{request_type=scheduled}"),),
    kv_use=(spec("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}"),),
    block_size=(spec("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}"),),
    block_count=(spec("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}"),),
    ranks=("model", "version"),
)

TRITON = Dialect(
    name="triton",
    waiting=(spec("nv_inference_pending_request_count"),),
    # The reference reads `nv_inference_exec_count` as the running requests; Triton documents it as a cumulative count
    # of executions. As that it shows progress; what runs is known from our own ledger.
    progress=((spec("nv_inference_exec_count"),),),
    ranks=("model", "version"),
)

DIALECTS = {dialect.name: dialect for dialect in (VLLM, SGLANG, TRTLLM_SERVE, TRITON_TRTLLM, TRITON)}


def dialect_of(engine: str) -> Dialect:
    """The dialect of that name; an unknown engine is taken for vLLM, as the reference does."""
    return DIALECTS.get(engine, VLLM)


def read(text: bytes, dialect: Dialect) -> Sample | None:
    """The sample on a page, or None where the page has no family of this dialect. Never raises."""
    reading = _Reading(text, dialect)
    started_at = reading.total((_STARTED_AT,), _MAX_UNIX_TIME)
    reading.is_recognised = False  # every Prometheus client library exports the start time
    running = reading.total(dialect.running, MAX_REQUESTS)
    waiting = reading.total(dialect.waiting, MAX_REQUESTS)
    kv_use = reading.share(dialect.kv_use)
    prefix_queries = reading.added_up(dialect.prefix_queries)
    prefix_hits = reading.added_up(dialect.prefix_hits)
    progress = reading.added_up(dialect.progress)
    max_adapters, running_adapters, waiting_adapters = reading.adapters()
    block_size = reading.whole(dialect.block_size, _MAX_BLOCK_TOKENS, is_total=False)
    block_count = reading.whole(dialect.block_count, _MAX_BLOCKS, is_total=True)
    if not reading.is_recognised:
        return None
    return Sample(
        waiting=waiting,
        running=running,
        kv_use=kv_use,
        running_adapters=running_adapters,
        waiting_adapters=waiting_adapters,
        max_adapters=max_adapters,
        block_size_tokens=block_size,
        block_count=block_count,
        started_at=started_at,
        progress=progress,
        prefix_queries=prefix_queries,
        prefix_hits=prefix_hits,
        implausible=tuple(dict.fromkeys(reading.implausible)),
    )


class _Reading:
    """One pass over one page."""

    def __init__(self, text: bytes, dialect: Dialect) -> None:
        self._page = Page(text)
        self._dialect = dialect
        self._last: tuple[bytes, list[Series]] = (b"", [])
        self.implausible: list[str] = []
        self.is_recognised = False

    def total(self, specs: tuple[Spec, ...], maximum: float) -> float | None:
        """The sum over the engines of the page, 0..maximum each."""
        values = self._values(specs, maximum)
        return sum(values) if values else None

    def added_up(self, parts: tuple[tuple[Spec, ...], ...]) -> float | None:
        """The sum of several counters, if the page has them all."""
        totals = [self.total(specs, _MAX_COUNTER) for specs in parts]
        known = [total for total in totals if total is not None]
        return sum(known) if known and len(known) == len(totals) else None

    def share(self, specs: tuple[Spec, ...]) -> float | None:
        """The mean over the engines, 0..1; a rounding error above 1 counts as 1."""
        values = self._values(specs, 1 + _KV_TOLERANCE)
        return min(1.0, sum(values) / len(values)) if values else None

    def whole(self, specs: tuple[Spec, ...], maximum: float, *, is_total: bool) -> int | None:
        """A positive integer: summed over the engines, or the first one's."""
        values = self._values(specs, maximum)
        if not values or min(values) < 1:
            return None
        return int(sum(values)) if is_total else int(values[0])

    def adapters(self) -> tuple[int | None, frozenset[str], frozenset[str]]:
        """Maximum, running, waiting. The page keeps a series per past state; its value is when that state was last
        seen, so the largest is the present one."""
        found = self._find(self._dialect.adapters) if self._dialect.adapters else []
        dated = [series for series in found if math.isfinite(series.value)]
        if not dated:
            return None, frozenset(), frozenset()
        labels = max(dated, key=_value).labels
        maximum = _plain_integer(labels.get("max_lora", ""))
        return (
            maximum,
            self._names(labels.get("running_lora_adapters", "")),
            self._names(labels.get("waiting_lora_adapters", "")),
        )

    def _names(self, text: str) -> frozenset[str]:
        names = frozenset(name for part in text.split(",") if (name := part.strip()))
        if len(names) > MAX_ADAPTERS or any(len(name) > MAX_NAME_LENGTH for name in names):
            self._distrust(self._dialect.adapters)
            return frozenset()
        return names

    def _values(self, specs: tuple[Spec, ...], maximum: float) -> list[float]:
        """One value for each engine of the page; empty where it has none, or any that is implausible."""
        for wanted in specs:
            found = self._find(wanted)
            if not found:
                continue
            read = [_label_value(series, wanted.label) if wanted.label else series.value for series in found]
            values = [value for value in read if value is not None]
            if all(0 <= value <= maximum for value in values):  # false for NaN
                return values
            self._distrust(wanted)
            return []
        return []

    def _find(self, wanted: Spec) -> list[Series]:
        family, found = self._last
        if family != wanted.family:
            found = self._page.series(wanted.family)
            self._last = (wanted.family, found)
        if not found:
            return found
        self.is_recognised = True
        if wanted.match:
            found = [series for series in found if all(series.labels.get(key) == value for key, value in wanted.match)]
        if len(found) <= 1 or wanted is self._dialect.adapters:
            return found
        return self._one_for_each_engine(found)

    def _one_for_each_engine(self, found: Iterable[Series]) -> list[Series]:
        """Of the series of one engine the newest counts, else the first."""
        dialect = self._dialect
        chosen: dict[tuple[str | None, ...], Series] = {}
        for series in found:
            labels = series.labels
            if dialect.breakdown and labels.get(dialect.breakdown):
                continue
            rank = tuple(labels.get(name) for name in dialect.ranks)
            known = chosen.get(rank)
            if known is None or (series.timestamp or 0.0) > (known.timestamp or 0.0):
                chosen[rank] = series
        return list(chosen.values())

    def _distrust(self, wanted: Spec | None) -> None:
        if wanted is not None:
            self.implausible.append(wanted.family.decode())


def _value(series: Series) -> float:
    return series.value


def _label_value(series: Series, label: str) -> float | None:
    """A label that is an integer; engines write `None` into what they do not know yet."""
    text = series.labels.get(label, "")
    if text in ("", "None"):
        return None
    value = _plain_integer(text)
    return math.nan if value is None else float(value)


def _plain_integer(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None
