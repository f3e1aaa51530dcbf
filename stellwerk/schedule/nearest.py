"""Names that a client may have meant, cheap enough to be asked by anybody: 0.2 ms among a hundred usual names.

Alike is by shared pairs of characters (Sørensen-Dice). difflib finds a little more, and takes up to 10 ms to do so.
"""

from collections.abc import Iterable
from itertools import islice

ALIKE = 0.5
"""Of 1, for equal sets of pairs."""
MAX_KNOWN = 100
MAX_LENGTH = 100


class Nearest:
    """Looks among at most `MAX_KNOWN` names, of which the first `MAX_LENGTH` characters count."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = [(name, _pairs(name)) for name in islice(known, MAX_KNOWN)]

    def to(self, name: str, count: int = 3) -> list[str]:
        """The names most alike, best first."""
        asked = _pairs(name)
        rated = [(2 * len(asked & pairs) / (len(asked) + len(pairs)), known) for known, pairs in self._known]
        rated.sort(key=lambda pair: -pair[0])
        return [known for alike, known in rated[:count] if alike >= ALIKE]


def _pairs(name: str) -> set[str]:
    text = f"^{name[:MAX_LENGTH].lower()}$"
    return {text[place : place + 2] for place in range(len(text) - 1)}
