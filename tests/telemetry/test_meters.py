"""What is counted, under the reference picker's names; and that floods of names stay small."""

from bisect import bisect_left
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from stellwerk.model.reason import Reason
from stellwerk.model.report import GAP_BOUNDS, Gaps, Report, Usage
from stellwerk.model.trace import Trace
from stellwerk.telemetry.labels import OTHER
from stellwerk.telemetry.meters import MAX_ROWS, MAX_UNRESOLVED, Meters
from stellwerk.telemetry.render import text

PICKED = Trace(
    request_id="r",
    at=0.0,
    api="chat",
    pool="default/llama",
    public_model="food",
    target_model="llama-food",
    priority=2,
    picked=("default/a:8000",),
    source="InferenceModelRewrite default/food",
    took_seconds=0.0003,
)
REFUSED = msgspec.structs.replace(PICKED, picked=(), refused="saturated")
REPORT = Report(
    status=200,
    served="10.0.0.1:8000",
    is_stream=True,
    ttft_seconds=0.5,
    duration_seconds=2.5,
    request_bytes=2000,
    response_bytes=4000,
    usage=Usage(prompt_tokens=100, cached_tokens=60, output_tokens=41),
)
NOBODY = {"model_name": "", "target_model_name": "", "fairness_id": "default-flow", "priority": "0"}
M = {"model_name": "food", "target_model_name": "llama-food", "fairness_id": "team-a", "priority": "2"}


def page(meters: Meters) -> str:
    return "".join(text(meters.families()))


def value(meters: Meters, name: str, **labels: str) -> float | None:
    wanted: dict[str, Any] = dict(labels)
    for family in text_string_to_metric_families(page(meters)):
        for sample in family.samples:
            if sample.name == name and sample.labels == wanted:
                return sample.value
    return None


def test_a_picked_request_is_counted_and_runs_until_released() -> None:
    meters = Meters()
    meters.decided(PICKED, request_bytes=2000, fairness_id="team-a")
    assert value(meters, "llm_d_epp_request_total", **M) == 1
    assert value(meters, "llm_d_epp_request_running", **M) == 1
    assert value(meters, "llm_d_epp_request_size_bytes_bucket", **M, le="2048") == 1
    attempt = {"target_model_name": "llama-food", "endpoint_name": "a", "namespace": "default", "port": "8000"}
    assert value(meters, "llm_d_epp_scheduler_attempts_total", status="success", **attempt) == 1
    rewrite = {"model_rewrite_name": "default/food", "model_name": "food", "target_model": "llama-food"}
    assert value(meters, "llm_d_epp_model_rewrite_decisions_total", **rewrite) == 1
    meters.released(PICKED, fairness_id="team-a")
    meters.released(PICKED, fairness_id="team-a")
    assert value(meters, "llm_d_epp_request_running", **M) == 0


def test_a_refused_request_is_an_error_with_its_code_and_does_not_run() -> None:
    meters = Meters()
    meters.decided(REFUSED, request_bytes=10, fairness_id="team-a")
    assert value(meters, "llm_d_epp_request_error_total", **M, error_code="ResourceExhausted") == 1
    assert value(meters, "llm_d_epp_request_running", **M) == 0
    assert value(meters, "stellwerk_refusals_total", pool="default/llama", reason="saturated") == 1


def test_what_the_gateway_answers_itself_is_a_request_and_no_error() -> None:
    meters = Meters()
    meters.decided(Trace("r", 0.0, "models"), request_bytes=0, fairness_id=None)
    assert value(meters, "llm_d_epp_request_total", **NOBODY) == 1
    assert "\nllm_d_epp_request_error_total{" not in page(meters)
    assert "\nllm_d_epp_scheduler_attempts_total{" not in page(meters)


def test_a_request_refused_without_a_decision_is_an_error_of_no_model_and_no_decision() -> None:
    meters = Meters()
    for reason, code in (
        (Reason.MALFORMED_BODY, "BadRequest"),
        (Reason.BODY_TOO_LARGE, "RequestEntityTooLarge"),
        (Reason.UNSUPPORTED, "Unimplemented"),
        (Reason.DEADLINE, "DeadlineExceeded"),
        (Reason.INTERNAL, "Internal"),
    ):
        meters.turned_away(reason, is_counted=False)
        assert value(meters, "llm_d_epp_request_error_total", **NOBODY, error_code=code) == 1
        assert value(meters, "stellwerk_refusals_total", pool="", reason=reason.value) == 1
    assert value(meters, "llm_d_epp_request_total", **NOBODY) == 5
    assert value(meters, "llm_d_epp_request_size_bytes_count", **NOBODY) == 0
    assert value(meters, "stellwerk_metric_rows") == 1
    assert "\nllm_d_epp_scheduler_attempts_total{" not in page(meters)


