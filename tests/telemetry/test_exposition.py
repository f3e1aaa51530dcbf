"""Pages as engines and exporters write them, and as nobody should."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from stellwerk.telemetry.exposition import MAX_LABELS, MAX_LINE_BYTES, MAX_SERIES, Page, parse_labels


def values(text: str, family: str) -> list[float]:
    return [series.value for series in Page(text.encode()).series(family.encode())]


def test_only_the_whole_name_is_the_family() -> None:
    page = 'queue_by_reason{reason="a"} 7\nqueue_total 8\nqueue{engine="0"} 3\n'
    assert values(page, "queue") == [3.0]


def test_a_family_needs_neither_help_nor_type_nor_labels_nor_a_last_newline() -> None:
    assert values("queue 4", "queue") == [4.0]
    assert values("queue\t4", "queue") == [4.0]
    assert values('queue{a="b"}4', "queue") == [4.0]


def test_numbers_may_be_written_in_every_way_of_the_format() -> None:
    text = 'q 1e3\nq -2.5E-1\nq +Inf\nq -Inf\nq 0.1 1395066363000\nq 7 # {trace_id="a"} 0.5\n'
    assert values(text, "q") == [1000.0, -0.25, math.inf, -math.inf, 0.1, 7.0]
    assert math.isnan(values("q NaN", "q")[0])


def test_what_is_not_a_number_is_nan_and_not_a_number_of_another_language() -> None:
    for text in ("1_000", "twelve", "0x10", "1,5", "--1"):
        assert math.isnan(values(f"q {text}", "q")[0]), text


def test_carriage_returns_are_no_part_of_values() -> None:
    assert values('# TYPE q gauge\r\nq 1\r\nq{a="b"} 2\r\n', "q") == [1.0, 2.0]


def test_a_family_that_stands_twice_counts_once() -> None:
    assert values("q 1\nother 5\nq 2\n", "q") == [1.0]


def test_families_are_found_in_any_order() -> None:
    page = Page(b"a 1\nb 2\nc 3\n")
    found = [page.series(name)[0].value for name in (b"c", b"a", b"b", b"c", b"a")]
    assert found == [3.0, 1.0, 2.0, 3.0, 1.0]
    assert page.series(b"d") == []


def test_braces_commas_quotes_and_newlines_may_stand_in_label_values() -> None:
    page = Page(rb'q{a="}{, ",b="say \"hi\"",c="x\\y\nz"} 1' + b"\n")
    (series,) = page.series(b"q")
    assert series.value == 1.0
    assert series.labels == {"a": "}{, ", "b": 'say "hi"', "c": "x\\y\nz"}


def test_a_label_inside_another_ones_value_is_not_found() -> None:
    assert parse_labels(rb'a=",block_size=\"9\"",block_size="16"') == {"a": ',block_size="9"', "block_size": "16"}


def test_timestamps_are_kept() -> None:
    (series,) = Page(b'q{a="b"} 1 17\n').series(b"q")
    assert series.timestamp == 17.0


def test_a_line_that_cannot_be_read_is_no_number_and_harms_nothing_else() -> None:
    page = Page(b'q{a="b\nr 1\n')
    assert [math.isnan(series.value) for series in page.series(b"q")] == [True]
    assert page.series(b"r")[0].value == 1.0


def test_the_number_of_series_read_is_bounded() -> None:
    page = Page(b"".join(b'q{i="%d"} 1\n' % index for index in range(MAX_SERIES + 10)))
    assert len(page.series(b"q")) == MAX_SERIES


def test_long_lines_many_labels_and_many_near_misses_are_cut_short() -> None:
    assert math.isnan(Page(b'q{a="' + b"x" * MAX_LINE_BYTES + b'"} 1\n').series(b"q")[0].value)
    assert len(parse_labels(b",".join(b'l%d="x"' % number for number in range(1000)))) == MAX_LABELS
    assert Page(b"qq 1\n" * 1000 + b"q 1\n").series(b"q") == []


LINES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.builds(
            lambda name, labels, value: b"%s%s %s" % (name, labels, value),
            st.sampled_from([b"q", b"q_total", b"qq", b"r"]),
            st.sampled_from([b"", b"{}", b'{a="b"}', b'{a="\\""}', b'{a="}', b'{a="x",b="y"}', b"{"]),
            st.one_of(st.floats().map(lambda number: repr(number).encode()), st.binary(max_size=8)),
        ),
    ),
    max_size=12,
)


@given(lines=LINES, newline=st.sampled_from([b"\n", b"\r\n"]))
@settings(deadline=None, max_examples=300)
def test_no_page_raises_and_every_series_has_labels(lines: list[bytes], newline: bytes) -> None:
    page = Page(newline.join(lines))
    for name in (b"q", b"r", b"q_total", b"missing", b"q"):
        for series in page.series(name):
            assert isinstance(series.value, float)
            assert all(isinstance(value, str) for value in series.labels.values())


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "ab", "abc"]),
            st.dictionaries(st.sampled_from(["x", "y"]), st.text(max_size=6), max_size=2),
            st.floats(allow_nan=False),
        ),
        max_size=8,
    )
)
@settings(deadline=None, max_examples=150)
def test_what_prometheus_own_parser_reads_is_what_we_read(rows: list[tuple[str, dict[str, str], float]]) -> None:
    rows.sort(key=lambda row: row[0])
    lines = []
    for name, labels, value in rows:
        pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{pairs}}} {value!r}" if pairs else f"{name} {value!r}")
    text = "\n".join(lines) + "\n"
    expected = [
        (sample.name, dict(sample.labels), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    page = Page(text.encode())
    names = dict.fromkeys(row[0] for row in rows)
    read = [(name, series.labels, series.value) for name in names for series in page.series(name.encode())]
    assert read == expected


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
