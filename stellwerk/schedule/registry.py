"""From a PickerConfig to a plan: `check` names everything wrong with it, `build` makes what the engine runs.

Defaults are upstream's (`pkg/epp/config/loader/defaults.go`): nothing declared means queue 2, KV cache 2, prefix 3 and
the highest score; plugins without a profile make one profile of all of them; a profile without a picker takes the
declared one, or the highest score; a scorer without a weight counts 1.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from math import isfinite
from typing import Any

import msgspec
from msgspec import Struct

from stellwerk.model.detector import ConcurrencyDetector, Detector, UtilizationDetector
from stellwerk.model.engines import EngineRule
from stellwerk.model.picker_config import PickerConfig, PluginRef, PluginSpec, Problem, ProfileSpec
from stellwerk.schedule.affinity import ApproxPrefixCacheProducer
from stellwerk.schedule.filters import ConcurrencyDetectorFilter, UtilizationDetectorFilter
from stellwerk.schedule.load import InflightLoadProducer
from stellwerk.schedule.pickers import MaxScorePicker
from stellwerk.schedule.pipeline import NamedFilter, Profile, Weighted
from stellwerk.schedule.plugin import Filter, Picker, Scorer
from stellwerk.schedule.scorers import PrefixCacheScorer, TokenLoadScorer
from stellwerk.schedule.types import INERT, METRICS_EXTRACTOR, PLANNED, TYPES, CoreMetricsExtractor

DEFAULT_PLUGINS = (
    PluginSpec("queue-scorer", "queue-scorer"),
    PluginSpec("kv-cache-utilization-scorer", "kv-cache-utilization-scorer"),
    PluginSpec("prefix-cache-scorer", "prefix-cache-scorer"),
)
DEFAULT_PROFILE = ProfileSpec(
    "default",
    (
        PluginRef("queue-scorer", 2.0),
        PluginRef("kv-cache-utilization-scorer", 2.0),
        PluginRef("prefix-cache-scorer", 3.0),
    ),
)
GATES = ("flowControl", "haPopulateNonLeaderDatastore")


class Plan(Struct, frozen=True):
    """What a configuration asks for, ready to run."""

    profile: Profile
    detector: Detector
    load: InflightLoadProducer
    prefix: ApproxPrefixCacheProducer | None
    """None: nothing looks at prefixes."""


def check(config: PickerConfig) -> tuple[Problem, ...]:
    """Everything wrong with the configuration, in the order of the document; empty: `build` will succeed."""
    return tuple(_Reading(config).problems)


def build(config: PickerConfig) -> Plan:
    """The plan. Raises ValueError with the first problem if the configuration was not checked."""
    reading = _Reading(config)
    if reading.problems:
        raise ValueError(reading.problems[0].message)
    return reading.plan()


def engines(config: PickerConfig) -> EngineRule:
    """How the engines of servers follow from their labels, in a configuration that was checked."""
    for spec in config.plugins:
        if spec.type == METRICS_EXTRACTOR:
            return msgspec.convert(dict(spec.parameters), CoreMetricsExtractor).rule
    return EngineRule()


class _Reading:
    """One pass over a configuration: plugins by name, and what was wrong on the way."""

    def __init__(self, config: PickerConfig) -> None:
        self.problems: list[Problem] = []
        self.plugins: dict[str, Any] = {}
        self.types: dict[str, str] = {}
        self._broken: set[str] = set()
        self._detector_name = config.saturation_detector
        self._check_gates(config)
        specs = config.plugins
        profiles = config.profiles
        if not specs and not profiles:
            specs, profiles = DEFAULT_PLUGINS, (DEFAULT_PROFILE,)
        for spec in specs:
            self._read(spec)
        self._check_single(ApproxPrefixCacheProducer, specs)
        self._check_single(InflightLoadProducer, specs)
        self._check_single(CoreMetricsExtractor, specs)
        self._profile = self._choose_profile(profiles)
        self._check_detector()
        self._check_producer_names(specs)

    def plan(self) -> Plan:
        filters: list[NamedFilter] = []
        scorers: list[Weighted] = []
        pickers: list[Picker] = []
        for ref in self._profile.plugins:
            plugin = self.plugins[ref.name]
            match plugin:
                case Filter():
                    filters.append(NamedFilter(ref.name, plugin))
                case UtilizationDetector():
                    filters.append(NamedFilter(ref.name, UtilizationDetectorFilter(plugin)))
                case ConcurrencyDetector():
                    filters.append(NamedFilter(ref.name, ConcurrencyDetectorFilter(plugin)))
                case Scorer():
                    scorers.append(Weighted(ref.name, plugin, 1.0 if ref.weight is None else float(ref.weight)))
                case Picker():
                    pickers.append(plugin)
        pickers += self._of(Picker)
        return Plan(
            profile=Profile(tuple(filters), tuple(scorers), next(iter(pickers), MaxScorePicker())),
            detector=self._detector(),
            load=next(iter(self._of(InflightLoadProducer)), InflightLoadProducer()),
            prefix=self._prefix(each.scorer for each in scorers),
        )

    def _of(self, kind: type) -> list[Any]:
        return [plugin for plugin in self.plugins.values() if isinstance(plugin, kind)]

    def _detector(self) -> Detector:
        if self._detector_name is not None and self._detector_name in self.plugins:
            chosen: Detector = self.plugins[self._detector_name]
            return chosen
        declared = self._of(UtilizationDetector)
        return declared[0] if declared else UtilizationDetector()

    def _prefix(self, scorers: Iterable[Scorer]) -> ApproxPrefixCacheProducer | None:
        declared: list[ApproxPrefixCacheProducer] = self._of(ApproxPrefixCacheProducer)
        if declared:
            return declared[0]
        wants_it = any(isinstance(scorer, PrefixCacheScorer | TokenLoadScorer) for scorer in scorers)
        return ApproxPrefixCacheProducer() if wants_it else None

    def _found(self, path: tuple[str | int, ...], message: str) -> None:
        self.problems.append(Problem(path, message))

    def _check_gates(self, config: PickerConfig) -> None:
        for gate, is_on in config.feature_gates.items():
            if gate not in GATES:
                self._found(("featureGates",), f'unknown feature gate "{_short(gate)}"{_nearest(gate, GATES)}')
            elif gate == "flowControl" and is_on:
                self._found(("featureGates",), "flowControl is not supported yet: leave the gate out")

    def _read(self, spec: PluginSpec) -> None:
        if spec.name in self.types:
            message = f'plugin "{_short(spec.name)}" is declared twice: give one of them another name'
            self._found((*spec.path, "name"), message)
            return
        self.types[spec.name] = spec.type
        kind = TYPES.get(spec.type) or INERT.get(spec.type)
        plugin = None
        if kind is not None:
            plugin = self._convert(spec, kind)
        elif spec.type in PLANNED:
            self._found((*spec.path, "type"), f'plugin type "{spec.type}" is not supported yet: remove it')
        else:
            known = (*TYPES, *INERT, *PLANNED)
            self._found((*spec.path, "type"), f'unknown plugin type "{_short(spec.type)}"{_nearest(spec.type, known)}')
        if plugin is None:
            self._broken.add(spec.name)
        else:
            self.plugins[spec.name] = plugin

    def _convert(self, spec: PluginSpec, kind: type) -> Any:
        fields = {each.encode_name: each for each in msgspec.structs.fields(kind)}
        where = (*spec.path, "parameters")
        known = True
        for name in spec.parameters:
            if name not in fields:
                known = False
                takes = _nearest(str(name), fields) or ("" if fields else ": it takes no parameters")
                self._found((*where, name), f'{spec.type} has no parameter "{_short(str(name))}"{takes}')
        if not known:
            return None
        try:
            return msgspec.convert(dict(spec.parameters), kind)
        except msgspec.ValidationError as error:
            message, _, tail = str(error).partition(" - at `$")
            self._found((*where, *_steps(tail.rstrip("`"))), f"{spec.type}: {message}")
            return None

    def _check_single(self, kind: type, specs: tuple[PluginSpec, ...]) -> None:
        declared = [spec for spec in specs if isinstance(self.plugins.get(spec.name), kind)]
        for spec in declared[1:]:
            self._found(spec.path, f'a second {spec.type} ("{_short(spec.name)}") is not supported: keep one')

    def _choose_profile(self, profiles: tuple[ProfileSpec, ...]) -> ProfileSpec:
        if not profiles:
            kinds = Filter | Scorer | Picker | UtilizationDetector | ConcurrencyDetector
            names = [name for name, plugin in self.plugins.items() if isinstance(plugin, kinds)]
            profiles = (ProfileSpec("default", tuple(PluginRef(name) for name in names)),)
        for extra in profiles[1:]:
            message = (
                f'a second profile ("{_short(extra.name)}") needs a profile handler that is not supported yet: keep one'
            )
            self._found(extra.path, message)
        for ref in profiles[0].plugins:
            self._check_ref(ref)
        pickers = [ref for ref in profiles[0].plugins if isinstance(self.plugins.get(ref.name), Picker)]
        for ref in pickers[1:]:
            self._found(ref.path, f'a second picker ("{_short(ref.name)}") in one profile: keep one')
        return profiles[0]

    def _check_ref(self, ref: PluginRef) -> None:
        if ref.weight is not None and not isfinite(ref.weight):
            self._found((*ref.path, "weight"), f"weight {ref.weight} is not a finite number")
        if ref.name in self._broken:
            return
        plugin = self.plugins.get(ref.name)
        if plugin is None:
            nearest = _nearest(ref.name, self.types) or ": declare it under plugins"
            self._found((*ref.path, "pluginRef"), f'no plugin is named "{_short(ref.name)}"{nearest}')
        elif isinstance(plugin, ApproxPrefixCacheProducer | InflightLoadProducer):
            message = f'"{_short(ref.name)}" is a data producer: declaring it is enough, take it out of the profile'
            self._found((*ref.path, "pluginRef"), message)

    def _check_detector(self) -> None:
        name = self._detector_name
        if name is None or name in self._broken:
            return
        where = ("saturationDetector", "pluginRef")
        plugin = self.plugins.get(name)
        if plugin is None and name in ("utilization-detector", "concurrency-detector"):
            self.plugins[name] = UtilizationDetector() if name == "utilization-detector" else ConcurrencyDetector()
        elif plugin is None:
            nearest = _nearest(name, self.types) or ": declare it under plugins"
            self._found(where, f'no plugin is named "{_short(name)}"{nearest}')
        elif not isinstance(plugin, UtilizationDetector | ConcurrencyDetector):
            self._found(where, f'"{_short(name)}" ({self.types[name]}) is not a saturation detector')

    def _check_producer_names(self, specs: tuple[PluginSpec, ...]) -> None:
        for spec in specs:
            plugin = self.plugins.get(spec.name)
            if plugin is None:
                continue
            for field, kind in (
                ("prefix_match_info_producer_name", ApproxPrefixCacheProducer),
                ("in_flight_load_producer_name", InflightLoadProducer),
            ):
                name = getattr(plugin, field, "")
                if name and not isinstance(self.plugins.get(name), kind) and name not in self._broken:
                    key = msgspec.structs.fields(type(plugin))
                    encoded = next(each.encode_name for each in key if each.name == field)
                    self._found((*spec.path, "parameters", encoded), f'no such producer is declared: "{_short(name)}"')


def _steps(path: str) -> tuple[str | int, ...]:
    """`.conditions[0].metric` as keys and indexes; `[...]` (any key) ends it."""
    steps: list[str | int] = []
    for part in path.replace("[", ".[").split("."):
        if part.startswith("["):
            if not part[1:-1].isdigit():
                break
            steps.append(int(part[1:-1]))
        elif part:
            steps.append(part)
    return tuple(steps)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name[:100], list(known), 1)
    return f': did you mean "{near[0]}"?' if near else ""


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
