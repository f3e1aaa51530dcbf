"""The metrics page against recorded pages of the real server: families, kinds, help, labels, buckets, order."""

import re
from pathlib import Path

from stellwerk.sim.http_metrics import HttpMetrics, ProcessMetrics
from stellwerk.sim.job import Finished, FirstToken, Job, Stepped
from stellwerk.sim.metrics import EngineMetrics, one_two_five
from stellwerk.sim.server_model import ServerModel
from stellwerk.sim.shape import Shape, StepTime

FIXTURES = Path(__file__).parents[1] / "fixtures" / "vllm-0.32.0"
_SAMPLE = re.compile(r"([a-z0-9_:]+)(\{.*\})? (\S+)")
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def model() -> ServerModel:
    """As the recorded server was started."""
    return ServerModel(
        Shape(step=StepTime(base_seconds=0.01), block_size=128, block_count=16_384, max_sequences=512, max_adapters=2),
        reports_steps=True,
    )


def metrics(of: ServerModel) -> EngineMetrics:
    """The page's engine part."""
    return EngineMetrics(of, "tiny", 4_096, 1_795_337_491.01)


def shape_of(page: str) -> list[str]:
    """A page without its values: heads, and each series with its labels' names, `le` with its value."""
    lines = []
    for line in page.splitlines():
        matched = _SAMPLE.fullmatch(line)
        if matched is None:
            lines.append(line)
        elif not line.startswith(("http_", "vllm:lora_requests_info")):
            labels = [
                name + (f"={value}" if name in ("le", "reason", "source") else "")
                for name, value in _LABEL.findall(matched[2] or "")
            ]
            lines.append(f"{matched[1]} {labels}")
    return lines


def values_of(page: str, name: str) -> dict[str, float]:
    """Series of one name: label text to value."""
    return {
        matched[2] or "": float(matched[3])
        for line in page.splitlines()
        if (matched := _SAMPLE.fullmatch(line)) and matched[1] == name
    }


def test_the_page_has_the_shape_of_the_recorded_one() -> None:
    http = HttpMetrics(0.0)
    http.answered("/v1/models", "GET", 200, (0, 10), 0.01)
    page = ProcessMetrics(1.0).render() + metrics(model()).render() + http.render()
    recorded = (FIXTURES / "metrics-loaded.txt").read_text()
    assert shape_of(page) == shape_of(recorded)
    assert 45_000 < len(page) < 60_000


def test_the_cache_config_is_labelled_as_recorded() -> None:
    def labels(page: str) -> dict[str, str]:
        line = next(line for line in page.splitlines() if line.startswith("vllm:cache_config_info{"))
        return dict(_LABEL.findall(line))

    ours, theirs = labels(metrics(model()).render()), labels((FIXTURES / "metrics-loaded.txt").read_text())
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name] != theirs[name]} == {"kv_cache_memory_bytes"}


def test_a_server_without_adapters_has_no_adapter_family() -> None:
    assert "lora_requests_info" not in metrics(ServerModel(Shape())).render()


def test_load_shows_as_running_waiting_and_cache_use() -> None:
    busy = ServerModel(
        Shape(
            step=StepTime(base_seconds=1.0),
            block_size=4,
            block_count=64,
            max_sequences=2,
            max_batched_tokens=32,
            max_adapters=1,
        )
    )
    page = metrics(busy)
    for number, adapter in enumerate(("a", "b", "", "")):
        busy.submit(Job(number, 8, 9, adapter=adapter), 0.0)
    busy.advance(0.5)
    text = page.render()
    label = '{engine="0",model_name="tiny"}'
    assert values_of(text, "vllm:num_requests_running") == {label: 2}
    assert values_of(text, "vllm:num_requests_waiting") == {label: 2}
    assert values_of(text, "vllm:kv_cache_usage_perc") == {label: 4 / 64}
    by_reason = values_of(text, "vllm:num_requests_waiting_by_reason")
    assert [by_reason[key] for key in sorted(by_reason)] == [1, 1]


def test_the_live_adapter_state_has_the_largest_value() -> None:
    of = model()
    page = metrics(of)
    for number, adapter in enumerate(("a", "b")):
        of.submit(Job(number, 8, 1, adapter=adapter), float(number))
        page.adapters_changed()
        of.advance(number + 0.001)
        page.adapters_changed()
        text = page.render()
        states = values_of(text, "vllm:lora_requests_info")
        live = max(states, key=lambda key: states[key])
        assert f'running_lora_adapters="{adapter}"' in live
        assert 'max_lora="2"' in live
        of.advance(number + 0.9)
    assert len(states) >= 3


def test_a_wedged_engine_reports_the_numbers_of_its_last_moment() -> None:
    of = model()
    page = metrics(of)
    of.submit(Job(1, 8, 9), 0.0)
    of.advance(0.0)
    page.refresh()
    of.stall()
    of.submit(Job(2, 8, 9), 0.0)
    text = page.render()
    assert set(values_of(text, "vllm:num_requests_running").values()) == {1}
    assert set(values_of(text, "vllm:num_requests_waiting").values()) == {0}


def test_what_happens_is_counted_in_tokens_requests_and_seconds() -> None:
    of = model()
    page = metrics(of)
    of.submit(Job(1, 200, 5, (7,)), 0.0)
    for event in of.advance(10.0):
        match event:
            case Stepped():
                page.stepped(event)
            case FirstToken():
                page.first_token(event, event.at)
            case Finished():
                page.job_finished(event)
                page.ended("length")
            case _:
                raise AssertionError(event)
    text = page.render()

    def only(name: str) -> float:
        (value,) = values_of(text, name).values()
        return value

    assert only("vllm:prompt_tokens_total") == 200
    assert only("vllm:generation_tokens_total") == 5
    assert only("vllm:prefix_cache_queries_total") == 200
    assert only("vllm:time_to_first_token_seconds_count") == 1
    assert only("vllm:inter_token_latency_seconds_count") == 4
    assert abs(only("vllm:e2e_request_latency_seconds_sum") - 0.05) < 1e-9
    assert only("vllm:iteration_tokens_total_count") == 5
    assert only("vllm:iteration_tokens_total_sum") == 204
    by_reason = values_of(text, "vllm:request_success_total")
    assert sum(by_reason.values()) == 1
    assert by_reason['{engine="0",finished_reason="length",model_name="tiny"}'] == 1


def test_token_buckets_follow_the_context_length() -> None:
    assert one_two_five(4_096)[-3:] == [500, 1000, 2000]
    assert one_two_five(1) == [1]
