"""What Envoy would refuse is found before it spoils the routes of others."""

import msgspec
import pytest

from stellwerk.control.gateway.acceptable import match_problem, problem_of
from stellwerk.control.gateway.kinds import RouteRule


def read(**rule: object) -> RouteRule:
    return msgspec.convert(rule, RouteRule)


@pytest.mark.parametrize("where", ["path", "headers", "queryParams"])
def test_an_expression_that_re2_does_not_know_is_refused_wherever_it_stands(where: str) -> None:
    for pattern, is_good in (("/v[0-9]+/.*", True), ("(?=a)b", False)):
        one = {"name": "x", "type": "RegularExpression", "value": pattern}
        problem = problem_of(read(matches=[{where: one if where == "path" else [one]}]))
        assert (problem is None) is is_good
        assert is_good or (pattern in str(problem) and "group" in str(problem))


def changes(**change: object) -> list[RouteRule]:
    """As a filter of a rule and of a backend, for requests and for answers."""
    both = [
        {"type": "RequestHeaderModifier", "requestHeaderModifier": change},
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": change},
    ]
    return [
        *(read(filters=[each]) for each in both),
        *(read(backendRefs=[{"name": "a", "port": 1, "filters": [each]}]) for each in both),
    ]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("Host", "URLRewrite"),
        (":path", "URLRewrite"),
        (":authority", "URLRewrite"),
        ("a b", "no name"),
        ("", "no name"),
        *((name, "leave it out") for name in (
            "Content-Length", "transfer-encoding", "Connection", "upgrade", "TE", "trailer", "keep-alive",
            "proxy-connection",
        )),
    ],
)  # fmt: skip
def test_headers_that_steer_or_frame_a_message_are_nobodys_to_change(name: str, remedy: str) -> None:
    for change in (
        {"set": [{"name": name, "value": "0"}]},
        {"add": [{"name": name, "value": "0"}]},
        {"remove": [name]},
    ):
        for rule in changes(**change):
            problem = problem_of(rule) or ""
            assert f'"{name}"' in problem
            assert remedy in problem


def test_other_headers_may_be_changed() -> None:
    values = [{"name": "X-A", "value": "100% é\t日本"}, {"name": "x-b", "value": ""}]
    for rule in changes(set=values, add=values, remove=["server"]):
        assert problem_of(rule) is None


@pytest.mark.parametrize("character", ["\0", "\n", "\r", "\x1f", "\x7f", "\x85", "?", "#", " "])
def test_a_new_path_is_a_path(character: str) -> None:
    for modifier in (
        {"type": "ReplaceFullPath", "replaceFullPath": f"/a{character}b"},
        {"type": "ReplacePrefixMatch", "replacePrefixMatch": f"/a{character}b"},
    ):
        for kind in ("urlRewrite", "requestRedirect"):
            assert "not a path" in (problem_of(read(filters=[{"type": kind, kind: {"path": modifier}}])) or "")


@pytest.mark.parametrize("origin", ["*", "https://a", "http://*", "https://*.a.example:8443", "https://A-1.example"])
def test_origins_as_the_definitions_have_them_pass(origin: str) -> None:
    assert problem_of(read(filters=[{"type": "CORS", "cors": {"allowOrigins": [origin]}}])) is None


@pytest.mark.parametrize(
    "cors",
    [
        *({"allowOrigins": [origin]} for origin in ("a", "ftp://a", "https://a*", "https://a/b", "https://(a)", "https://a\n")),
        {"allowMethods": ["GET, PUT"]},
        {"allowHeaders": ["x:"]},
        {"exposeHeaders": ["x\r"]},
    ],
)  # fmt: skip
def test_what_is_no_origin_method_or_header_is_refused(cors: dict[str, list[str]]) -> None:
    assert "is no " in (problem_of(read(filters=[{"type": "CORS", "cors": cors}])) or "")


def test_a_match_that_cannot_be_told_is_one_of_a_rule() -> None:
    rule = read(matches=[{"path": {"type": "Exact", "value": "/a"}}, {"path": {"type": "Exact", "value": "a"}}])
    assert [match_problem(each) is None for each in rule.matches] == [True, False]
    assert problem_of(rule)


def test_control_characters_are_refused() -> None:
    change = {"add": [{"name": "x-a", "value": "a\nb"}]}
    assert problem_of(read(filters=[{"type": "ResponseHeaderModifier", "responseHeaderModifier": change}]))
    assert problem_of(read(matches=[{"headers": [{"name": "x", "value": "a\r"}]}]))


@pytest.mark.parametrize("which", ["request", "backendRequest"])
def test_a_timeout_that_is_no_duration_is_refused_and_not_left_out(which: str) -> None:
    assert problem_of(read(timeouts={which: "5s1m"})) is None
    assert '"5 s" is no duration' in (problem_of(read(timeouts={which: "5 s"})) or "")


def test_a_path_with_a_query_is_no_path() -> None:
    assert problem_of(read(matches=[{"path": {"type": "Exact", "value": "/a?b"}}]))
    assert problem_of(read(matches=[{"path": {"type": "Exact", "value": "/a/b"}}])) is None
