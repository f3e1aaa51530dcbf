"""The `/metrics` page of a simulated server: the families, labels and buckets of vLLM 0.32.0, in its order.

Counters of the engine are read from the model when the page is asked for; histograms are fed as things happen. A page
whose values did not change is put together from text that exists already.
"""

import time
from typing import Protocol

from msgspec import Struct

from stellwerk.sim.exposition import Histogram, Labels, Values, label_text
from stellwerk.sim.job import Finished, FirstToken, Stepped
from stellwerk.sim.server_model import ServerModel
from stellwerk.sim.shape import Shape

_SHORT = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
    2560,
)
_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_LONG = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_ITERATION = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_COUNTS = (1, 2, 5, 10, 20)
_PREEMPTIONS = (1, 2, 3, 4, 5, 10, 20)
_MAX_ADAPTER_STATES = 256
_FLOPS_PURPOSE = "(for Model Flops Utilization calculations)."
_CACHED_BY_SOURCE = (
    "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded to DRAM), disk, "
    "p2p (transferred from another vLLM instance) or external_unspecified. Counted at admission; sums to "
    "vllm:prefix_cache_hits + vllm:external_prefix_cache_hits."
)
_WAITING_BY_REASON = (
    "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; 'deferred' = "
    "deferred by transient constraints (LoRA budget, KV transfer, blocked status). Sum of all reasons equals "
    "vllm:num_requests_waiting."
)
_SLEEP_STATE = (
    "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; weights_offloaded = 1 "
    "means sleep level 1; discard_all = 1 means sleep level 2."
)


class _Family(Protocol):
    def render(self) -> str: ...


def one_two_five(limit: int) -> list[float]:
    """1, 2, 5, 10, 20, 50 ... up to `limit`: vLLM's buckets for token counts."""
    bounds: list[float] = []
    power = 1
    while power <= limit:
        bounds += [power * factor for factor in (1, 2, 5) if power * factor <= limit]
        power *= 10
    return bounds


class Asked(Struct, frozen=True, gc=False):
    """What a request asked for, for the histograms of parameters."""

    n: int
    max_tokens: int