def test_a_request_that_broke_after_its_decision_is_an_error_and_no_second_request() -> None:
    meters = Meters()
    meters.decided(PICKED, request_bytes=10, fairness_id="team-a")
    meters.turned_away(Reason.INTERNAL, is_counted=True)
    assert value(meters, "llm_d_epp_request_total", **NOBODY) == 0
    assert value(meters, "llm_d_epp_request_error_total", **NOBODY, error_code="Internal") == 1


def test_a_streamed_answer_gives_all_its_times_and_tokens() -> None:
    meters = Meters()
    meters.finished(PICKED, REPORT, fairness_id="team-a")
    for name, total in (
        ("request_duration_seconds", 2.5),
        ("response_size_bytes", 4000),
        ("request_input_tokens", 100),
        ("request_cached_tokens", 60),
        ("request_output_tokens", 41),
        ("request_ntpot_seconds", 2.5 / 41),
        ("request_streaming_tpot_seconds", 2.0 / 40),
    ):
        assert value(meters, f"llm_d_epp_{name}_sum", **M) == total, name
        assert value(meters, f"llm_d_epp_{name}_count", **M) == 1, name
    assert value(meters, "llm_d_epp_request_ttft_seconds_sum", **M, streaming="true") == 0.5
    assert value(meters, "llm_d_epp_request_ttft_seconds_sum", **M, streaming="false") is None


def test_an_answer_that_is_no_stream_has_no_time_per_streamed_token() -> None:
    meters = Meters()
    meters.finished(PICKED, msgspec.structs.replace(REPORT, is_stream=False), fairness_id="team-a")
    assert value(meters, "llm_d_epp_request_streaming_tpot_seconds_count", **M) is None
    assert value(meters, "llm_d_epp_request_ttft_seconds_count", **M, streaming="false") == 1


def test_failures_of_servers_are_told_from_those_of_the_way() -> None:
    meters = Meters()
    meters.finished(PICKED, msgspec.structs.replace(REPORT, status=500), fairness_id="team-a")
    meters.finished(PICKED, msgspec.structs.replace(REPORT, status=503, served=None), fairness_id="team-a")
    meters.finished(PICKED, msgspec.structs.replace(REPORT, status=0), fairness_id="team-a")
    assert value(meters, "llm_d_epp_request_error_total", **M, error_code="ModelServerError") == 1
    assert value(meters, "llm_d_epp_request_error_total", **M, error_code="ServiceUnavailable") == 1


def test_an_error_that_passed_the_picker_is_the_servers_where_the_proxy_does_not_say_who_served() -> None:
    meters = Meters()
    for status in (500, 503):
        report = msgspec.structs.replace(REPORT, status=status, served=None, has_passed=True)
        meters.finished(PICKED, report, fairness_id="team-a")
    assert value(meters, "llm_d_epp_request_error_total", **M, error_code="ModelServerError") == 2
    assert page(meters).count("\nllm_d_epp_request_error_total{") == 1


def test_an_exchange_without_an_answer_has_no_duration_and_no_size() -> None:
    meters = Meters()
    meters.decided(PICKED, request_bytes=10, fairness_id="team-a")
    meters.finished(PICKED, Report(duration_seconds=3.0, flags="DC"), fairness_id="team-a")
    assert value(meters, "llm_d_epp_request_duration_seconds_count", **M) is None
    assert value(meters, "llm_d_epp_response_size_bytes_count", **M) is None
    assert value(meters, "llm_d_epp_request_total", **M) == 1
    meters.finished(PICKED, REPORT, fairness_id="team-a")
    assert value(meters, "llm_d_epp_request_duration_seconds_sum", **M) == 2.5


def test_nonsense_from_servers_is_not_counted() -> None:
    meters = Meters()
    nonsense = Report(
        status=200,
        is_stream=True,
        ttft_seconds=float("nan"),
        duration_seconds=-1.0,
        usage=Usage(prompt_tokens=-5, cached_tokens=10**30, output_tokens=0),
    )
    meters.finished(PICKED, nonsense, fairness_id="team-a")
    assert value(meters, "llm_d_epp_request_duration_seconds_count", **M) == 0
    for name in ("request_input_tokens", "request_cached_tokens", "request_output_tokens", "request_ntpot_seconds"):
        assert value(meters, f"llm_d_epp_{name}_count", **M) is None
    assert "nan" not in page(meters).lower()


def test_streams_without_usage_are_estimated_from_their_bytes_once_the_model_is_known() -> None:
    meters = Meters()
    silent = msgspec.structs.replace(REPORT, usage=None, response_bytes=8000)
    meters.finished(PICKED, silent, fairness_id="team-a")
    assert value(meters, "stellwerk_estimated_output_tokens_total", **M) is None
    meters.finished(PICKED, REPORT, fairness_id="team-a")
    meters.finished(PICKED, silent, fairness_id="team-a")
    assert value(meters, "stellwerk_estimated_output_tokens_total", **M) == 82
    assert value(meters, "stellwerk_estimated_answers_total", **M) == 1
    assert value(meters, "llm_d_epp_request_output_tokens_count", **M) == 1


