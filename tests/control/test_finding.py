"""Findings as text."""

from stellwerk.control.finding import Finding, advice, dotted, nearest, shown


def test_a_finding_reads_like_a_compiler_message() -> None:
    assert str(Finding("a.yaml", 3, 7, "spec.x", "is wrong")) == "a.yaml:3:7: spec.x: is wrong"
    assert str(Finding("--server x", 0, 0, "", "is wrong")) == "--server x: is wrong"


def test_paths_quote_what_is_not_a_plain_key() -> None:
    assert dotted(("spec", "rules", 0, "a.b/c", "x-y")) == 'spec.rules[0]["a.b/c"].x-y'


def test_foreign_text_cannot_break_a_line_or_colour_a_terminal() -> None:
    assert shown("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert len(shown("a" * 1000)) == 80


def test_suggestions_ignore_case_and_leave_out_what_is_far() -> None:
    assert nearest("MODELNAME", ["modelName", "poolRef"]) == "modelName"
    assert nearest("zzz", ["modelName"]) is None
    assert advice("zzz", ["a", "b"]) == "known here: a, b"
