"""What was found wrong, or odd, in a text: where, at which field, and what to do about it. The unit of every report."""

from collections.abc import Iterable
from difflib import get_close_matches

from msgspec import Struct

Path = tuple[str | int, ...]
"""Keys and indexes from the root of a document."""


class Finding(Struct, frozen=True, order=True):
    """One located problem or warning. `line` and `column` count from 1; 0 where the source has no text (an object from
    an API server, a command line flag). `path` reads like `spec.targetPorts[0].number`; empty: the whole document."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (where, self.path, self.message) if part)


def dotted(path: Path) -> str:
    """`("spec", "rules", 0, "a.b/c")` as `spec.rules[0]["a.b/c"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("-", "").replace("_", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += f'["{shown(part)}"]'
    return text


def shown(value: str, limit: int = 80) -> str:
    """`value` as it may stand inside a one-line message: control characters escaped, cut at `limit` characters."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in value[: limit + 1])
    return text if len(value) <= limit else text[: limit - 1] + "…"


def nearest(word: str, options: Iterable[str]) -> str | None:
    """The option that `word` was most likely meant to be, or None. Case does not count."""
    by_folded = {option.casefold(): option for option in options}
    close = get_close_matches(word[:300].casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def advice(word: str, options: Iterable[str]) -> str:
    """The end of a message about an unknown `word`: a suggestion, else the choice."""
    choice = list(options)
    close = nearest(word, choice)
    if close is not None:
        return f'did you mean "{close}"?'
    return f"known here: {', '.join(choice)}" if choice else "nothing is known here"
