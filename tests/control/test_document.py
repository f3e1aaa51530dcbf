"""Text to documents: positions, bounds, traps, and that nothing raises."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.control.document import ReadingLimits, read
from tests.control.objects_table import GOOD


def values(text: str) -> list[object]:
    """The plain values of all documents; there must be no problem."""
    whole = read("f", text.encode())
    assert whole.problems == ()
    return [document.root.unfolded() for document in whole.documents]


def complaint(text: str | bytes, limits: ReadingLimits = ReadingLimits()) -> str:  # noqa: B008 - frozen
    """The one problem, with its position."""
    (problem,) = read("f", text if isinstance(text, bytes) else text.encode(), limits).problems
    return str(problem)


def test_documents_are_read_in_order_and_empty_ones_left_out() -> None:
    assert values("a: 1\n---\n# nothing\n---\n\n---\n[b]\n...\n") == [{"a": 1}, ["b"]]


def test_a_value_on_the_line_of_its_key_is_found_at_the_value() -> None:
    document = read("f", b"spec:\n  ports: [1, x]\n  deep:\n    a: b\n").documents[0]
    assert document.at(("spec", "ports", 1))[1:] == (2, 14)
    assert document.at(("spec", "ports"))[1:] == (2, 10)
    assert document.at(("spec", "ports"), is_key=True)[1:] == (2, 3)
    assert document.at(("spec", "deep"))[1:] == (3, 3)


def test_the_nearest_ancestor_stands_in_for_what_is_absent() -> None:
    document = read("f", b"spec:\n  a: 1\n").documents[0]
    assert document.at(("spec", "b", 3, "c"))[1:] == (1, 1)


def test_columns_count_characters_not_bytes() -> None:
    document = read("f", "{ä: ö, b: c}".encode()).documents[0]
    assert document.at(("b",))[1:] == (1, 11)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2025-06-05", "2025-06-05"),
        ("1:30", "1:30"),
        ("yes", True),
        ("n", False),
        ("~", None),
        ("-7", -7),
        ("1.5e3", 1500.0),
        ("'on'", "on"),
        ("!!str 5", "5"),
        ("1.2.3", "1.2.3"),
        ("0", 0),
        ("-", "-"),
    ],
)
def test_scalars_mean_what_kubectl_reads(text: str, value: object) -> None:
    if text == "-":
        text = "'-'"
    assert values(f"[{text}]") == [[value]]


@pytest.mark.parametrize("text", ["010", "08", "0x1F", "0o17", "0b1", "1_000", ".inf", "-.INF", ".nan", "1" * 31])
def test_numbers_on_which_readers_disagree_are_doubted(text: str) -> None:
    document = read("f", f"a: {text}\n".encode()).documents[0]
    assert [doubt.path for doubt in document.doubts] == [("a",)]


def test_a_key_that_is_not_text_is_doubted_and_read_as_written() -> None:
    document = read("f", b"{on: 1, 5: 2, 'no': 3, ~: 4}\n").documents[0]
    assert document.root.unfolded() == {"on": 1, "5": 2, "no": 3, "~": 4}
    assert [doubt.message for doubt in document.doubts] == [
        'YAML 1.1 reads the key "on" as a boolean: quote it',
        'YAML 1.1 reads the key "~" as nothing: quote it',
    ]


def test_a_repeated_key_is_doubted_and_the_first_value_stays() -> None:
    document = read("f", b"a: {b: 1, b: 2}\n").documents[0]
    assert document.root.unfolded() == {"a": {"b": 1}}
    assert [(doubt.path, doubt.line, doubt.column) for doubt in document.doubts] == [(("a", "b"), 1, 11)]


def test_merged_entries_give_way_to_written_ones() -> None:
    assert values("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\n")[0] == {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}


def test_a_byte_order_mark_is_skipped() -> None:
    assert read("f", b"\xef\xbb\xbfa: 1\n").documents[0].root.unfolded() == {"a": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f:1:1: the file is empty"),
        (" \n", "f:1:1: the file is empty"),
        ("a: b: c\n", "f:1:5: not valid YAML: mapping values are not allowed"),
        ("a:\n\t- b\n", "use spaces"),
        ("a: *b\n", "f:1:4: *b refers to nothing"),
        ("a: &a [*a]\n", "f:1:8: *a refers to nothing, or to the value that it stands in"),
        ("{[a]: b}\n", "cannot be a key"),
        ("a: \x00", "control characters are not allowed"),
        (b"a: \xff\n", "f:1:4: not UTF-8"),
        ("x: {" * 100, "nested deeper than 64 levels"),
        ("- " * 100_000, "nested deeper than 64 levels"),
        ("? " * 100_000, "nested deeper than 64 levels"),
        ("a: " + "[" * 200_000, "nested deeper than 64 levels"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(text: str | bytes, said: str) -> None:
    assert said in complaint(text)


def test_sizes_are_bounded() -> None:
    assert "more than the limit of 10" in complaint("a: 1234567890", ReadingLimits(max_bytes=10))
    assert "more than 3 documents" in complaint("---\na\n" * 4, ReadingLimits(max_documents=3))
    assert "more than 10 values" in complaint("[1,2,3,4,5,6,7,8,9,10]", ReadingLimits(max_nodes=10))


def test_aliases_count_as_what_they_stand_for() -> None:
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    layers += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 9)]
    assert "more than 200,000 values" in complaint("\n".join(layers))


def test_what_came_before_a_syntax_error_is_kept() -> None:
    whole = read("f", b"a: 1\n---\nb: [\n")
    assert len(whole.documents) == 1
    assert (whole.problems[0].line, whole.problems[0].column) == (3, 5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz_-.\u00e9\U0001f600", min_size=1), inner)
    ),
    max_leaves=12,
)


@given(JSON.filter(lambda value: isinstance(value, dict | list)))
@settings(deadline=None, max_examples=150)
def test_json_reads_as_json(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False)):
        if "\x7f" in text or any(0x80 <= ord(c) < 0xA0 or c in "\ufffe\uffff\ufeff" for c in text):
            continue  # YAML wants these escaped
        assert values(text) == [value]


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=200)
def test_no_bytes_raise(data: bytes) -> None:
    read("f", data)


@given(st.text("ab:-[]{}&*!|>'\"%@`,#?<~ \n\t0.", max_size=60))
@settings(deadline=None, max_examples=300)
def test_no_text_raises(text: str) -> None:
    for document in read("f", text.encode()).documents:
        document.root.unfolded()


@given(st.sampled_from(GOOD), st.data())
@settings(deadline=None, max_examples=150)
def test_no_mutation_of_an_object_raises(case: object, data: st.DataObject) -> None:
    text = bytearray(case.text.encode())  # type: ignore[attr-defined]
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    read("f", bytes(text))
