"""The files as a whole."""

import json
from typing import Any

import pytest

from stellwerk.control.envoy.headers import IDENTITY, INTERNAL
from stellwerk.control.envoy.resources import Resources, resources
from stellwerk.control.envoy.settings import EnvoySettings, RuntimePaths
from stellwerk.model.catalog import Catalog, FailureMode, Pool
from stellwerk.model.endpoint import Endpoint

PATHS = RuntimePaths("/run/stellwerk")
ENVOY = EnvoySettings(PATHS)


def catalog(*ports: int, **more: Any) -> Catalog:
    endpoints = tuple(Endpoint(f"d/s:{port}", "s", "d", "127.0.0.1", port) for port in ports)
    return Catalog(1, {"d/p": Pool("d/p", endpoints, **more)})


def changed(one: Resources, other: Resources) -> set[str]:
    return {path for path in one.files if one.files[path] != other.files[path]}


def test_everything_is_json_and_repeats_exactly() -> None:
    assert json.dumps(resources(catalog(1, 2), ENVOY).files) == json.dumps(resources(catalog(2, 1, 1), ENVOY).files)


def test_a_new_endpoint_changes_clusters_only() -> None:
    assert changed(resources(catalog(1), ENVOY), resources(catalog(1, 2), ENVOY)) == {PATHS.clusters}


def test_another_failure_mode_changes_routes_only() -> None:
    opened = resources(catalog(1, failure_mode=FailureMode.OPEN), ENVOY)
    assert changed(resources(catalog(1), ENVOY), opened) == {PATHS.routes}


def test_no_change_of_objects_touches_the_listener_or_the_bootstrap() -> None:
    one, other = resources(Catalog(), ENVOY), resources(catalog(1, failure_mode=FailureMode.OPEN), ENVOY)
    assert one.files[PATHS.listeners] == other.files[PATHS.listeners]
    assert one.bootstrap == other.bootstrap


def test_clusters_come_before_routes_and_routes_before_listeners() -> None:
    order = list(resources(catalog(1), ENVOY).files)
    assert order.index(PATHS.clusters) < order.index(PATHS.routes) < order.index(PATHS.listeners)


def test_a_version_changes_with_its_content_and_is_found_in_envoys_statistics() -> None:
    one, other = resources(catalog(1), ENVOY), resources(catalog(2), ENVOY)
    assert one.versions["cluster_manager.cds.version_text"] == one.files[PATHS.clusters]["version_info"]
    assert one.versions["cluster_manager.cds.version_text"] != other.versions["cluster_manager.cds.version_text"]
    assert sorted(one.versions.values()) == sorted(document["version_info"] for document in one.files.values())


def test_pools_speak_the_protocol_they_ask_for() -> None:
    for protocol, key in (("http", "http_protocol_options"), ("kubernetes.io/h2c", "http2_protocol_options")):
        (cluster,) = resources(catalog(1, app_protocol=protocol), ENVOY).files[PATHS.clusters]["resources"]
        (options,) = cluster["typed_extension_protocol_options"].values()
        assert key in options["explicit_http_config"]


@pytest.mark.parametrize(("trusted", "early"), [((), INTERNAL + IDENTITY), (("10.0.0.0/8",), INTERNAL)])
def test_internal_headers_go_before_the_first_route_is_chosen(trusted: tuple[str, ...], early: tuple[str, ...]) -> None:
    settings = EnvoySettings(PATHS, trusted_sources=trusted)
    text = json.dumps(resources(Catalog(), settings).files[PATHS.listeners])
    (listener,) = json.loads(text)["resources"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (strip,) = manager["early_header_mutation_extensions"]
    removed = [each["remove_on_match"]["key_matcher"]["prefix"] for each in strip["typed_config"]["mutations"]]
    assert removed == list(early)
    assert all(prefix in text for prefix in IDENTITY)
