from typing import Any

import pytest

from stellwerk.model.detector import ConcurrencyDetector, UtilizationDetector
from stellwerk.model.picker_config import PickerConfig, PluginRef, PluginSpec, ProfileSpec
from stellwerk.schedule.pickers import MaxScorePicker, RandomPicker
from stellwerk.schedule.registry import build, check
from tests.kit.fleet import picker


def spec(type: str, name: str = "", at: int = 0, **parameters: Any) -> PluginSpec:
    return PluginSpec(name or type, type, parameters, ("plugins", at))


def profile(*names: str, weights: dict[str, float] | None = None) -> ProfileSpec:
    where = ("schedulingProfiles", 0, "plugins")
    refs = (PluginRef(name, (weights or {}).get(name), (*where, place)) for place, name in enumerate(names))
    return ProfileSpec("default", tuple(refs), ("schedulingProfiles", 0))


def problems(config: PickerConfig) -> list[tuple[tuple[str | int, ...], str]]:
    return [(problem.path, problem.message) for problem in check(config)]


def scorers(config: PickerConfig) -> dict[str, float]:
    return {each.name: each.weight for each in build(config).profile.scorers}


def test_nothing_means_upstreams_default() -> None:
    assert check(PickerConfig()) == ()
    plan = build(PickerConfig())
    assert scorers(PickerConfig()) == {"queue-scorer": 2, "kv-cache-utilization-scorer": 2, "prefix-cache-scorer": 3}
    assert isinstance(plan.profile.picker, MaxScorePicker)
    assert plan.detector == UtilizationDetector()
    assert plan.prefix is not None
    assert (plan.prefix.block_size_tokens, plan.prefix.max_prefix_tokens_to_match) == (16, 131_072)
    assert plan.prefix.lru_capacity_per_server == 31_250


def test_plugins_without_a_profile_make_one_of_them_all() -> None:
    config = PickerConfig(plugins=(spec("queue-scorer"), spec("random-picker"), spec("openai-parser")))
    assert check(config) == ()
    assert scorers(config) == {"queue-scorer": 1}
    assert isinstance(build(config).profile.picker, RandomPicker)


def test_a_profile_without_a_picker_takes_the_declared_one() -> None:
    config = PickerConfig((spec("queue-scorer"), spec("random-picker")), (profile("queue-scorer"),))
    assert isinstance(build(config).profile.picker, RandomPicker)


def test_parameters_are_upstreams_camel_case_names() -> None:
    config = PickerConfig((spec("approx-prefix-cache-producer", autoTune=False, blockSizeTokens=128),))
    assert check(config) == ()
    prefix = build(config).prefix
    assert prefix is not None
    assert (prefix.auto_tune, prefix.block_size_tokens) == (False, 128)


def test_an_upstream_configuration_with_everything_spelled_out_moves_over() -> None:
    kinds = (
        "queue-scorer",
        "kv-cache-utilization-scorer",
        "prefix-cache-scorer",
        "max-score-picker",
        "single-profile-handler",
        "approx-prefix-cache-producer",
        "inflight-load-producer",
        "utilization-detector",
        "metrics-data-source",
        "core-metrics-extractor",
        "openai-parser",
        "fcfs-ordering-policy",
        "global-strict-fairness-policy",
        "static-usage-limit-policy",
    )
    config = PickerConfig(
        plugins=tuple(spec(kind) for kind in kinds),
        profiles=(profile("queue-scorer", "prefix-cache-scorer", "max-score-picker", weights={"queue-scorer": 2.5}),),
        saturation_detector="utilization-detector",
        feature_gates={"flowControl": False},
    )
    assert check(config) == ()
    assert scorers(config) == {"queue-scorer": 2.5, "prefix-cache-scorer": 1}


def test_an_engine_that_is_not_known_is_refused_and_a_second_extractor_too() -> None:
    kind = "core-metrics-extractor"
    ((path, message),) = problems(PickerConfig((spec(kind, defaultEngine="sglong"),)))
    assert path == ("plugins", 0, "parameters")
    assert 'defaultEngine "sglong" is not one of vllm, sglang, trtllm-serve, triton-tensorrt-llm, triton' in message
    assert check(PickerConfig((spec(kind, defaultEngine="", engineLabelKey=""),))) == ()
    ((path, message),) = problems(PickerConfig((spec(kind), spec(kind, "other"))))
    assert "a second core-metrics-extractor" in message


def test_an_unknown_type_names_the_nearest_one() -> None:
    ((path, message),) = problems(PickerConfig((spec("que-scorer"),), (profile("que-scorer"),)))
    assert path == ("plugins", 0, "type")
    assert 'did you mean "queue-scorer"?' in message


def test_a_known_type_that_is_not_built_says_so() -> None:
    ((path, message),) = problems(PickerConfig((spec("latency-scorer"),)))
    assert path == ("plugins", 0, "type")
    assert "not supported yet" in message


