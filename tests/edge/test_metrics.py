"""The whole page, read back by Prometheus' own parser."""

import math
import os
import resource
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stellwerk.edge.metrics import MAX_ENDPOINT_ROWS, MetricsPage, kernel_families, process_families
from stellwerk.model.view import EndpointView, PoolsView, PoolView
from stellwerk.telemetry.meters import Meters
from stellwerk.telemetry.render import counter


def endpoint(name: str, waiting: float | None = 0.0, health: str = "healthy", age: float | None = 0.1) -> EndpointView:
    return EndpointView(
        key=f"default/{name}:8000",
        address="10.0.0.1:8000",
        engine="vllm",
        health=health,
        health_reason="",
        waiting=waiting,
        running=None if waiting is None else waiting * 2,
        kv_use=None if waiting is None else waiting / 10,
        age_seconds=age,
        requests=1,
        tokens=50,
        models=None,
    )


def pool(name: str, *endpoints: EndpointView) -> PoolView:
    return PoolView(name=name, endpoints=endpoints, saturation=0.75, saturation_cause="queue")


def read(view: PoolsView) -> dict[tuple[str, ...], float]:
    page = "".join(
        MetricsPage(Meters(), lambda: view, [lambda: [counter("other_total", "From elsewhere.", 7)]]).pieces()
    )
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_pools_have_averages_over_the_endpoints_that_are_known() -> None:
    rows = read(
        PoolsView(1, (pool("default/p", endpoint("a", 2.0), endpoint("b", 4.0), endpoint("c", None, "unreachable")),))
    )
    assert rows["llm_d_epp_average_queue_size", "default/p"] == 3.0
    assert rows["llm_d_epp_average_running_requests", "default/p"] == 6.0
    assert rows["llm_d_epp_average_kv_cache_utilization", "default/p"] == pytest.approx(0.3)
    assert rows["llm_d_epp_std_dev_queue_size", "default/p"] == 1.0
    assert rows["llm_d_epp_ready_endpoints", "default/p"] == 2.0
    assert rows["llm_d_epp_per_endpoint_queue_size", "default/p", "default/b:8000"] == 4.0
    assert ("llm_d_epp_per_endpoint_queue_size", "default/p", "default/c:8000") not in rows
    assert rows["llm_d_epp_flow_control_pool_saturation", "default/p", "effective"] == 0.75
    assert rows["stellwerk_endpoint_health", "default/p", "default/c:8000", "unreachable"] == 1.0


def test_every_old_name_is_on_the_page_beside_the_new_one() -> None:
    rows = read(PoolsView(1, (pool("default/p", endpoint("a", 2.0)),)))
    for old, new in (
        ("inference_pool_average_queue_size", "llm_d_epp_average_queue_size"),
        ("inference_pool_ready_pods", "llm_d_epp_ready_endpoints"),
    ):
        assert rows[old, "default/p"] == rows[new, "default/p"]
    assert rows["inference_pool_per_pod_queue_size", "default/p", "default/a:8000"] == 2.0


def test_a_pool_of_which_nothing_is_known_has_no_averages() -> None:
    rows = read(PoolsView(1, (pool("default/empty"), pool("default/silent", endpoint("a", None, "unknown", None)))))
    assert rows["llm_d_epp_ready_endpoints", "default/empty"] == 0.0
    assert not any(key[0].startswith("llm_d_epp_average") for key in rows)
    assert not any(key[0] == "stellwerk_endpoint_signal_age_seconds" for key in rows)


def test_other_parts_offer_their_own_and_the_process_is_there() -> None:
    rows = read(PoolsView(1, (), prefix_index_blocks=5))
    assert rows["other_total",] == 7.0
    assert rows["process_cpu_seconds_total",] > 0
    assert any(key[0] == "llm_d_epp_info" for key in rows)
    assert any(key[0] == "llm_d_epp_prefix_indexer_size" and value == 5.0 for key, value in rows.items())
    assert not any(math.isnan(value) for value in rows.values())


def test_the_process_shows_what_generic_dashboards_ask_for() -> None:
    with Path(os.devnull).open():
        rows = {family.name: family.rows[0][1] for family in process_families()}
        open_count = len(os.listdir("/proc/self/fd")) - 1
    assert rows["process_open_fds"] == open_count
    assert rows["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resident, virtual, peak = (
        rows[name]
        for name in (
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "stellwerk_process_peak_memory_bytes",
        )
    )
    assert isinstance(resident, int)
    assert isinstance(virtual, int)
    assert isinstance(peak, int)
    assert 1_000_000 < resident < virtual
    assert resident < peak * 2
    started = rows["process_start_time_seconds"]
    assert isinstance(started, float)
    assert 0 < time.time() - started < 7 * 24 * 3600


def test_a_system_without_proc_leaves_out_what_it_does_not_tell(tmp_path: Path) -> None:
    assert [family.name for family in kernel_families(tmp_path)] == ["process_max_fds"]


def test_any_name_of_the_command_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "self/fd").mkdir(parents=True)
    rest = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "self/stat").write_text(f"7 (a) b ) 9 (c) S {rest}\n")
    (tmp_path / "stat").write_text("cpu  1 2\nbtime 1000\nprocesses 5\n")
    rows = {family.name: family.rows[0][1] for family in kernel_families(tmp_path)}
    assert rows["process_virtual_memory_bytes"] == 23
    assert rows["process_resident_memory_bytes"] == 24 * resource.getpagesize()
    assert rows["process_start_time_seconds"] == 1000 + 22 / os.sysconf("SC_CLK_TCK")


def test_of_very_many_endpoints_the_averages_count_all_and_the_rows_are_bounded() -> None:
    many = PoolsView(1, (pool("default/p", *(endpoint(str(number), 1.0) for number in range(MAX_ENDPOINT_ROWS + 5))),))
    page = "".join(MetricsPage(Meters(), lambda: many).pieces())
    assert f'llm_d_epp_ready_endpoints{{name="default/p"}} {MAX_ENDPOINT_ROWS + 5}' in page
    assert page.count("\nllm_d_epp_per_endpoint_queue_size{") == MAX_ENDPOINT_ROWS