class EngineMetrics:
    """The `vllm:` families of one model. Implements `stellwerk.sim.drive.Observer`."""

    def __init__(self, model: ServerModel, model_name: str, max_model_tokens: int, created: float) -> None:
        self._model = model
        self._labels: Labels = {"engine": "0", "model_name": model_name}
        self._created = created
        self._key = label_text(self._labels)
        self._keys = {reason: label_text({**self._labels, "reason": reason}) for reason in ("capacity", "deferred")}
        for source in ("local_compute", "local_cache_hit", "device"):
            self._keys[source] = label_text({**self._labels, "source": source})
        self._families: list[_Family] = []
        self._asked: dict[int, Asked] = {}
        self._adapter_states: dict[str, float] = {}
        self._adapters = Values("vllm:lora_requests_info", "Running stats on lora requests.", "gauge")
        self._make_values()
        self._make_histograms(max_model_tokens)
        if model.shape.max_adapters:
            self._families.append(self._adapters)
        self._families.append(_cache_config(model.shape))
        self.refresh()

    def _counter(
        self, name: str, text: str, *reasons: str, label: str = "source", only: Labels | None = None
    ) -> Values:
        values = Values(name, text, "counter", self._created)
        base = self._labels if only is None else only
        for reason in reasons:
            values.series({**base, label: reason})
        if not reasons:
            values.series(base)
        self._families.append(values)
        return values

    def _gauge(self, name: str, text: str) -> Values:
        values = Values(name, text, "gauge")
        self._families.append(values)
        return values

    def _make_values(self) -> None:
        per_gpu = {"flops": "floating point operations", "read_bytes": "bytes read from memory"}
        per_gpu["write_bytes"] = "bytes written to memory"
        for name, what in per_gpu.items():
            self._counter(f"vllm:estimated_{name}_per_gpu", f"Estimated number of {what} per GPU {_FLOPS_PURPOSE}")
        self._running = self._gauge("vllm:num_requests_running", "Number of requests in model execution batches.")
        self._waiting = self._gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.")
        self._waiting_by = self._gauge("vllm:num_requests_waiting_by_reason", _WAITING_BY_REASON)
        sleep = self._gauge("vllm:engine_sleep_state", _SLEEP_STATE)
        for state in ("awake", "weights_offloaded", "discard_all"):
            sleep.series({**self._labels, "sleep_state": state}, float(state == "awake"))
        self._kv = self._gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        queried = "in terms of number of queried tokens."
        cached = "in terms of number of cached tokens."
        sharing = "External prefix cache {} from KV connector cross-instance cache sharing, "
        self._queries = self._counter("vllm:prefix_cache_queries", f"Prefix cache queries, {queried}")
        self._hits = self._counter("vllm:prefix_cache_hits", f"Prefix cache hits, {cached}")
        self._counter("vllm:external_prefix_cache_queries", sharing.format("queries") + queried)
        self._counter("vllm:external_prefix_cache_hits", sharing.format("hits") + cached)
        self._counter("vllm:mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items.")
        self._counter("vllm:mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items.")
        self._preemptions = self._counter("vllm:num_preemptions", "Cumulative number of preemption from the engine.")
        self._prompt = self._counter("vllm:prompt_tokens", "Number of prefill tokens processed.")
        sources = ("local_compute", "local_cache_hit", "external_kv_transfer")
        self._by_source = self._counter("vllm:prompt_tokens_by_source", "Number of prompt tokens by source.", *sources)
        self._cached = self._counter("vllm:prompt_tokens_cached", "Number of cached prompt tokens (local + external).")
        tiers = ("device", "host", "p2p", "disk", "external_unspecified")
        self._by_tier = self._counter("vllm:prompt_tokens_cached_by_source", _CACHED_BY_SOURCE, *tiers)
        self._generated = self._counter("vllm:generation_tokens", "Number of generation tokens processed.")
        reasons = ("stop", "length", "abort", "error", "repetition")
        text = "Count of successfully processed requests."
        self._success = self._counter("vllm:request_success", text, *reasons, label="finished_reason")
        self._success_keys = {one: label_text({**self._labels, "finished_reason": one}) for one in reasons}
        self._counter(
            "vllm:admission_rejections",
            "Number of admission attempts rejected by a queue limit, by reason.",
            *("max_num_queued_reqs", "max_num_queued_tokens"),
            label="reason",
            only={"model_name": self._labels["model_name"]},
        )

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...] | list[float]) -> Histogram:
        histogram = Histogram(f"vllm:{name}", text, self._labels, bounds, self._created)
        self._families.append(histogram)
        return histogram

    def _make_histograms(self, max_model_tokens: int) -> None:
        make, sizes = self._histogram, one_two_five(max_model_tokens)
        self._request_prompt = make("request_prompt_tokens", "Number of prefill tokens processed.", sizes)
        self._request_generated = make("request_generation_tokens", "Number of generation tokens processed.", sizes)
        self._iteration = make("iteration_tokens_total", "Histogram of number of tokens per engine_step.", _ITERATION)
        self._most_generated = make(
            "request_max_num_generation_tokens", "Histogram of maximum number of requested generation tokens.", sizes
        )
        self._n = make("request_params_n", "Histogram of the n request parameter.", _COUNTS)
        self._max_tokens = make("request_params_max_tokens", "Histogram of the max_tokens request parameter.", sizes)
        self._first = make("time_to_first_token_seconds", "Histogram of time to first token in seconds.", _SHORT)
        self._between = make("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", _TOKEN)
        self._per_token = make(
            "request_time_per_output_token_seconds",
            "Histogram of time_per_output_token_seconds per request.",
            _TOKEN,
        )
        self._whole = make("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", _LONG)
        phase = "Histogram of time spent in {} phase for request."
        self._queue = make("request_queue_time_seconds", phase.format("WAITING"), _LONG)
        self._inference = make("request_inference_time_seconds", phase.format("RUNNING"), _LONG)
        self._prefill = make("request_prefill_time_seconds", phase.format("PREFILL"), _LONG)
        self._decode = make("request_decode_time_seconds", phase.format("DECODE"), _LONG)
        self._request_preemptions = make(
            "request_num_preemptions", "Histogram of the number of times a request was preempted.", _PREEMPTIONS
        )
        self._computed = make(
            "request_prefill_kv_computed_tokens",
            "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
            sizes,
        )

    # What happens

    def asked(self, job_id: int, asked: Asked) -> None:
        """The parameters behind a job, until it ends."""
        self._asked[job_id] = asked

    def stepped(self, event: Stepped) -> None:
        """A step ended."""
        self._iteration.observe(event.decodes + event.prefill_tokens, event.steps)
        if event.decodes:
            self._between.observe(event.seconds, event.decodes * event.steps)

    def first_token(self, event: FirstToken, seconds: float) -> None:
        """A first token came `seconds` after its request."""
        self._first.observe(seconds)

    def job_finished(self, event: Finished) -> None:
        """A job ended by itself."""
        asked = self._asked.pop(event.id, None)
        self._request_prompt.observe(event.prompt_tokens)
        self._request_generated.observe(event.output_tokens)
        self._most_generated.observe(event.output_tokens)
        if asked is not None:
            self._n.observe(asked.n)
            self._max_tokens.observe(asked.max_tokens)
        decode_seconds = event.at - event.first_token_at
        if event.output_tokens > 1:
            self._per_token.observe(decode_seconds / (event.output_tokens - 1))
        self._whole.observe(event.at - event.arrived_at)
        self._queue.observe(event.scheduled_at - event.arrived_at)
        self._inference.observe(event.at - event.scheduled_at)
        self._prefill.observe(event.first_token_at - event.scheduled_at)
        self._decode.observe(decode_seconds)
        self._request_preemptions.observe(event.preemptions)
        self._computed.observe(event.prompt_tokens - event.cached_tokens)

    def ended(self, reason: str) -> None:
        """A request ended: stop, length, abort or error."""
        self._success.add(self._success_keys[reason])

    def forget(self, job_id: int) -> None:
        """A job was aborted."""
        self._asked.pop(job_id, None)

    def adapters_changed(self) -> None:
        """Another set of adapters runs or waits: its series gets the present as value, all others keep theirs."""
        if self._model.is_stalled or not self._model.shape.max_adapters:
            return
        labels = {
            "max_lora": str(self._model.shape.max_adapters),
            "running_lora_adapters": ",".join(self._model.running_adapters()),
            "waiting_lora_adapters": ",".join(self._model.waiting_adapters()),
        }
        key = label_text(labels)
        if key not in self._adapter_states and len(self._adapter_states) >= _MAX_ADAPTER_STATES:
            oldest = min(self._adapter_states, key=self._adapter_states.__getitem__)
            del self._adapter_states[oldest]
            self._adapters.remove(oldest)
        self._adapter_states[key] = time.time()

    def refresh(self) -> None:
        """Read the model. A wedged engine reports nothing new."""
        model = self._model
        if model.is_stalled:
            return
        counters, key = model.counters, self._key
        deferred = model.waiting_for_adapter()
        self._running.set(key, model.running)
        self._waiting.set(key, model.waiting)
        self._waiting_by.set(self._keys["capacity"], model.waiting - deferred)
        self._waiting_by.set(self._keys["deferred"], deferred)
        self._kv.set(key, model.kv_use)
        self._queries.set(key, counters.queried_tokens)
        self._hits.set(key, counters.hit_tokens)
        self._preemptions.set(key, counters.preemptions)
        self._prompt.set(key, counters.prompt_tokens)
        computed = counters.prompt_tokens - counters.cached_tokens
        self._by_source.set(self._keys["local_compute"], computed)
        self._by_source.set(self._keys["local_cache_hit"], counters.cached_tokens)
        self._cached.set(key, counters.cached_tokens)
        self._by_tier.set(self._keys["device"], counters.hit_tokens)
        self._generated.set(key, counters.generated_tokens)
        if self._adapter_states:
            self.adapters_changed()
        for state, at in self._adapter_states.items():
            self._adapters.set(state, at)

    def render(self) -> str:
        """The `vllm:` part of the page."""
        self.refresh()
        return "".join([family.render() for family in self._families])


