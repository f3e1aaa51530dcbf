"""EndpointPickerConfig to PickerConfig; what has no effect is said."""

import pytest

from stellwerk.blueprint import Draft, Source, draft
from stellwerk.model.picker_config import PickerConfig, PluginRef, PluginSpec, ProfileSpec
from tests.control.objects_table import PICKER


def drawn(text: str) -> Draft:
    """The draft of one picker configuration."""
    return draft([Source("p.yaml", (PICKER + text).encode())])


def test_plugins_profiles_and_weights_arrive_with_their_paths() -> None:
    whole_config = drawn(
        "plugins:\n- type: queue-scorer\n- {type: load-aware-scorer, name: load, parameters: {threshold: 64}}\n"
        "schedulingProfiles:\n- name: p\n  plugins: [{pluginRef: load, weight: 2.5}, {pluginRef: queue-scorer}]\n"
        "featureGates: [haPopulateNonLeaderDatastore=false]\n"
    )
    assert whole_config.problems == ()
    assert whole_config.picker == PickerConfig(
        plugins=(
            PluginSpec("queue-scorer", "queue-scorer", {}, ("plugins", 0)),
            PluginSpec("load", "load-aware-scorer", {"threshold": 64}, ("plugins", 1)),
        ),
        profiles=(
            ProfileSpec(
                "p",
                (
                    PluginRef("load", 2.5, ("schedulingProfiles", 0, "plugins", 0)),
                    PluginRef("queue-scorer", None, ("schedulingProfiles", 0, "plugins", 1)),
                ),
                ("schedulingProfiles", 0),
            ),
        ),
        feature_gates={"haPopulateNonLeaderDatastore": False},
    )


def test_no_configuration_is_the_default_one() -> None:
    assert draft([]).picker == PickerConfig()


def test_fields_without_effect_are_named_in_warnings() -> None:
    found = drawn(
        "flowControl: {maxRequests: 5000, maxBytes: 1Gi, defaultRequestTTL: 1m30s, priorityBands: [{priority: 1}]}\n"
        "dataLayer: {injectDefaults: true}\nmetadata: {name: x}\n"
        "saturationDetector: {pluginRef: utilization-detector}\n"
    )
    assert found.problems == ()
    assert [warning.path for warning in found.warnings] == [
        "flowControl.maxRequests",
        "flowControl.maxBytes",
        "flowControl.defaultRequestTTL",
        "flowControl.priorityBands",
        "dataLayer.injectDefaults",
        "metadata",
        "saturationDetector",
    ]
    assert found.picker.saturation_detector == "utilization-detector"


def test_the_newer_place_of_the_saturation_detector_counts() -> None:
    found = drawn(
        "saturationDetector: {pluginRef: a}\nflowControl: {saturationDetector: {pluginRef: concurrency-detector}}\n"
    )
    assert found.picker.saturation_detector == "concurrency-detector"


def test_two_configurations_are_one_too_many() -> None:
    found = draft([Source("a.yaml", PICKER.encode()), Source("b.yaml", PICKER.encode())])
    assert [str(problem) for problem in found.problems] == [
        "b.yaml:2:7: kind: only one EndpointPickerConfig can hold: another is in a.yaml:2"
    ]


def test_a_config_file_holds_a_configuration_and_nothing_else() -> None:
    server = b"apiVersion: stellwerk.dev/v1alpha1\nkind: ModelServer\nmetadata: {name: a}\nspec: {address: a}\n"
    (problem,) = draft([Source("p.yaml", server, is_picker_config=True)]).problems
    assert "expected EndpointPickerConfig, got ModelServer: name the file with -f instead" in str(problem)
    (problem,) = draft([Source("p.yaml", b"# nothing\n", is_picker_config=True)]).problems
    assert "holds no EndpointPickerConfig" in str(problem)
    (problem,) = draft([Source("p.yaml", b"a: [\n", is_picker_config=True)]).problems
    assert "not valid YAML" in str(problem)


@pytest.mark.parametrize("text", ["60s", "1m30s", "500ms", "1.5h", "0", "0s"])
def test_durations_are_those_of_go(text: str) -> None:
    assert drawn(f"flowControl: {{defaultRequestTTL: '{text}'}}\n").problems == ()


@pytest.mark.parametrize("text", ["1Gi", "1G", "5k", "100m", "1.5Ki", "1e3", "'0'", "7"])
def test_quantities_are_those_of_kubernetes(text: str) -> None:
    quoted = text if text.startswith("'") or text.isdigit() else f"'{text}'"
    assert drawn(f"flowControl: {{maxBytes: {quoted}}}\n").problems == ()


@pytest.mark.parametrize("text", ["'60'", "'1 s'", "'s'", "''", "'1d'"])
def test_other_durations_are_refused(text: str) -> None:
    assert len(drawn(f"flowControl: {{defaultRequestTTL: {text}}}\n").problems) == 1


@pytest.mark.parametrize("text", ["'1GB'", "'1 G'", "-1", "'-1'", "true", "''", "1.5"])
def test_other_quantities_are_refused(text: str) -> None:
    assert len(drawn(f"flowControl: {{maxBytes: {text}}}\n").problems) == 1
