"""Keeps label values, and with them the number of series, bounded: names come from clients, and clients may lie.

A single model name of a megabyte must not grow the metrics page, nor must a hundred thousand short ones.
"""

from collections.abc import Iterable

OTHER = "other"
MAX_LABEL_BYTES = 128


def bounded(text: str) -> str:
    """At most `MAX_LABEL_BYTES` of UTF-8, without control characters; what was cut ends in `...`."""
    if len(text) > MAX_LABEL_BYTES:
        text = text[: MAX_LABEL_BYTES + 1]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else "?" for character in text)
    encoded = text.encode(errors="replace")
    if len(encoded) <= MAX_LABEL_BYTES:
        return text
    return encoded[: MAX_LABEL_BYTES - 3].decode(errors="ignore") + "..."


class Guard:
    """Lets the first `limit` different names through, and those that the operator configured; the rest is `other`."""

    __slots__ = ("_configured", "_limit", "_names")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._names: set[str] = set()
        self._configured: frozenset[str] = frozenset()

    def configure(self, names: Iterable[str]) -> None:
        """These never fold; the ones of before no longer do so for free."""
        self._configured = frozenset(bounded(name) for name in names)

    def is_configured(self, label: str) -> bool:
        """Whether the label value is one that the operator named."""
        return label in self._configured

    def fold(self, text: str) -> str:
        """The label value for `text`."""
        name = bounded(text)
        if name in self._names or name in self._configured:
            return name
        if len(self._names) >= self._limit:
            return OTHER
        self._names.add(name)
        return name
