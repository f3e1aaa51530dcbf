"""Label selectors as text (`app=llama,tier in (a,b),!old`): checked here, evaluated by the API server.

The grammar is that of Kubernetes (`labels.Parse` in k8s.io/apimachinery).
"""

import re
from collections.abc import Iterator

from stellwerk.control.fields import LABEL_KEY, MAX_LABEL_KEY
from stellwerk.control.finding import shown

_TOKEN = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?\Z")
_KEY = re.compile(LABEL_KEY.removesuffix("$") + r"\Z")
_SYMBOLS = frozenset({"==", "!=", "=", "!", "(", ")", ",", "<", ">", ""})


def checked_selector(text: str) -> str:
    """`text` without the space around it. Raises ValueError for what is no selector, or selects everything."""
    try:
        _Reader(text).requirements()
    except ValueError as problem:
        remedy = "write it like app=llama, app!=llama, app in (a,b), app notin (a,b), app or !app, joined by commas"
        raise ValueError(f'"{shown(text)}" is not a label selector: {problem}; {remedy}') from None
    return text.strip()


class _Reader:
    """One walk over the tokens; the empty token is the end."""

    def __init__(self, text: str) -> None:
        self._tokens: Iterator[str] = iter([*_TOKEN.findall(text), ""])
        self._token = next(self._tokens)

    def requirements(self) -> None:
        self._requirement()
        while self._take(","):
            self._requirement()
        if self._token:
            raise ValueError(f'"{shown(self._token)}" stands where "," or the end should')

    def _requirement(self) -> None:
        is_absence = self._take("!")
        key = self._word("a label key")
        if len(key) > MAX_LABEL_KEY or not _KEY.match(key):
            raise ValueError(f'"{shown(key)}" is no label key')
        if is_absence:
            return
        if self._take("=") or self._take("==") or self._take("!="):
            self._value()
        elif self._take("in") or self._take("notin"):
            self._values()
        elif self._take("<") or self._take(">"):
            number = self._word("a number")
            if not re.fullmatch(r"[+-]?[0-9]+", number):
                raise ValueError(f'"{shown(number)}" is no number')

    def _values(self) -> None:
        self._expect("(")
        if self._token == ")":
            raise ValueError("a set needs a value")
        self._value()
        while self._take(","):
            self._value()
        self._expect(")")

    def _value(self) -> None:
        """May be empty."""
        value = self._next() if self._token not in _SYMBOLS else ""
        if not _VALUE.match(value):
            raise ValueError(f'"{shown(value)}" is no label value')

    def _word(self, what: str) -> str:
        if self._token in _SYMBOLS:
            raise ValueError(f'"{self._token}" stands where {what} should' if self._token else f"{what} is missing")
        return self._next()

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise ValueError(f'"{token}" is missing')

    def _take(self, token: str) -> bool:
        if self._token != token:
            return False
        self._next()
        return True

    def _next(self) -> str:
        token, self._token = self._token, next(self._tokens, "")
        return token
