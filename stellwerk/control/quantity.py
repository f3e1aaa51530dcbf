"""Durations as Go writes them (`1m30s`) and quantities as Kubernetes does (`5k`, `1Gi`): patterns and readers."""

import re
from decimal import Decimal

DURATION = r"^[-+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"
QUANTITY = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][-+]?[0-9]{1,2})?$"

_PART = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SCALE = {"m": Decimal("0.001"), "": Decimal(1)}
_SCALE |= {unit: Decimal(1000) ** (power + 1) for power, unit in enumerate("kMGTPE")}
_SCALE |= {f"{unit}i": Decimal(1024) ** (power + 1) for power, unit in enumerate("KMGTPE")}


def seconds(text: str) -> float:
    """Seconds of a text that matches `DURATION`."""
    total = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(text))
    return -total if text.startswith("-") else total


def whole(value: str | int) -> int:
    """A text that matches `QUANTITY`, or a plain number, as the next whole number, which is how Kubernetes rounds."""
    if isinstance(value, int):
        return value
    digits = re.match(r"\+?[0-9.]+", value)
    assert digits is not None, value
    unit = value[digits.end() :]
    number = Decimal(digits[0]) * _SCALE[unit] if unit in _SCALE else Decimal(value)
    return -int(-number // 1)
