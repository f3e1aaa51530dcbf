"""Which regular expressions RE2 takes for sure. Real Envoy is asked in tests/integration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.control.gateway.regex import MAX_REGEX, regex_problem


@pytest.mark.parametrize(
    "pattern",
    [
        "/v[0-9]+/.*", "(a|b)/c?", r"/\d{1,3}", "(?i)/ABC", "/(?i)abc", r"/\.\\1x", "/(?P<n>a)", "(?i-s:a)|b", "a{,3}",
        "/a/{id}/b", r"[\]a-]", "[]-a]", "[^]]", r"[\d-z]", "[[:alpha:]_]", r"\x41\x{7f}", "x*?y+?", "^/é$", "(?:é)+",
        r"(?m:^\Aabc\b$)", "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "[^/]{1,255}", "." * MAX_REGEX,
    ],
)  # fmt: skip
def test_ordinary_expressions_pass(pattern: str) -> None:
    assert regex_problem(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "0 characters"),
        ("a" * (MAX_REGEX + 1), "1025 characters"),
        ("a\0b", "control characters"),
        ("\ud800", "control characters"),
        *((pattern, "kind of group") for pattern in (
            "(?=a)b", "(?!a)b", "(?<=a)b", "(?<!a)b", "(?P=n)", "(?>a)", "(?x)a b", "(?-x:a)", "(?i-)", "(?)", "(?#x)b",
            "(?(1)b|c)", "(?P<é>x)", "(?P<1>x)", "(?L)",
        )),
        *((pattern, "RE2 does not know") for pattern in (
            r"(a)\1", r"a\Z", r"\é", r"[\b]", r"\x0", r"\x{100}", r"\pL", r"\Qa", r"\C", r"\0", r"\k<n>",
        )),
        ("(?P<n>a)(?P<n>b)", "two groups"),
        ("[[:foo:]]", "within a set"),
        ("[a[]", "within a set"),
        ("[é]", "compares bytes"),
        ("é+", "last byte"),
        ("[z-a]", "range"),
        (r"[a-\d]", "range"),
        ("[a", "too early"),
        ("a\\", "too early"),
        ("(", 'a "(" without'),
        ("a)", 'a ")" without'),
        *((pattern, "repeats nothing") for pattern in (
            "*", "a**", "a*+b", "a{2}{3}", "|?", "(+)", "^*", "(?i)*", "{2}",
        )),
        *((pattern, "more than 1000") for pattern in ("a{1001}", "(a{100}){100}", "a{2,1}", "(a{2}){501,}")),
        ("(" + "." * 1000 + "){1000}", "too large"),
        ("(" * 51 + ")" * 51, "within one another"),
    ],
)  # fmt: skip
def test_what_re2_does_not_know_is_refused_with_the_reason(pattern: str, why: str) -> None:
    assert why in (regex_problem(pattern) or "")


@given(st.text(st.sampled_from("ab(){}[]|*+?^$\\.,:-09=!<>Pimé\0"), max_size=40))
def test_nothing_makes_the_check_stumble(pattern: str) -> None:
    problem = regex_problem(pattern)
    assert problem is None or problem
