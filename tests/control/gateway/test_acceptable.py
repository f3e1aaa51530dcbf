"""What Envoy would refuse is found before it spoils the routes of others."""

import msgspec
import pytest

from stellwerk.control.gateway.acceptable import problem_of
from stellwerk.control.gateway.kinds import RouteRule


def read(**rule: object) -> RouteRule:
    return msgspec.convert(rule, RouteRule)


def regex(pattern: str) -> RouteRule:
    return read(matches=[{"path": {"type": "RegularExpression", "value": pattern}}])


@pytest.mark.parametrize("pattern", ["/v[0-9]+/.*", "/(a|b)/c?", r"/\d{1,3}", "(?i)/ABC", r"/\.\\1x", "/(?P<n>a)"])
def test_ordinary_expressions_pass(pattern: str) -> None:
    assert problem_of(regex(pattern)) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)b", "(?!a)b", "(?<=a)b", "(?<!a)b", r"(a)\1", "(?P<n>a)(?P=n)", "(?>a)", "a*+b", "(", "a{1001}",
        "(a{100}){100}", "", "a" * 1025, r"a\Z", "(?x)a b", "(a)(?(1)b|c)",
    ],
)  # fmt: skip
def test_what_re2_does_not_know_is_refused_by_name(pattern: str) -> None:
    problem = problem_of(regex(pattern))
    assert problem is not None
    assert "path" in problem


def test_headers_that_a_proxy_must_not_change_are_refused() -> None:
    change = {"set": [{"name": "Host", "value": "x"}]}
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": change}]
    assert "URLRewrite" in (problem_of(read(filters=filters)) or "")
    assert problem_of(read(backendRefs=[{"name": "a", "port": 1, "filters": filters}]))


def test_control_characters_are_refused() -> None:
    change = {"add": [{"name": "x-a", "value": "a\nb"}]}
    assert problem_of(read(filters=[{"type": "ResponseHeaderModifier", "responseHeaderModifier": change}]))
    assert problem_of(read(matches=[{"headers": [{"name": "x", "value": "a\r"}]}]))


def test_a_path_with_a_query_is_no_path() -> None:
    assert problem_of(read(matches=[{"path": {"type": "Exact", "value": "/a?b"}}]))
    assert problem_of(read(matches=[{"path": {"type": "Exact", "value": "/a/b"}}])) is None
