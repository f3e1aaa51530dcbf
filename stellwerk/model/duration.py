"""Durations as Kubernetes and Go write them: `200ms`, `1m30s`, `1.5h`."""

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds of a Go duration, >= 0. Raises ValueError, naming the text and the form that is expected."""
    if text == "0":
        return 0.0
    if len(text) > 64 or not _WHOLE.fullmatch(text):
        raise ValueError(f'"{text[:64]}" is not a duration: write a number and a unit, as in 200ms, 5s or 1m30s')
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
