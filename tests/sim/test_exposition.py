"""Families in the Python client's format, compared with what that client writes."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.utils import floatToGoString

from stellwerk.sim import exposition


@pytest.mark.parametrize(
    "value",
    [
        0,
        1,
        11.0,
        0.25,
        999999.0,
        1e6,
        1795337465.78,
        1.7953374910097191e9,
        1e16,
        1e-7,
        -3.0,
        float("inf"),
        float("-inf"),
    ],
)
def test_numbers_are_written_as_the_client_does(value: float) -> None:
    assert exposition.number(value) == floatToGoString(value)  # type: ignore[no-untyped-call]
    assert exposition.number(float("nan")) == "NaN"


def test_a_histogram_and_a_counter_are_written_as_the_client_does() -> None:
    registry = CollectorRegistry()
    theirs = Histogram("h", "Text.", ["m"], buckets=[0.5, 1, 2500000], registry=registry).labels('a"b\\c\n')
    counted = Counter("c", "Count.", ["m"], registry=registry).labels("x")
    ours = exposition.Histogram("h", "Text.", {"m": 'a"b\\c\n'}, [0.5, 1, 2500000], 7.0)
    values = exposition.Values("c", "Count.", "counter", 7.0)
    key = values.series({"m": "x"})
    for value in (0.5, 0.7, 3.0, 1e9):
        theirs.observe(value)
        ours.observe(value)
        counted.inc(2)
        values.add(key, 2)
        lines = [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
        own = [line for line in (ours.render() + values.render()).splitlines() if "_created" not in line]
        assert own == lines


def test_a_series_that_is_set_again_to_the_same_value_costs_no_new_text() -> None:
    values = exposition.Values("g", "Text.", "gauge")
    values.set("", 1.0)
    text = values.render()
    values.set("", 1.0)
    assert values.render() is text
    values.set("", 2.0)
    assert values.render() == text.replace("1.0", "2.0")
    values.remove("")
    assert values.render() == "# HELP g Text.\n# TYPE g gauge\n"
