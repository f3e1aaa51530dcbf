"""What Helm does to our templates, as far as they use it: `if` around a file, `range` within a line, and pipelines of
a few functions.

Anything else in a template is an error here, so a chart that this renders is one that Helm renders in the same way.
Where Helm itself is built (`python -m tests.cluster build`), tests compare with it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Scope = Mapping[str, Any]
_ACTION = re.compile(r"\{\{-? ?(.*?) ?\}\}")
_RANGE = re.compile(r"range (\$\w+), (\$\w+) := (\S+)")
_WORD = re.compile(r'"(?:\\.|[^"\\])*"|`[^`]*`|\([^()]*\)|\||[^\s|()]+')


class Refused(Exception):
    """The chart says no; the message says why."""


def rendered(chart: Path, values: Mapping[str, Any], namespace: str) -> list[dict[str, Any]]:
    """The objects of `chart`, without its definitions. Raises Refused."""
    scope = {"Values": values, "Release": {"Namespace": namespace}}
    texts = [path.read_text() for path in sorted((chart / "templates").glob("*.yaml"))]
    return [each for text in texts for each in yaml.load_all(filled(text, scope), yaml.CSafeLoader) if each]


def filled(text: str, scope: Scope) -> str:
    """A template's text."""
    return "".join(_block(iter(_ACTION.split(text)), scope))


def _block(pieces: Iterator[str], scope: Scope) -> Iterator[str]:
    """Text and actions, which take turns."""
    for text in pieces:
        yield text
        action = next(pieces, None)
        if action is None:
            return
        if action.startswith("if "):
            inner = _until_end(pieces)
            if _value(action[3:], scope):
                yield from _block(iter(inner), scope)
        elif found := _RANGE.fullmatch(action):
            inner = _until_end(pieces)
            for key, entry in _entries(_value(found[3], scope)):
                yield from _block(iter(inner), {**scope, found[1]: key, found[2]: entry})
        else:
            yield str(_value(action, scope))


def _until_end(pieces: Iterator[str]) -> list[str]:
    """What belongs to an `if` or `range`."""
    inner, depth = [], 1
    for text in pieces:
        inner.append(text)
        action = next(pieces)
        depth += action.startswith(("if ", "range ")) - (action == "end")
        if depth == 0:
            break
        inner.append(action)
    return inner


def _entries(found: Any) -> list[tuple[Any, Any]]:
    return sorted(found.items()) if isinstance(found, Mapping) else list(enumerate(found))


def _value(pipeline: str, scope: Scope) -> Any:
    """Of `command | command`; each is a function with arguments, or one operand."""
    given: list[Any] = []
    words = _WORD.findall(pipeline)
    while words:
        end = words.index("|") if "|" in words else len(words)
        first, *rest = words[:end]
        words = words[end + 1 :]
        arguments = [*(_operand(each, scope) for each in rest), *given]
        given = [_FUNCTIONS[first](*arguments) if first in _FUNCTIONS else _operand(first, scope)]
        assert first in _FUNCTIONS or not arguments, pipeline
    (made,) = given
    return made


def _operand(word: str, scope: Scope) -> Any:
    if word.startswith("("):
        return _value(word[1:-1], scope)
    if word.startswith("`"):
        return word[1:-1]
    if word.startswith((".", "$")):
        found: Any = scope
        for name in word.removeprefix(".").split("."):
            found = found[name]
        return found
    return json.loads(word)


def _quote(value: Any) -> str:
    return json.dumps(str(value).lower() if isinstance(value, bool) else str(value))


def _required(reason: str, value: Any) -> Any:
    if value in (None, ""):
        raise Refused(reason)
    return value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda *numbers: sum(numbers),
    "mul": lambda one, other: one * other,
    "default": lambda standard, value: value or standard,
    "fromJson": json.loads,
    "not": lambda value: not value,
    "printf": lambda layout, *values: layout % values,
    "quote": _quote,
    "required": _required,
    "ternary": lambda yes, no, test: yes if test else no,
    "toJson": json.dumps,
}