def test_an_unknown_parameter_names_the_nearest_one() -> None:
    ((path, message),) = problems(PickerConfig((spec("load-aware-scorer", treshold=3),)))
    assert path == ("plugins", 0, "parameters", "treshold")
    assert 'did you mean "threshold"?' in message
    ((_, message),) = problems(PickerConfig((spec("queue-scorer", threshold=3),)))
    assert "takes no parameters" in message


@pytest.mark.parametrize(
    ("type", "parameters", "path", "text"),
    [
        ("load-aware-scorer", {"threshold": "many"}, ("threshold",), "Expected `int`, got `str`"),
        ("load-aware-scorer", {"threshold": 0}, (), "threshold must be greater than 0"),
        ("max-score-picker", {"maxNumOfEndpoints": 0}, (), "at least 1"),
        ("utilization-detector", {"metricsStalenessThreshold": "soon"}, (), "200ms"),
        ("utilization-filter", {}, (), "missing required field `conditions`"),
        (
            "utilization-filter",
            {"conditions": [{"metric": "waiting-queue", "maxValue": 1}, {"metric": "queue", "maxValue": 1}]},
            ("conditions", 1, "metric"),
            "Invalid enum value",
        ),
    ],
)
def test_a_wrong_parameter_is_located(type: str, parameters: dict[str, Any], path: tuple[Any, ...], text: str) -> None:
    ((found, message),) = problems(PickerConfig((spec(type, **parameters),)))
    assert found == ("plugins", 0, "parameters", *path)
    assert text in message


def test_an_unknown_reference_names_the_nearest_plugin() -> None:
    ((path, message),) = problems(PickerConfig((spec("queue-scorer", "my-queue"),), (profile("my-que"),)))
    assert path == ("schedulingProfiles", 0, "plugins", 0, "pluginRef")
    assert 'did you mean "my-queue"?' in message


def test_two_pickers_two_profiles_and_two_of_one_name_are_refused() -> None:
    both = (spec("max-score-picker"), spec("random-picker", at=1))
    ((path, _),) = problems(PickerConfig(both, (profile("max-score-picker", "random-picker"),)))
    assert path == ("schedulingProfiles", 0, "plugins", 1)
    extra = ProfileSpec("other", (), ("schedulingProfiles", 1))
    ((path, message),) = problems(PickerConfig(both, (profile("random-picker"), extra)))
    assert path == ("schedulingProfiles", 1)
    assert "profile handler" in message
    ((path, _),) = problems(PickerConfig((spec("queue-scorer"), spec("random-picker", "queue-scorer", 1))))
    assert path == ("plugins", 1, "name")


def test_a_producer_does_not_belong_into_a_profile() -> None:
    config = PickerConfig((spec("inflight-load-producer"),), (profile("inflight-load-producer"),))
    ((_, message),) = problems(config)
    assert "declaring it is enough" in message


def test_weights_must_be_numbers() -> None:
    config = PickerConfig((spec("queue-scorer"),), (profile("queue-scorer", weights={"queue-scorer": float("nan")}),))
    ((path, _),) = problems(config)
    assert path[-1] == "weight"


def test_the_detector_may_be_chosen_by_name() -> None:
    config = PickerConfig((spec("concurrency-detector", "limit", maxConcurrency=7),), saturation_detector="limit")
    assert build(config).detector == ConcurrencyDetector(max_concurrency=7)
    assert build(PickerConfig(saturation_detector="concurrency-detector")).detector == ConcurrencyDetector()
    ((_, message),) = problems(PickerConfig((spec("queue-scorer"),), saturation_detector="queue-scorer"))
    assert "not a saturation detector" in message
    ((_, message),) = problems(PickerConfig(saturation_detector="utilisation-detector"))
    assert "no plugin is named" in message


def test_a_producer_that_is_named_must_be_declared() -> None:
    config = picker(("prefix-cache-scorer", 1, {"prefixMatchInfoProducerName": "precise"}))
    ((path, _),) = problems(config)
    assert path[-1] == "prefixMatchInfoProducerName"


def test_gates_are_checked() -> None:
    ((path, message),) = problems(PickerConfig(feature_gates={"flowcontrol": True}))
    assert path == ("featureGates",)
    assert 'did you mean "flowControl"?' in message
    ((_, message),) = problems(PickerConfig(feature_gates={"flowControl": True}))
    assert "not supported yet" in message


def test_an_unchecked_configuration_does_not_build() -> None:
    with pytest.raises(ValueError, match="unknown plugin type"):
        build(PickerConfig((spec("nonsense"),)))


def test_long_names_are_not_repeated_in_full() -> None:
    ((_, message),) = problems(PickerConfig((spec("x" * 100_000),)))
    assert len(message) < 300
