"""The text page, read back by Prometheus' own parser."""

import math
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from stellwerk.telemetry.render import Family, Histogram, counter, gauge, text


def read_back(*families: Family) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page = "".join(text(families))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_numbers_without_labels() -> None:
    assert read_back(counter("a_total", "A.", 3), gauge("b", "B.", 0.25)) == {("a_total", ()): 3.0, ("b", ()): 0.25}


def test_a_histogram_is_cumulative_and_its_bounds_inclusive() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 7.0):
        histogram.observe(value)
    rows = read_back(Family("h", "histogram", "H.", ("m",), ((("x",), histogram),)))
    assert rows == {
        ("h_bucket", (("le", "1"), ("m", "x"))): 2.0,
        ("h_bucket", (("le", "2"), ("m", "x"))): 4.0,
        ("h_bucket", (("le", "+Inf"), ("m", "x"))): 5.0,
        ("h_count", (("m", "x"),)): 5.0,
        ("h_sum", (("m", "x"),)): 12.0,
    }


def test_a_histogram_without_labels() -> None:
    histogram = Histogram((0.1,))
    histogram.observe(0.05)
    rows = read_back(Family("h", "histogram", "H.", (), (((), histogram),)))
    assert rows[("h_bucket", (("le", "0.1"),))] == 1.0
    assert rows[("h_count", ())] == 1.0


def test_bounds_are_written_as_go_writes_them() -> None:
    """The texts are those of `strconv.FormatFloat(bound, 'g', -1, 64)`."""
    texts = {
        0.00005: "5e-05",
        0.0001: "0.0001",
        0.00205: "0.00205",
        1.0: "1",
        1.25: "1.25",
        3600.0: "3600",
        524288.0: "524288",
        999999.0: "999999",
        1e6: "1e+06",
        1048576.0: "1.048576e+06",
        16777216.0: "1.6777216e+07",
        1073741824.0: "1.073741824e+09",
        1e21: "1e+21",
    }
    page = "".join(text([Family("h", "histogram", "H.", (), (((), Histogram(tuple(texts))),))]))
    assert re.findall(r'le="([^"]*)"', page) == [*texts.values(), "+Inf"]


def test_a_name_is_written_once() -> None:
    assert read_back(counter("a_total", "A.", 1), counter("a_total", "Other.", 2)) == {("a_total", ()): 1.0}


def test_a_long_page_comes_in_pieces() -> None:
    rows = tuple(((str(number),), number) for number in range(5000))
    pieces = list(text([Family("g", "gauge", "G.", ("n",), rows)]))
    assert len(pieces) >= 10
    assert max(map(len, pieces)) < 64 * 1024


@given(labels=st.lists(st.text(max_size=10), max_size=4, unique=True), value=st.floats())
@settings(deadline=None, max_examples=200)
def test_any_label_value_survives(labels: list[str], value: float) -> None:
    rows = read_back(Family("g", "gauge", "a \\ \n b", ("l",), tuple(((label,), value) for label in labels)))
    assert {key[1][0][1] for key in rows} == set(labels)
    assert all(read == value or (math.isnan(read) and math.isnan(value)) for read in rows.values())
