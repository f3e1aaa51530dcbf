"""Faults a simulated server can be given, by flag or by admin call: what each is called, means and takes.

Written `kind`, `kind=value`, `kind=value@rate` or `kind=value@rate/seconds`: `slow=2`, `error=503@0.2`, `wedge/10`.
"""

import difflib
import re
from enum import Enum

from msgspec import Struct


class Kind(Enum):
    """What goes wrong. The value is its name in flags and admin calls."""

    SLOW = "slow"
    DELAY = "delay"
    HANG = "hang"
    ERROR = "error"
    RESET = "reset"
    REFUSE = "refuse"
    WEDGE = "wedge"
    RESTART = "restart"
    METRICS_HANG = "metrics-hang"
    METRICS_SLOW = "metrics-slow"
    METRICS_ERROR = "metrics-error"
    METRICS_GARBAGE = "metrics-garbage"
    METRICS_NAN = "metrics-nan"
    METRICS_HUGE = "metrics-huge"


class Meaning(Struct, frozen=True):
    """What a kind does, and its number: unit, default, bounds."""

    text: str
    unit: str = ""
    default: float = 0.0
    low: float = 0.0
    high: float = 0.0


MEANINGS = {
    Kind.SLOW: Meaning("every engine step takes VALUE times as long", "factor", 2.0, 0.001, 1e6),
    Kind.DELAY: Meaning("every request waits VALUE seconds before it is looked at", "seconds", 1.0, 0.0, 86_400.0),
    Kind.HANG: Meaning("requests are accepted and never answered, /health included"),
    Kind.ERROR: Meaning("requests are answered with status VALUE", "status", 500.0, 400.0, 599.0),
    Kind.RESET: Meaning("the connection is reset after VALUE tokens of the answer", "tokens", 3.0, 0.0, 1e9),
    Kind.REFUSE: Meaning("nobody listens on the port; open connections are reset"),
    Kind.WEDGE: Meaning("the engine stops; /health and /metrics still answer, with numbers that stand still"),
    Kind.RESTART: Meaning("the server is down for VALUE seconds and comes back empty", "seconds", 1.0, 0.0, 3_600.0),
    Kind.METRICS_HANG: Meaning("/metrics is accepted and never answered"),
    Kind.METRICS_SLOW: Meaning("/metrics is answered after VALUE seconds", "seconds", 2.0, 0.0, 86_400.0),
    Kind.METRICS_ERROR: Meaning("/metrics is answered with status VALUE", "status", 500.0, 400.0, 599.0),
    Kind.METRICS_GARBAGE: Meaning("/metrics answers 200 and bytes that are no metrics"),
    Kind.METRICS_NAN: Meaning("load and cache use on /metrics are NaN, infinite or negative"),
    Kind.METRICS_HUGE: Meaning("/metrics grows by VALUE megabytes", "megabytes", 100.0, 0.0, 2_048.0),
}
_FAULT = re.compile(r"(?P<kind>[a-z-]+)(?:=(?P<value>[^@/]+))?(?:@(?P<rate>[^/]+))?(?:/(?P<seconds>.+))?")


class Fault(Struct, frozen=True):
    """One fault in force."""

    kind: Kind
    value: float
    rate: float = 1.0
    """Share of requests it hits, 0..1 (hang, delay, error, reset)."""
    for_seconds: float | None = None
    """Ends by itself after so long; None: until it is taken back."""


class FaultError(ValueError):
    """A fault that cannot be; the message says what would be right."""


def fault(name: str, value: float | None = None, rate: float = 1.0, for_seconds: float | None = None) -> Fault:
    """A checked fault. Raises FaultError."""
    try:
        kind = Kind(name)
    except ValueError:
        names = [one.value for one in Kind]
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
        raise FaultError(f"unknown fault {name!r}: {hint}") from None
    meaning = MEANINGS[kind]
    if value is None:
        value = meaning.default
    if not meaning.unit and value != 0:
        raise FaultError(f"fault {name!r} takes no value, got {value:g}")
    if not meaning.low <= value <= meaning.high:
        raise FaultError(
            f"{meaning.unit} of fault {name!r} is {value:g}: it must be {meaning.low:g} to {meaning.high:g}"
        )
    if not 0.0 <= rate <= 1.0:
        raise FaultError(f"rate of fault {name!r} is {rate:g}: it must be 0 to 1")
    if for_seconds is not None and not 0.0 < for_seconds <= 1e9:
        raise FaultError(f"fault {name!r} for {for_seconds:g} seconds: it must be more than 0")
    return Fault(kind, value, rate, for_seconds)


def parse(text: str) -> Fault:
    """A fault as flags write it. Raises FaultError."""
    matched = _FAULT.fullmatch(text)
    if matched is None:
        raise FaultError(f"cannot read fault {text!r}: write KIND[=VALUE][@RATE][/SECONDS], like error=503@0.2/10")
    numbers: dict[str, float | None] = {}
    for part in ("value", "rate", "seconds"):
        try:
            numbers[part] = None if matched[part] is None else float(matched[part])
        except ValueError:
            raise FaultError(f"{part} of fault {text!r} is not a number: {matched[part]!r}") from None
    rate = numbers["rate"]
    return fault(matched["kind"], numbers["value"], 1.0 if rate is None else rate, numbers["seconds"])


def parse_placed(text: str, count: int) -> tuple[tuple[int, ...], Fault]:
    """`INDEX:FAULT` or `all:FAULT` for `count` servers: which servers, what. Raises FaultError."""
    place, colon, rest = text.partition(":")
    if not colon:
        raise FaultError(f"fault {text!r} names no server: write INDEX:FAULT or all:FAULT")
    if place == "all":
        return tuple(range(count)), parse(rest)
    if not place.isascii() or not place.isdigit() or int(place) >= count:
        raise FaultError(f"fault {text!r} names server {place!r}: there are 0 to {count - 1}, or all")
    return (int(place),), parse(rest)
