"""Metrics under the names of before: dashboards and alerts of GIE v1.0 to v1.5 ask for them, and the llm-d router still
offers them beside the new ones.

Made from the new ones when the page is asked for; labels that came later are summed up.
"""

from typing import NamedTuple

from stellwerk.telemetry.render import Family, Histogram

PREFIX = "llm_d_epp_"
_MODEL = {"model_name": "model_name", "target_model_name": "target_model_name"}
_POOL = {"name": "name"}


class Twin(NamedTuple):
    """The old name, and for each old label, in their order, the new one that it shows."""

    name: str
    labels: dict[str, str]


def _objective(name: str, labels: dict[str, str] = _MODEL) -> Twin:
    return Twin(f"inference_objective_{name}", labels)


def _extension(name: str, *labels: str) -> Twin:
    return Twin(f"inference_extension_{name}", {label: label for label in labels})


TWINS = {
    "request_total": _objective("request_total", {**_MODEL, "priority": "priority"}),
    "request_error_total": _objective("request_error_total", {**_MODEL, "error_code": "error_code"}),
    "request_duration_seconds": _objective("request_duration_seconds"),
    "request_size_bytes": _objective("request_sizes"),
    "response_size_bytes": _objective("response_sizes"),
    "request_input_tokens": _objective("input_tokens"),
    "request_output_tokens": _objective("output_tokens"),
    "request_cached_tokens": _objective("prompt_cached_tokens"),
    "request_running": _objective("running_requests", {"model_name": "model_name"}),
    "request_ntpot_seconds": _objective("normalized_time_per_output_token_seconds"),
    "average_kv_cache_utilization": Twin("inference_pool_average_kv_cache_utilization", _POOL),
    "average_queue_size": Twin("inference_pool_average_queue_size", _POOL),
    "average_running_requests": Twin("inference_pool_average_running_requests", _POOL),
    "ready_endpoints": Twin("inference_pool_ready_pods", _POOL),
    "per_endpoint_queue_size": Twin(
        "inference_pool_per_pod_queue_size", {"name": "name", "model_server_pod": "model_server_endpoint"}
    ),
    "info": _extension("info", "commit", "build_ref"),
    "scheduler_e2e_duration_seconds": _extension("scheduler_e2e_duration_seconds"),
    "scheduler_attempts_total": Twin(
        "inference_extension_scheduler_attempts_total",
        {
            "status": "status",
            "target_model_name": "target_model_name",
            "pod_name": "endpoint_name",
            "namespace": "namespace",
            "port": "port",
        },
    ),
    "model_rewrite_decisions_total": _extension(
        "model_rewrite_decisions_total", "model_rewrite_name", "model_name", "target_model"
    ),
    "flow_control_pool_saturation": _extension("flow_control_pool_saturation", "inference_pool", "stage"),
    "prefix_indexer_size": _extension("prefix_indexer_size"),
    "prefix_indexer_hit_ratio": _extension("prefix_indexer_hit_ratio"),
    "prefix_indexer_hit_bytes": _extension("prefix_indexer_hit_bytes"),
    "datalayer_poll_errors_total": Twin(
        "llm_d_inference_scheduler_datalayer_poll_errors_total", {"source_type": "source_type"}
    ),
}
"""By the new name, without its prefix (upstream: `pkg/epp/metrics/metrics.go`)."""


def twin_of(family: Family) -> Family | None:
    """The family under its old name; None: it never had one."""
    twin = TWINS.get(family.name.removeprefix(PREFIX)) if family.name.startswith(PREFIX) else None
    if twin is None:
        return None
    places = [family.labels.index(label) for label in twin.labels.values()]
    summed: dict[tuple[str, ...], float | Histogram] = {}
    for values, content in family.rows:
        key = tuple(values[place] for place in places)
        before = summed.get(key)
        summed[key] = content if before is None else _sum(before, content)
    help = f"Deprecated: use {family.name}. {family.help}"
    return Family(twin.name, family.kind, help, tuple(twin.labels), tuple(summed.items()))


def _sum(one: float | Histogram, other: float | Histogram) -> float | Histogram:
    if isinstance(one, Histogram) and isinstance(other, Histogram):
        whole = Histogram(one.bounds)
        whole.add(one.counts, one.sum)
        whole.add(other.counts, other.sum)
        return whole
    assert not isinstance(one, Histogram)
    assert not isinstance(other, Histogram)
    return one + other
