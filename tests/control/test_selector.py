"""Which texts are label selectors, as Kubernetes reads them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.control.selector import checked_selector


@pytest.mark.parametrize(
    "text",
    [
        "app=llama",
        "app==llama,tier!=cold",
        "app",
        "!app",
        "! app , tier",
        "app in (a,b)",
        "app notin(a, b),x",
        "app in (,a)",
        "app=",
        "app=,x",
        "example.com/app=a_b.c-d",
        "in in (in)",
        "generation>5,generation < 9",
    ],
)
def test_a_selector_is_passed_on_as_it_is(text: str) -> None:
    assert checked_selector(f" {text} ") == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a label key is missing"),
        (" , ", '"," stands where a label key should'),
        ("app=a,", "a label key is missing"),
        ("app!", '"!" stands where'),
        ("app~=a", '"app~" is no label key'),
        ("a/b/c", '"a/b/c" is no label key'),
        ("app=-a", '"-a" is no label value'),
        (f"app={'a' * 64}", "is no label value"),
        ("app in a", '"(" is missing'),
        ("app in (a", '")" is missing'),
        ("app in ()", "a set needs a value"),
        ("!app=a", '"=" stands where'),
        ("app=a b", '"b" stands where'),
        ("app=!=a", '"!=" stands where'),
        ("a>b", '"b" is no number'),
        ("app in (a) tier", '"tier" stands where'),
    ],
)
def test_what_is_no_selector_is_told_with_the_remedy(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="is not a label selector") as caught:
        checked_selector(text)
    assert problem in str(caught.value)
    assert "write it like app=llama" in str(caught.value)


@given(st.text(alphabet="ab=!(),<> in~", max_size=20))
def test_any_text_is_passed_on_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert checked_selector(text) == text.strip()
