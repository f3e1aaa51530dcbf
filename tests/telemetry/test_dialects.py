"""Real vLLM pages, and pages of the other engines as their sources write them."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.model.sample import Sample
from stellwerk.telemetry.dialects import (
    DIALECTS,
    SGLANG,
    TRITON,
    TRITON_TRTLLM,
    TRTLLM_SERVE,
    VLLM,
    dialect_of,
    read,
    spec,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "vllm-0.32.0"


def sample_of(text: str, engine: str = "vllm") -> Sample:
    sample = read(text.encode(), dialect_of(engine))
    assert sample is not None
    return sample


def test_a_loaded_vllm_is_read_from_its_real_page() -> None:
    sample = read((FIXTURES / "metrics-loaded.txt").read_bytes(), VLLM)
    assert sample == Sample(
        waiting=14.0,
        running=16.0,
        kv_use=0.0032350607336874004,
        running_adapters=frozenset({"sql-lora", "chat-lora"}),
        waiting_adapters=frozenset({"sql-lora", "chat-lora"}),
        max_adapters=2,
        block_size_tokens=128,
        block_count=16384,
        started_at=1795337465.78,
        progress=6706.0,
        prefix_queries=3703.0,
        prefix_hits=0.0,
    )


def test_an_idle_vllm_is_read_from_its_real_page() -> None:
    sample = read((FIXTURES / "metrics-idle.txt").read_bytes(), VLLM)
    assert sample is not None
    assert (sample.waiting, sample.running, sample.kv_use, sample.progress) == (0.0, 0.0, 0.0, 0.0)
    assert sample.max_adapters is None
    assert sample.implausible == ()


def test_the_adapter_state_with_the_largest_value_is_the_present_one() -> None:
    state = 'vllm:lora_requests_info{{max_lora="4",running_lora_adapters="{}",waiting_lora_adapters="{}"}} {}\n'
    sample = sample_of(
        state.format("old", "", "1.7e9") + state.format("a, b", " c ,", "1.8e9") + state.format("older", "", "NaN")
    )
    assert sample.running_adapters == {"a", "b"}
    assert sample.waiting_adapters == {"c"}
    assert sample.max_adapters == 4


def test_the_kv_share_has_an_older_name_too() -> None:
    assert sample_of("vllm:gpu_cache_usage_perc 0.25\n").kv_use == 0.25
    both = "vllm:gpu_cache_usage_perc 0.25\nvllm:kv_cache_usage_perc 0.5\n"
    assert sample_of(both).kv_use == 0.5


def test_data_parallel_engines_of_one_page_are_added_up_and_their_kv_share_is_the_mean() -> None:
    sample = sample_of(
        'vllm:num_requests_running{engine="0"} 3\nvllm:num_requests_running{engine="1"} 5\n'
        'vllm:num_requests_waiting{engine="0"} 1\nvllm:num_requests_waiting{engine="1"} 0\n'
        'vllm:kv_cache_usage_perc{engine="0"} 0.2\nvllm:kv_cache_usage_perc{engine="1"} 0.6\n'
        'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="100"} 1\n'
        'vllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="100"} 1\n'
    )
    assert (sample.running, sample.waiting) == (8.0, 1.0)
    assert sample.kv_use == pytest.approx(0.4)
    assert (sample.block_size_tokens, sample.block_count) == (16, 200)


def test_series_that_repeat_one_engine_count_once_and_the_newest_wins() -> None:
    assert sample_of('vllm:num_requests_waiting{m="a"} 3\nvllm:num_requests_waiting{m="b"} 4\n').waiting == 3.0
    assert sample_of('vllm:num_requests_waiting{m="a"} 3 10\nvllm:num_requests_waiting{m="b"} 4 20\n').waiting == 4.0


SGLANG_PAGE = """\
# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 5.0
sglang:num_queue_reqs{engine_type="unified",model_name="m",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 2.0
sglang:token_usage{engine_type="unified",model_name="m",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 0.28
sglang:realtime_tokens_total{mode="prefill_compute",tp_rank="0"} 100
sglang:realtime_tokens_total{mode="prefill_cache",tp_rank="0"} 50
sglang:realtime_tokens_total{mode="decode",tp_rank="0"} 30
sglang:page_size{tp_rank="0"} 64
sglang:num_pages{tp_rank="0"} 1000
sglang:prompt_tokens_total{model_name="m"} 150
sglang:cached_tokens_total{model_name="m",cache_source="device"} 40
sglang:cached_tokens_total{model_name="m",cache_source="host"} 10
"""


def test_an_sglang_page_is_read() -> None:
    sample = sample_of(SGLANG_PAGE, "sglang")
    assert (sample.running, sample.waiting, sample.kv_use) == (5.0, 2.0, 0.28)
    assert (sample.block_size_tokens, sample.block_count) == (64, 1000)
    assert sample.progress == 130.0
    assert (sample.prefix_queries, sample.prefix_hits) == (150.0, 50.0)


def test_older_sglang_tells_its_blocks_in_labels() -> None:
    sample = sample_of('sglang:cache_config_info{page_size="32",num_pages="77"} 1\n', "sglang")
    assert (sample.block_size_tokens, sample.block_count) == (32, 77)


def test_sglang_priorities_and_tensor_ranks_repeat_a_queue_and_data_parallel_ranks_add_to_it() -> None:
    sample = sample_of(
        'sglang:num_queue_reqs{dp_rank="0",tp_rank="0",priority=""} 2\n'
        'sglang:num_queue_reqs{dp_rank="0",tp_rank="1",priority=""} 2\n'
        'sglang:num_queue_reqs{dp_rank="0",tp_rank="0",priority="5"} 1\n'
        'sglang:num_queue_reqs{dp_rank="1",tp_rank="0",priority=""} 4\n',
        "sglang",
    )
    assert sample.waiting == 6.0


def test_a_trtllm_serve_page_is_read() -> None:
    sample = sample_of(
        'trtllm_kv_cache_utilization{model_name="m",engine_type="trtllm"} 0.5\n'
        'trtllm_num_requests_running{model_name="m",engine_type="trtllm"} 4\n'
        'trtllm_num_requests_waiting{model_name="m",engine_type="trtllm"} 9\n'
        'trtllm_kv_cache_max_blocks{model_name="m"} 6239\n'
        'trtllm_kv_cache_tokens_per_block{model_name="m"} 32\n'
        'trtllm_kv_cache_reused_blocks_total{model_name="m"} 30\n'
        'trtllm_kv_cache_missed_blocks_total{model_name="m"} 70\n',
        "trtllm-serve",
    )
    assert (sample.running, sample.waiting, sample.kv_use) == (4.0, 9.0, 0.5)
    assert (sample.block_size_tokens, sample.block_count) == (32, 6239)
    assert (sample.prefix_queries, sample.prefix_hits) == (100.0, 30.0)
    assert sample.progress is None


def test_a_triton_trtllm_page_is_read_by_its_labels() -> None:
    sample = sample_of(
        'nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="context",version="1"} 1\n'
        'nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 6\n'
        'nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 3\n'
        'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="tensorrt_llm",version="1"} 64\n'
        'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.75\n'
        'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="tensorrt_llm",version="1"} 6239\n',
        "triton-tensorrt-llm",
    )
    assert (sample.running, sample.waiting, sample.kv_use) == (6.0, 3.0, 0.75)
    assert (sample.block_size_tokens, sample.block_count) == (64, 6239)


def test_tritons_models_are_added_up_and_its_execution_counter_is_progress_not_load() -> None:
    sample = sample_of(
        'nv_inference_exec_count{model="a",version="1"} 900\nnv_inference_exec_count{model="b",version="1"} 100\n'
        'nv_inference_pending_request_count{model="a",version="1"} 2\n'
        'nv_inference_pending_request_count{model="b",version="1"} 1\n',
        "triton",
    )
    assert (sample.waiting, sample.running, sample.progress) == (3.0, None, 1000.0)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "1e30", "10000001", "many"])
def test_an_implausible_queue_is_dropped_and_named_while_the_rest_counts(value: str) -> None:
    sample = sample_of(f"vllm:num_requests_waiting {value}\nvllm:num_requests_running 2\n")
    assert sample.waiting is None
    assert sample.running == 2.0
    assert sample.implausible == ("vllm:num_requests_waiting",)


def test_one_implausible_engine_of_several_makes_the_whole_value_unknown() -> None:
    sample = sample_of('vllm:num_requests_waiting{engine="0"} 1\nvllm:num_requests_waiting{engine="1"} NaN\n')
    assert sample.waiting is None
    assert sample.implausible == ("vllm:num_requests_waiting",)


@pytest.mark.parametrize(
    ("value", "kv_use"), [("1.004", 1.0), ("1", 1.0), ("1.1", None), ("37.5", None), ("-0.01", None)]
)
def test_a_kv_share_is_at_most_one_but_for_rounding(value: str, kv_use: float | None) -> None:
    assert sample_of(f"vllm:kv_cache_usage_perc {value}\n").kv_use == kv_use


def test_blocks_that_the_engine_does_not_know_yet_are_no_fault() -> None:
    sample = sample_of('vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1\n')
    assert (sample.block_size_tokens, sample.block_count) == (16, None)
    assert sample.implausible == ()


def test_endless_adapter_lists_are_dropped_and_named() -> None:
    names = ",".join(f"adapter-{index}" for index in range(5000))
    sample = sample_of(f'vllm:lora_requests_info{{max_lora="1",running_lora_adapters="{names}"}} 1\n')
    assert sample.running_adapters == frozenset()
    assert sample.implausible == ("vllm:lora_requests_info",)


def test_a_page_of_another_program_is_not_recognised() -> None:
    for text in (
        "",
        "<html>",
        "process_start_time_seconds 1.7e9\n",
        '[{"gpuMemUsage": 1}]',
        "sglang:num_queue_reqs 1\n",
    ):
        assert read(text.encode(), VLLM) is None


def test_an_unknown_engine_speaks_vllm() -> None:
    assert dialect_of("llama.cpp") is VLLM
    assert {VLLM, SGLANG, TRTLLM_SERVE, TRITON_TRTLLM, TRITON} == set(DIALECTS.values())


def test_specs_are_read_as_the_reference_writes_them() -> None:
    assert spec("a{b=c,d=e}").match == (("b", "c"), ("d", "e"))
    assert spec("a").match == ()


FAMILIES = sorted(
    {
        wanted.family
        for dialect in DIALECTS.values()
        for field in (dialect.waiting, dialect.running, dialect.kv_use, dialect.block_size, *dialect.progress)
        for wanted in field
    }
    | {b"vllm:lora_requests_info", b"process_start_time_seconds"}
)
LABELS = st.sampled_from(
    [b"", b'{engine="0"}', b'{engine="1",block_size="x"}', b'{max_lora="9",running_lora_adapters="a,"}']
)
VALUES = st.one_of(st.floats().map(lambda number: repr(number).encode()), st.binary(max_size=6))
LINES = st.lists(st.tuples(st.sampled_from(FAMILIES), LABELS, VALUES), max_size=10)


@given(lines=LINES, engine=st.sampled_from(sorted(DIALECTS)), junk=st.binary(max_size=30))
@settings(deadline=None, max_examples=300)
def test_whatever_the_page_says_what_is_believed_is_plausible(
    lines: list[tuple[bytes, bytes, bytes]], engine: str, junk: bytes
) -> None:
    text = b"\n".join([*(name + labels + b" " + value for name, labels, value in lines), junk])
    sample = read(text, DIALECTS[engine])
    if sample is None:
        return
    for count in (sample.waiting, sample.running):
        assert count is None or 0 <= count <= 2e7
    assert sample.kv_use is None or 0 <= sample.kv_use <= 1
    for number in (sample.progress, sample.started_at, sample.prefix_hits, sample.prefix_queries):
        assert number is None or (math.isfinite(number) and number >= 0)
    for blocks in (sample.block_size_tokens, sample.block_count):
        assert blocks is None or blocks >= 1
