"""Whatever the check of routes lets through, real Envoy takes: it refuses the routes of a port whole."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stellwerk.control.envoy.bootstrap import bootstrap
from stellwerk.control.envoy.document import extension
from stellwerk.control.envoy.listener import router
from stellwerk.control.envoy.route_mode.routes import route_configuration
from stellwerk.control.envoy.settings import EnvoySettings, RuntimePaths
from stellwerk.control.gateway.plan import plan
from stellwerk.control.gateway.regex import regex_problem
from stellwerk.edge.preflight import find_envoy
from tests.kit.gateway_objects import CONTROLLER, Object, gateway, gateway_class, made, route, service, to_service

pytestmark = pytest.mark.integration

ENVOY = EnvoySettings(RuntimePaths("/run/stellwerk"))
MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def complaint(rules: list[Object], directory: Path) -> str | None:
    """What Envoy has against a port with `rules`; None: nothing."""
    world = made(gateway_class(), gateway(), service("web"), route("drawn", *rules))
    listeners = plan(world, CONTROLLER).gateways["default/public"].serving
    routes = route_configuration(80, listeners, ENVOY)
    manager = extension(
        "manager",
        MANAGER,
        stat_prefix="drawn",
        http_filters=[router()],
        route_config={key: value for key, value in routes.items() if key != "@type"} | {"validate_clusters": False},
    )
    listener = {
        "name": "drawn",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [manager]}],
    }
    runtime = bootstrap(ENVOY)["layered_runtime"]
    path = directory / "envoy.json"
    path.write_text(json.dumps({"static_resources": {"listeners": [listener]}, "layered_runtime": runtime}))
    command = [str(find_envoy()), "--mode", "validate", "--disable-hot-restart", "-l", "error", "-c", str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=50)
    return None if checked.returncode == 0 else (checked.stdout + checked.stderr)[-1000:]


def by_path(pattern: str) -> Object:
    return {
        "matches": [{"path": {"type": "RegularExpression", "value": pattern}}],
        "backendRefs": [to_service("web")],
    }


PIECES = [
    *"abz09_-.éſ𐀀K(){}[]^$*+?|\\,:!=<>P&#~ ",
    "(?:", "(?P<", "(?i)", "(?i:", "(?-s:", "(?i-sU:", "(?P<a>", "(?P<b1>", "(?#", "(?x:", "(?-x:", "(?P<é>", "(?",
    "(?=", "(?:a)", "(?P<a>b)", "(?P<b1>é)", "(?#a)", "(?-x:a)", "(?P<é>a)", "(?i-s:K)", "(?)", "(?i-)", "(a|)",
    r"\d", r"\D", r"\w", r"\W", r"\S", r"\b", r"\B", r"\A", r"\z", r"\Z", r"\x41", r"\x{10ffff}", r"\x{d800}",
    r"\x", r"\xFf", r"\x{9}", r"[a-\xff]", r"\Q", r"\C", r"\pL", r"\_", r"\ ", r"\é", r"\0", r"\1", r"\8", r"[\b]",
    "[[:alpha:]]", "[[:^word:]]", "[:foo:]", "[[:foo:]]", "[^", "[a-z]", "[^a-z]", "[Ͱ-Ͽ]", "[]", "[z-a]", "[]-a]",
    "-]", "{2}", "{1,3}", "{,3}", "{3,}", "{1000}", "{500}", "{30}", "{2,1}", "{01}", "{2}{3}", "*?", "+?", "??", "++",
    ".*", "." * 100, "[^a]{100}",
]  # fmt: skip
IN_BOUNDED_TIME = settings(
    max_examples=20,
    deadline=None,
    # Envoy names what it does not like, so nothing has to be made smaller.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def patterns(chance: Random) -> Iterator[str]:
    """Of many random ones those that pass the check."""
    for _ in range(2000):
        pattern = "".join(chance.choices(PIECES, k=chance.randint(1, 8)))
        if regex_problem(pattern) is None:
            yield pattern


@IN_BOUNDED_TIME
@given(st.integers(0, 2**64))
def test_every_regular_expression_that_passes_the_check_is_taken(tmp_path: Path, seed: int) -> None:
    assert complaint([by_path(each) for each in patterns(Random(seed))], tmp_path) is None


@pytest.mark.parametrize(
    "pattern",
    [
        ".{1,1000}", "((.{10}){10}){10}", "(?i:k{1000})", "[^/a-z]{1,1000}", "(?i)[!-z]{1000}", "." * 1000 + "{6}",
        "a{01}", "x{2,1", r"/[\]a-]+", "(" * 40 + ")" * 40, "é" * 1024, "(?:é)*", "(" + "." * 1000 + "){6}",
    ],
)  # fmt: skip
def test_the_largest_that_pass_are_taken(tmp_path: Path, pattern: str) -> None:
    assert regex_problem(pattern) is None
    assert complaint([by_path(pattern)], tmp_path) is None


ODD = [*map(chr, range(0x20)), *'%"\\{}#? :\x7f\x80\x85\xa0é\u2028\ufffe𐀀']
NAMES = ["x-a", "X-B", "Host", ":path", ":authority", "Content-Length", "te", "a b", "", "é", "x-a\n"]


def text(chance: Random) -> str:
    """Usually plain, else with one character that may be wrong."""
    return f"a{chance.choice(ODD)}%b" if chance.random() < 0.3 else "ab"


def header(chance: Random) -> Object:
    return {"name": chance.choice(NAMES) if chance.random() < 0.3 else "x-a", "value": text(chance)}


def change(chance: Random) -> Object:
    """Any filter but a mirror."""
    one, path = header(chance), {"type": "ReplaceFullPath", "replaceFullPath": f"/{text(chance)}"}
    if chance.random() < 0.5:
        path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": f"/{text(chance)}" if chance.random() < 0.9 else ""}
    return chance.choice(
        [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [one, header(chance)]}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [one]}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": [one["name"]]}},
            {"type": "URLRewrite", "urlRewrite": {"path": path}},
            {"type": "RequestRedirect", "requestRedirect": {"path": path, "scheme": chance.choice(["http", "https"])}},
        ]
    )


def drawn(chance: Random) -> Object:
    """A rule with a match, and some filters."""
    match: Object = {"path": {"type": chance.choice(["Exact", "PathPrefix"]), "value": f"/{text(chance)}"}}
    if chance.random() < 0.3:
        match[chance.choice(["headers", "queryParams"])] = [header(chance)]
    filters = [change(chance) for _ in range(chance.randint(0, 1))]
    if any("requestRedirect" in each for each in filters):
        return {"matches": [match], "filters": filters}
    own = [each for each in [change(chance)] if "Header" in each["type"] and chance.random() < 0.5]
    return {"matches": [match], "filters": filters, "backendRefs": [to_service("web", filters=own)]}


@IN_BOUNDED_TIME
@given(st.integers(0, 2**64))
def test_whatever_rules_say_the_routes_of_the_port_are_taken(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    assert complaint([drawn(chance) for _ in range(200)], tmp_path) is None
