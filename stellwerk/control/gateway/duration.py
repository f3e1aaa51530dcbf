"""Durations as the Gateway API writes them (GEP-2257): `1h30m`, `500ms`, whole numbers only."""

import re

_PARTS = re.compile(r"([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?([0-9]{1,5}ms)?")
_UNITS = (3600.0, 60.0, 1.0, 0.001)


def seconds(text: str | None) -> float | None:
    """In seconds; None: not said, or not a duration."""
    found = _PARTS.fullmatch(text) if text else None
    if found is None:
        return None
    parts = zip(found.groups(), _UNITS, strict=True)
    return sum(int(part.rstrip("hms")) * unit for part, unit in parts if part)
