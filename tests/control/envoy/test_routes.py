"""Routes hold each pool's failure mode, whatever the objects are."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.control.envoy.resources import resources
from stellwerk.control.envoy.routes import default_open_pool, names_of_pools, route_configuration
from stellwerk.control.envoy.settings import EnvoySettings, RuntimePaths
from stellwerk.model.catalog import Catalog, FailureMode, Pool, PublicModel, Split, Target
from stellwerk.model.endpoint import Endpoint

ENVOY = EnvoySettings(RuntimePaths("/run/stellwerk"))
NAMES = ["m1", "m2", "m3", "m4", 'quo"te', "ünï/code"]
POOLS = ["default/a", "default/b", "other/a"]


def split(model: str) -> Split:
    return Split.of((Target(model, 1),), "test")


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    pools = {}
    for name in draw(st.lists(st.sampled_from(POOLS), unique=True)):
        ports = draw(st.lists(st.integers(1, 4), max_size=3))
        endpoints = tuple(Endpoint(f"x/{port}:{port}", "s", "x", "127.0.0.1", port) for port in ports)
        rewrites = {model: split("t") for model in draw(st.lists(st.sampled_from(NAMES), max_size=2))}
        pools[name] = Pool(name, endpoints, draw(st.sampled_from(FailureMode)), exact_rewrites=rewrites)
    owners = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(POOLS)))
    models = {name: PublicModel(name, pool, split(name)) for name, pool in owners.items()}
    default = draw(st.sampled_from([None, *pools])) if pools else None
    return Catalog(1, pools, models, default)


def routes(catalog: Catalog) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = route_configuration(catalog, ENVOY)["virtual_hosts"][0]["routes"]
    return found


def silent_target(catalog: Catalog, model: str) -> str | None:
    """The cluster that Envoy chooses for a body with this model while the picker is silent; None: a refusal."""
    for route in routes(catalog):
        match = route["match"]
        if "headers" in match or "filter_state" in match:
            continue
        if all(_fits(each, model) for each in match.get("dynamic_metadata", ())):
            return route["route"]["cluster"] if "route" in route else None
    raise AssertionError("no route")


def _fits(matcher: dict[str, Any], model: str) -> bool:
    value = matcher["value"]
    if "present_match" in value:
        fits = True
    else:
        options = value["or_match"]["value_matchers"] if "or_match" in value else [value]
        fits = model in [each["string_match"]["exact"] for each in options]
    return fits is not matcher.get("invert", False)


@settings(max_examples=150, deadline=None)
@given(catalogs(), st.sampled_from([*NAMES, "unheard-of", ""]))
def test_while_the_picker_is_silent_only_open_pools_serve_and_each_its_own_models(catalog: Catalog, model: str) -> None:
    target = silent_target(catalog, model)
    owners = {pool: names for pool, names in names_of_pools(catalog).items() if model in names}
    assert target is None or catalog.pools[target].failure_mode is FailureMode.OPEN
    if owners:
        (owner,) = owners
        is_open = catalog.pools[owner].failure_mode is FailureMode.OPEN
        assert target == (owner if is_open else None)
    else:
        assert target == default_open_pool(catalog)


@settings(max_examples=100, deadline=None)
@given(catalogs())
def test_every_cluster_that_a_route_names_exists(catalog: Catalog) -> None:
    made = resources(catalog, ENVOY)
    clusters = {each["name"] for each in made.files[ENVOY.paths.clusters]["resources"]}
    named = {route["route"]["cluster"] for route in routes(catalog) if "cluster" in route.get("route", {})}
    assert named <= clusters == set(catalog.pools)
    assert "picker" not in clusters


@settings(max_examples=50, deadline=None)
@given(catalogs())
def test_the_last_route_refuses_whatever_no_other_took(catalog: Catalog) -> None:
    last = routes(catalog)[-1]
    assert last["match"] == {"prefix": "/"}
    assert last["direct_response"]["status"] == 503


def test_the_picker_has_the_first_word() -> None:
    first = routes(Catalog())[0]
    assert first["match"]["headers"] == [{"name": "x-stellwerk-pool", "present_match": True}]
    assert first["route"]["cluster_header"] == "x-stellwerk-pool"


def test_an_inference_model_outranks_a_rule_and_a_rule_what_servers_list() -> None:
    pools = {
        "d/a": Pool("d/a", exact_rewrites={"x": split("t"), "y": split("t")}),
        "d/b": Pool("d/b"),
    }
    catalog = Catalog(1, pools, {"x": PublicModel("x", "d/b", split("x"))})
    assert names_of_pools(catalog, {"d/b": ["y", "z"]}) == {"d/a": ["y"], "d/b": ["x", "z"]}