def _cache_config(shape: Shape) -> Values:
    size, blocks = str(shape.block_size), str(shape.block_count)
    labels = {
        "_block_size_resolved": "True", "block_size": size, "cache_dtype": "auto", "cache_hit_alignment_tokens": "None",
        "effective_attention_block_size": size, "enable_mamba_shared_prefix_checkpoint": "False",
        "enable_prefix_caching": str(shape.has_prefix_cache), "engine": "0", "gpu_memory_utilization": "0.92",
        "hash_block_size": "None", "is_attention_free": "False", "kv_cache_dtype_skip_layers": "[]",
        "kv_cache_layout": "None", "kv_cache_max_concurrency": str(float(shape.max_sequences)),
        "kv_cache_memory_bytes": str(shape.kv_tokens * 131_072), "kv_cache_size_tokens": str(shape.kv_tokens),
        "kv_offloading_backend": "native", "kv_offloading_size": "None", "kv_sharing_fast_prefill": "False",
        "mamba_block_size": "None", "mamba_cache_dtype": "auto", "mamba_cache_mode": "none",
        "mamba_page_size_padded": "None", "mamba_ssm_cache_dtype": "float32", "num_cpu_blocks": "None",
        "num_gpu_blocks": blocks, "num_gpu_blocks_override": "None", "prefix_cache_retention_interval": "0",
        "prefix_caching_hash_algo": "sha256", "prefix_match_unit": "None", "replayssm_buffer_len": "16",
        "skip_page_size_padded": "None", "sliding_window": "None", "swa_bounded_replay": "True",
        "use_kda_recoverssm": "False", "use_replayssm": "False", "user_specified_block_size": "False",
    }  # fmt: skip
    values = Values("vllm:cache_config_info", "Information of the LLMEngine CacheConfig", "gauge")
    values.series(labels, 1.0)
    return values
