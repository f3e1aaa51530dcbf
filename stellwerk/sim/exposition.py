"""Families of a Prometheus page that are cheap to render again: text is made when a value changed, else reused.

The format is that of the Python client library (sorted labels, `_created` gauges, Go-style floats), because pages of
real vLLM servers come from it.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

Labels = Mapping[str, str]


def number(value: float) -> str:
    """A sample's value as the Python client writes it: `11.0`, `1.79e+09`, `NaN`, `+Inf`."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(float(value))
    dot = text.find(".")
    if value > 0 and dot > 6:
        mantissa = f"{text[0]}.{text[1:dot]}{text[dot + 1 :]}".rstrip("0.")
        return f"{mantissa}e+{dot - 1:02d}"
    return text


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def label_text(labels: Labels) -> str:
    """`{a="b",c="d"}` with names in order; nothing for no labels."""
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(labels[name])}"' for name in sorted(labels)) + "}"


def _head(name: str, text: str, kind: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


class Values:
    """A gauge or counter with any number of series; `set` and `add` by label text."""

    def __init__(self, name: str, text: str, kind: str, created: float | None = None) -> None:
        """`name` without `_total`; a counter's series and its head get it. `created`: Unix time, adds `_created`."""
        self._series_name = f"{name}_total" if kind == "counter" else name
        self._kind_head = _head(self._series_name, text, kind)
        self._created_name = f"{name}_created"
        self._created_head = _head(self._created_name, text, "gauge")
        self._created = created
        self._values: dict[str, float] = {}
        self._rendered: str | None = None

    def series(self, labels: Labels, value: float = 0.0) -> str:
        """Make a series; its key for `set` and `add`."""
        key = label_text(labels)
        self.set(key, self._values.get(key, value))
        return key

    def set(self, key: str, value: float) -> None:
        """Set a series."""
        if self._values.get(key) != value or key not in self._values:
            self._values[key] = value
            self._rendered = None

    def add(self, key: str, value: float = 1.0) -> None:
        """Add to a series."""
        self._values[key] = self._values.get(key, 0.0) + value
        self._rendered = None

    def remove(self, key: str) -> None:
        """Drop a series."""
        self._values.pop(key, None)
        self._rendered = None

    def render(self) -> str:
        """The family's lines."""
        if self._rendered is None:
            lines = [self._kind_head]
            name = self._series_name
            lines += [f"{name}{key} {number(value)}\n" for key, value in self._values.items()]
            if self._created is not None:
                created = number(self._created)
                lines.append(self._created_head)
                lines += [f"{self._created_name}{key} {created}\n" for key in self._values]
            self._rendered = "".join(lines)
        return self._rendered


class Histogram:
    """One histogram series."""

    def __init__(self, name: str, text: str, labels: Labels, bounds: Sequence[float], created: float) -> None:
        self._bounds = list(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0
        self.head = _head(name, text, "histogram")
        ends = [*(number(bound) for bound in self._bounds), "+Inf"]
        self._buckets = [f"{name}_bucket{label_text({**labels, 'le': end})} " for end in ends]
        key = label_text(labels)
        self._count_line = f"{name}_count{key} "
        self._sum_line = f"{name}_sum{key} "
        self.created_head = _head(f"{name}_created", text, "gauge")
        self.created_line = f"{name}_created{key} {number(created)}\n"
        self._rendered: str | None = None

    @property
    def count(self) -> int:
        """Observations."""
        return sum(self._counts)

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value` so many times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times
        self._rendered = None

    def lines(self) -> str:
        """Samples without head and `_created`."""
        if self._rendered is not None:
            return self._rendered
        lines = []
        total = 0
        for prefix, observed in zip(self._buckets, self._counts, strict=True):
            total += observed
            lines.append(f"{prefix}{number(total)}\n")
        lines.append(f"{self._count_line}{number(total)}\n{self._sum_line}{number(self._sum)}\n")
        self._rendered = "".join(lines)
        return self._rendered

    def render(self) -> str:
        """The family's lines."""
        return self.head + self.lines() + self.created_head + self.created_line

    @staticmethod
    def render_all(histograms: Sequence["Histogram"]) -> str:
        """One family of several series."""
        if not histograms:
            return ""
        lines = [one.lines() for one in histograms] + [histograms[0].created_head]
        return "".join([histograms[0].head, *lines, *(one.created_line for one in histograms)])


class Summary:
    """Count and sum per handler, without quantiles."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._values: dict[str, tuple[int, float, float]] = {}
        self._rendered: str | None = None

    def observe(self, key: str, value: float, now: float) -> None:
        """One observation for the series `key` at Unix time `now`."""
        count, total, created = self._values.get(key, (0, 0.0, now))
        self._values[key] = (count + 1, total + value, created)
        self._rendered = None

    def render(self) -> str:
        """The family's lines; nothing before the first observation but the head."""
        if self._rendered is None:
            name = self._name
            lines = [_head(name, self._text, "summary")]
            for key, (count, total, _) in self._values.items():
                lines.append(f"{name}_count{key} {number(count)}\n{name}_sum{key} {number(total)}\n")
            if self._values:
                lines.append(_head(f"{name}_created", self._text, "gauge"))
            lines += [f"{name}_created{key} {number(made)}\n" for key, (_, _, made) in self._values.items()]
            self._rendered = "".join(lines)
        return self._rendered
