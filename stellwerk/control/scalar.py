"""What a plain (unquoted) YAML scalar means, and where YAML versions disagree about it.

The reading is kubectl's, so that a file means the same here and in a cluster: `on`, `yes` and `y` are booleans, dates
are text. Numbers that YAML 1.1 and 1.2 read differently (`010`, `1_000`) are doubted instead of guessed.
"""

import re

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
TRUE_AND_FALSE = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
SWITCHES = {
    **dict.fromkeys(("yes", "Yes", "YES", "on", "On", "ON", "y", "Y"), True),
    **dict.fromkeys(("no", "No", "NO", "off", "Off", "OFF", "n", "N"), False),
}
"""Booleans of YAML 1.1 only."""

_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OCTAL = re.compile(r"[-+]?0[0-9_]+(\.[0-9]*)?")
_RADIX = re.compile(r"[-+]?0[xob][0-9a-fA-F_]+")
_GROUPED = re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

MAX_DIGITS = 30
"""Longer numbers are text that lacks quotes, and slow to convert."""

Value = str | int | float | bool | None


def plain(text: str) -> tuple[Value, str | None]:
    """The value of an unquoted scalar, and a doubt: why its author may have meant something else (None: clear)."""
    first = text[:1]
    if not first or first in "~nNtTfFyYoO":
        if text in NULLS:
            return None, None
        switch = TRUE_AND_FALSE.get(text, SWITCHES.get(text))
        return (text, None) if switch is None else (switch, None)
    if first not in "0123456789+-.":
        return text, None
    return _number(text)


def _number(text: str) -> tuple[Value, str | None]:
    if len(text) > MAX_DIGITS:
        looks_numeric = _FLOAT.fullmatch(text) is not None
        return text, f"a number of {len(text)} characters: quote it if it is text" if looks_numeric else None
    if _DECIMAL.fullmatch(text):
        return int(text), None
    if _FLOAT.fullmatch(text):
        return float(text), None
    if _OCTAL.fullmatch(text):
        return text, f"{text} is octal to YAML 1.1 and decimal to YAML 1.2: drop the leading zero, or quote it as text"
    if _RADIX.fullmatch(text):
        return text, f"not every YAML reader takes {text} as a number: write it in decimal, or quote it as text"
    if _GROUPED.fullmatch(text):
        return text, f"{text} is a number to YAML 1.1 and text to YAML 1.2: drop the underscores, or quote it as text"
    if _NOT_FINITE.fullmatch(text):
        return text, f"{text} is not a number that JSON and Kubernetes know: write a finite one, or quote it as text"
    return text, None


def because(raw: str, value: object) -> str | None:
    """Why an unquoted `raw` became `value`, where that surprises; for the end of a type error."""
    if isinstance(value, bool) and raw in SWITCHES:
        return f"YAML 1.1 reads an unquoted {raw} as {str(value).lower()}"
    return None
