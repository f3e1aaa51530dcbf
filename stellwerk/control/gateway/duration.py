"""Durations as the Gateway API writes them (GEP-2257): `1h30m`, `500ms`, whole numbers only."""

import re

_PART = re.compile(r"([0-9]{1,5})(h|ms|m|s)")
_WHOLE = re.compile(rf"(?:{_PART.pattern}){{1,4}}")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds(text: str) -> float | None:
    """All parts of `text` together, in seconds; in any order and repeated, as the definitions of the Gateway API allow
    them. None: this is no duration."""
    if _WHOLE.fullmatch(text) is None:
        return None
    return sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
