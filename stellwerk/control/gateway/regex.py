"""Regular expressions that RE2, and so Envoy, takes for sure: the usual part of its syntax, and a bound on its size.

An allow-list. RE2 refuses more than can be listed, and Envoy then refuses the routes of a whole port. So what is
refused here may be right, but not the reverse. Syntax: https://github.com/google/re2/wiki/Syntax; bounds: re2's
parse.cc (repetitions) and compile.cc (size). Envoy has RE2 compare bytes (Latin-1), not characters.
"""

import re
from typing import NamedTuple

MAX_REGEX = 1024
"""Characters."""
MAX_REPEAT = 1000
"""Of counted repetitions, those within one another multiplied: RE2's own limit."""
MAX_SIZE = 60_000
"""Instructions that a pattern becomes, as estimated here, which is never too few. RE2 has room for 87,000."""
_MAX_DEPTH = 50

_TEXT = re.compile(r"[\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]*")
_COUNTED = re.compile(r"\{([0-9]{1,9})(?:,([0-9]{1,9})?)?\}")
_FLAGS = re.compile(r"\?(?:[imsU]+(?:-[imsU]+)?|-[imsU]+)([:)])")
_NAME = re.compile(r"\?P<([A-Za-z_][A-Za-z0-9_]*)>")
_CODE = re.compile(r"([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,2})\}")
_NAMED_SET = re.compile(
    r":\^?(?:alnum|alpha|ascii|blank|cntrl|digit|graph|lower|print|punct|space|upper|word|xdigit):\]"
)
_CONTROLS = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_BOUNDARIES = ("^", "$", r"\b", r"\B", r"\A", r"\z")
_SIZE = 8
"""Instructions for a byte, a set or a part of one, and for what joins it to the others. Rounded up."""
_MAX_BYTES = 4
"""Of a character."""


def regex_problem(pattern: str) -> str | None:
    """Why RE2 might refuse `pattern`, as the end of a sentence that begins with it; None: it takes it."""
    if not pattern or len(pattern) > MAX_REGEX:
        return f"has {len(pattern)} characters, not 1 to {MAX_REGEX}"
    if _TEXT.fullmatch(pattern) is None:
        return "has control characters"
    try:
        size = _Reader(pattern).whole().size
    except _Refused as refused:
        return str(refused)
    return None if size <= MAX_SIZE else "repeats too much of too large a set: repeat less, or match less exactly"


class _Refused(Exception):
    """The reason, as `regex_problem` returns it."""


class _Piece(NamedTuple):
    """Part of a pattern."""

    size: int
    """Instructions."""
    repeats: int = 1
    """The greatest product of counted repetitions within one another."""

    def beside(self, other: "_Piece") -> "_Piece":
        return _Piece(self.size + other.size, max(self.repeats, other.repeats))


class _Reader:
    """Reads one pattern, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._names: set[str] = set()

    def whole(self) -> _Piece:
        found = self._alternatives()
        if self._at < len(self._text):
            raise self._refused('has a ")" without "("')
        return found

    def _alternatives(self) -> _Piece:
        found = self._sequence()
        while self._takes("|"):
            found = found.beside(self._sequence())
        return found

    def _sequence(self) -> _Piece:
        found = _Piece(_SIZE)
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            found = found.beside(self._part())
        return found

    def _part(self) -> _Piece:
        """One thing, and how often it is repeated. Boundaries and flags may not be repeated."""
        if any(map(self._takes, _BOUNDARIES)):
            return _Piece(_SIZE)
        if self._is_repetition():
            raise self._refused("repeats nothing, or a repetition")
        if self._takes("("):
            group = self._group()
            return _Piece(0) if group is None else self._repeated(group)
        if self._takes("["):
            return self._repeated(_Piece(self._set()))
        if self._text[self._at].isascii():
            self._character()
            return self._repeated(_Piece(_SIZE))
        char = self._next()
        if self._is_repetition():
            raise self._refused(f'repeats "{char}", of which Envoy would repeat the last byte only: write "(?:{char})"')
        return _Piece(_MAX_BYTES * _SIZE)

    def _is_repetition(self) -> bool:
        """Whether one comes next."""
        return (
            self._text[self._at : self._at + 1] in ("*", "+", "?") or _COUNTED.match(self._text, self._at) is not None
        )

    def _repeated(self, piece: _Piece) -> _Piece:
        counted = self._match(_COUNTED)
        if counted is not None:
            low = int(counted[1])
            high = int(counted[2] or low)
            repeats = piece.repeats * max(1, high)
            if high < low or repeats > MAX_REPEAT:
                raise self._refused(
                    f"repeats more than {MAX_REPEAT} times, all within one another multiplied, or not at all"
                )
            piece = _Piece((piece.size + _SIZE) * (high + 1), repeats)
        elif any(map(self._takes, "*+?")):
            piece = piece.beside(_Piece(_SIZE))
        else:
            return piece
        self._takes("?")
        return piece

    def _group(self) -> _Piece | None:
        """After its bracket. None: it holds only flags, for what follows."""
        named = self._match(_NAME)
        if named is not None:
            if named[1] in self._names:
                raise self._refused(f"has two groups of the name {named[1]}")
            self._names.add(named[1])
        elif (flags := self._match(_FLAGS)) is not None:
            if flags[1] == ")":
                return None
        elif not self._takes("?:") and self._text.startswith("?", self._at):
            raise self._refused("has a kind of group that is not known here")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._refused(f"has more than {_MAX_DEPTH} groups within one another")
        found = self._alternatives()
        if not self._takes(")"):
            raise self._refused('has a "(" without ")"')
        self._depth -= 1
        return found.beside(_Piece(_SIZE))

    def _set(self) -> int:
        """After its bracket, where a "]" is one of its characters. Its size."""
        self._takes("^")
        size, is_first = _SIZE, True
        while is_first or not self._takes("]"):
            is_first = False
            low = self._member()
            if low is not None and self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                high = self._member()
                if high is None or high < low:
                    raise self._refused("has a range that ends before it begins")
            size += _SIZE
        return size

    def _member(self) -> int | None:
        """Of a set: as `_character`."""
        if self._takes("["):
            if self._match(_NAMED_SET) is None:
                raise self._refused('has a "[" within a set, where it is written "\\["')
            return None
        if not self._text[self._at : self._at + 1].isascii():
            raise self._refused("has a character beyond ASCII within a set, but Envoy compares bytes: write (?:a|b)")
        return self._character()

    def _character(self) -> int | None:
        """The code of a byte; None: one of a set."""
        char = self._next()
        if char != "\\":
            return ord(char)
        char = self._next()
        if char in "dswDSW":
            return None
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char == "x" and (found := self._match(_CODE)) is not None:
            return int(found[1] or found[2], 16)
        if char.isalnum() or not char.isascii():
            raise self._refused(f'has "\\{char}", which RE2 does not know, or not here')
        return ord(char)

    def _next(self) -> str:
        if self._at == len(self._text):
            raise self._refused("ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _takes(self, text: str) -> bool:
        """Whether `text` comes next; then it is read."""
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What of `pattern` comes next; it is read."""
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _refused(self, why: str) -> _Refused:
        return _Refused(f"{why} (up to character {self._at} of {len(self._text)})")
