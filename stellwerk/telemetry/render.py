"""Our own metrics as Prometheus text (format 0.0.4), in pieces, so that a large page never holds up the event loop.

`Family` is what every part offers that wants to be seen; `meters`, the scraper and the transports make them.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import lru_cache

from msgspec import Struct

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PIECE_LINES = 500


class Histogram:
    """Counts by upper bound (inclusive), as Prometheus defines it. Not cumulative inside."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a finite value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, counts: Sequence[int], sum: float) -> None:
        """Take in what was counted elsewhere by the same bounds."""
        for index, count in enumerate(counts):
            if count:
                self.counts[index] += count
        self.sum += sum


class Family(Struct, frozen=True):
    """One metric. `rows` pairs label values, in the order of `labels`, with a number or a histogram."""

    name: str
    kind: str
    """counter, gauge or histogram."""
    help: str
    labels: tuple[str, ...]
    rows: Sequence[tuple[tuple[str, ...], float | Histogram]]


def counter(name: str, help: str, value: float) -> Family:
    """A counter without labels."""
    return Family(name, "counter", help, (), (((), value),))


def gauge(name: str, help: str, value: float) -> Family:
    """A gauge without labels."""
    return Family(name, "gauge", help, (), (((), value),))


def text(families: Iterable[Family]) -> Iterator[str]:
    """The page, in pieces of some ten KB. Of families of one name the first is written."""
    lines: list[str] = []
    seen: set[str] = set()
    for family in families:
        if family.name in seen:
            continue
        seen.add(family.name)
        lines.append(f"# HELP {family.name} {_escaped_help(family.help)}\n# TYPE {family.name} {family.kind}\n")
        for values, content in family.rows:
            labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(family.labels, values, strict=True))
            if isinstance(content, Histogram):
                lines.extend(_histogram(family.name, labels, content))
            else:
                lines.append(
                    f"{family.name}{{{labels}}} {_number(content)}\n"
                    if labels
                    else f"{family.name} {_number(content)}\n"
                )
            if len(lines) >= _PIECE_LINES:
                yield "".join(lines)
                lines.clear()
    yield "".join(lines)


def _histogram(name: str, labels: str, content: Histogram) -> Iterator[str]:
    total = 0
    before = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
    for bound, count in zip((*content.bounds, math.inf), content.counts, strict=True):
        total += count
        yield f'{before}le="{_bound(bound)}"}} {total}\n'
    after = f"{{{labels}}}" if labels else ""
    yield f"{name}_sum{after} {_number(content.sum)}\n{name}_count{after} {total}\n"


def _number(value: float) -> str:
    """Integers without a fraction or an exponent."""
    if math.isfinite(value):
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
    return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")


@lru_cache(maxsize=1024)
def _bound(value: float) -> str:
    """A bucket's bound as Go writes it (`strconv.FormatFloat(value, 'g', -1, 64)`): `1.048576e+06`. It is a label, so
    another text for the same number would be another series beside the reference's."""
    if not 1e6 <= value < math.inf:
        return _number(value)
    mantissa, _, exponent = f"{Decimal(repr(value)).normalize():e}".partition("e")
    return f"{mantissa}e{int(exponent):+03d}"


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value


def _escaped_help(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
