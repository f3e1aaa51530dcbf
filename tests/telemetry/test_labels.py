"""Label values from strangers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.telemetry.labels import MAX_LABEL_BYTES, OTHER, Guard, bounded


def test_a_megabyte_becomes_a_label() -> None:
    label = bounded("m" * 1_000_000)
    assert len(label) == MAX_LABEL_BYTES
    assert label.endswith("...")


def test_a_label_is_cut_between_characters() -> None:
    assert bounded("é" * 100) == "é" * 62 + "..."


def test_an_ordinary_name_stays_as_it_is() -> None:
    assert bounded("meta-llama/Llama-3.1-8B-Instruct") == "meta-llama/Llama-3.1-8B-Instruct"


def test_control_characters_become_question_marks() -> None:
    assert bounded("a\nb\x00c\ud800") == "a?b?c?"


def test_names_beyond_the_limit_are_other_and_the_first_ones_stay() -> None:
    guard = Guard(2)
    assert [guard.fold(name) for name in ("a", "b", "c", "a", "b")] == ["a", "b", OTHER, "a", "b"]


def test_configured_names_never_fold_and_take_no_place() -> None:
    guard = Guard(1)
    guard.configure(["x", "y"])
    assert [guard.fold(name) for name in ("x", "y", "a", "b")] == ["x", "y", "a", OTHER]
    guard.configure(["y"])
    assert guard.fold("x") == OTHER
    assert guard.is_configured("y")


@given(st.text(max_size=300))
@settings(deadline=None, max_examples=200)
def test_every_label_is_short_printable_text(text: str) -> None:
    label = bounded(text)
    assert len(label.encode()) <= MAX_LABEL_BYTES
    assert label == "" or label.isprintable()
