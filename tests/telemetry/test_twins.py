"""The old names, for dashboards that ask for them."""

import pytest

from stellwerk.telemetry.render import Family, Histogram
from stellwerk.telemetry.twins import PREFIX, TWINS, twin_of

M = ("model_name", "target_model_name", "fairness_id", "priority")


def test_labels_that_came_later_are_summed_up() -> None:
    rows = ((("m", "t", "a", "0"), 1), (("m", "t", "b", "0"), 2), (("m", "t", "b", "5"), 4), (("n", "t", "b", "5"), 8))
    twin = twin_of(Family("llm_d_epp_request_total", "counter", "Requests.", M, rows))
    assert twin is not None
    assert (twin.name, twin.kind) == ("inference_objective_request_total", "counter")
    assert twin.labels == ("model_name", "target_model_name", "priority")
    assert dict(twin.rows) == {("m", "t", "0"): 3, ("m", "t", "5"): 4, ("n", "t", "5"): 8}
    assert twin.help == "Deprecated: use llm_d_epp_request_total. Requests."


def test_histograms_are_added_and_the_new_ones_stay_as_they_are() -> None:
    one, other = Histogram((1.0, 2.0)), Histogram((1.0, 2.0))
    for value in (0.5, 1.5):
        one.observe(value)
    other.observe(9.0)
    rows = ((("m", "t", "a", "0"), one), (("m", "t", "b", "0"), other))
    twin = twin_of(Family("llm_d_epp_request_size_bytes", "histogram", "", M, rows))
    assert twin is not None
    ((labels, whole),) = twin.rows
    assert (twin.name, labels) == ("inference_objective_request_sizes", ("m", "t"))
    assert isinstance(whole, Histogram)
    assert (whole.counts, whole.sum) == ([1, 1, 1], 11.0)
    assert (one.counts, other.counts) == ([1, 1, 0], [0, 0, 1])


def test_a_label_that_was_renamed_has_its_old_name() -> None:
    labels = ("name", "model_server_endpoint")
    twin = twin_of(Family("llm_d_epp_per_endpoint_queue_size", "gauge", "", labels, ((("p", "ns/a:8000"), 3),)))
    assert twin is not None
    assert (twin.name, twin.labels) == ("inference_pool_per_pod_queue_size", ("name", "model_server_pod"))
    assert twin.rows == ((("p", "ns/a:8000"), 3),)


@pytest.mark.parametrize("name", ["llm_d_epp_request_ttft_seconds", "stellwerk_leader", "info"])
def test_what_never_had_another_name_has_no_twin(name: str) -> None:
    assert twin_of(Family(name, "gauge", "", (), (((), 1),))) is None


def test_old_names_are_told_apart() -> None:
    assert len({twin.name for twin in TWINS.values()}) == len(TWINS)
    assert not any(name.startswith(PREFIX) for name in TWINS)