def test_buckets_are_the_references_own() -> None:
    meters = Meters()
    meters.finished(PICKED, REPORT, fairness_id="team-a")
    assert value(meters, "llm_d_epp_request_duration_seconds_bucket", **M, le="0.005") == 0
    assert value(meters, "llm_d_epp_request_duration_seconds_bucket", **M, le="3600") == 1
    for name in ("request_input_tokens", "response_size_bytes"):
        assert value(meters, f"llm_d_epp_{name}_bucket", **M, le="32778") == 1
        assert value(meters, f"llm_d_epp_{name}_bucket", **M, le="32768") is None
    assert value(meters, "llm_d_epp_request_input_tokens_bucket", **M, le="1.048576e+06") == 1
    assert value(meters, "llm_d_epp_request_output_tokens_bucket", **M, le="16384") is None
    assert value(meters, "llm_d_epp_request_streaming_tpot_seconds_bucket", **M, le="0.00205") == 0


def test_gaps_between_chunks_are_added_to_the_row() -> None:
    meters, gaps = Meters(), Gaps()
    for seconds in (0.01, 0.03, 5.0):
        gaps.counts[bisect_left(GAP_BOUNDS, seconds)] += 1
        gaps.seconds += seconds
    for _ in range(2):
        meters.finished(PICKED, msgspec.structs.replace(REPORT, gaps=gaps), fairness_id="team-a")
    meters.finished(PICKED, REPORT, fairness_id="team-a")
    name = "llm_d_epp_request_streaming_itl_seconds"
    assert [value(meters, f"{name}_bucket", **M, le=le) for le in ("0.005", "0.01", "0.04", "2", "+Inf")] == [
        0,
        2,
        4,
        4,
        6,
    ]
    assert value(meters, f"{name}_sum", **M) == 10.08


def test_other_events_are_counted() -> None:
    meters = Meters()
    meters.mismatched("default/llama")
    meters.matched(ratio=0.5, prefix_bytes=1024)
    assert value(meters, "stellwerk_served_elsewhere_total", pool="default/llama") == 1
    index = {"plugin_name": "approx-prefix-cache-producer", "plugin_type": "approx-prefix-cache-producer"}
    assert value(meters, "llm_d_epp_prefix_indexer_hit_ratio_bucket", **index, le="0.5") == 1


def test_without_a_tenant_the_default_one_counts() -> None:
    meters = Meters()
    meters.decided(PICKED, request_bytes=1, fairness_id=None)
    assert value(meters, "llm_d_epp_request_total", **{**M, "fairness_id": "default-flow"}) == 1


def test_a_hundred_thousand_names_that_nobody_serves_take_few_places_and_none_of_the_real_ones() -> None:
    meters = Meters()
    for number in range(100_000):
        name = f"attack-{number}" if number % 1000 else "x" * 100_000
        unknown = Trace("r", 0.0, "chat", public_model=name, refused="model_not_found")
        meters.decided(unknown, request_bytes=1, fairness_id=None)
    meters.decided(PICKED, request_bytes=1, fairness_id="team-a")
    assert value(meters, "llm_d_epp_request_total", **M) == 1
    assert value(meters, "stellwerk_metric_rows") == MAX_UNRESOLVED + 2
    assert len(page(meters)) < 1_000_000


def test_a_flood_of_tenants_and_of_models_that_pass_is_bounded_and_configured_models_keep_their_row() -> None:
    meters = Meters()
    meters.configured(["food", "llama-food"])
    for number in range(20_000):
        name = f"model-{number}"
        passing = msgspec.structs.replace(PICKED, public_model=name, target_model=name)
        meters.decided(passing, request_bytes=1, fairness_id=f"tenant-{number}")
        meters.finished(passing, REPORT, fairness_id=f"tenant-{number}")
    meters.decided(PICKED, request_bytes=1, fairness_id="team-a")
    lines = page(meters).splitlines()  # too long for a parser in a test
    own = f'{{model_name="food",target_model_name="llama-food",fairness_id="{OTHER}",priority="2"}}'
    assert f"llm_d_epp_request_total{own} 1" in lines
    assert f"stellwerk_metric_rows {MAX_ROWS + 2}" in lines


def test_no_label_value_breaks_the_page() -> None:
    meters = Meters()
    for name in ('a"b', "a\\", "a\nb", "\x00", "é" * 200, "a}b{,="):
        meters.decided(msgspec.structs.replace(PICKED, public_model=name), request_bytes=1, fairness_id=name)
    assert page(meters).count("\nllm_d_epp_request_total{") == 6
    list(text_string_to_metric_families(page(meters)))
