"""EndpointPickerConfig after its document was read and before its plugins are built.

`control` reads it and knows where each value stood; `schedule` and `flow` know the plugins; `Problem.path` joins them.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field


class PluginSpec(Struct, frozen=True):
    """One entry of `plugins`. `path` is where it stood, as keys and indexes from the document's root."""

    name: str
    type: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    path: tuple[str | int, ...] = ()


class PluginRef(Struct, frozen=True):
    """One entry of a profile's `plugins`. `weight` is for scorers; None means 1."""

    name: str
    weight: float | None = None
    path: tuple[str | int, ...] = ()


class ProfileSpec(Struct, frozen=True):
    """One scheduling profile."""

    name: str
    plugins: tuple[PluginRef, ...]
    path: tuple[str | int, ...] = ()


class PickerConfig(Struct, frozen=True):
    """The whole document. Without profiles the loader's defaults apply (queue 2, KV 2, prefix 3, max score)."""

    plugins: tuple[PluginSpec, ...] = ()
    profiles: tuple[ProfileSpec, ...] = ()
    saturation_detector: str | None = None
    """Name of the plugin that measures saturation; None: `utilization-detector` with its defaults."""
    feature_gates: Mapping[str, bool] = field(default_factory=dict)


class Problem(Struct, frozen=True):
    """Something wrong in a document. `path` locates it; `message` names the thing, the value and the remedy."""

    path: tuple[str | int, ...]
    message: str
