"""What Helm does to our templates, as far as they use it: one `if` around a file, and values as JSON or quoted text.

Anything else in a template is an error here, so a chart that this renders is one that Helm renders in the same way.
Where Helm itself is built (`python -m tests.cluster build`), tests compare with it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Scope = Mapping[str, Any]
_GUARD = re.compile(r"\A(# .*\n)*\{\{- if (\.[\w.]+) \}\}\n(.*)\{\{- end \}\}\n\Z", re.DOTALL)
_EXPRESSION = re.compile(r'\{\{ (?:printf "([%s\w-]+)" ((?:\.[\w.]+ ?)+)|(\.[\w.]+) )\| (toJson|quote) \}\}')


def rendered(chart: Path, values: Mapping[str, Any], namespace: str) -> list[dict[str, Any]]:
    """The objects of `chart`, without its definitions."""
    scope = {"Values": values, "Release": {"Namespace": namespace}}
    return [each for path in sorted((chart / "templates").iterdir()) for each in _objects(path, scope)]


def _objects(path: Path, scope: Scope) -> Iterator[dict[str, Any]]:
    text = path.read_text()
    if guard := _GUARD.match(text):
        text = guard[3] if _at(scope, guard[2]) else ""
    filled = _EXPRESSION.sub(lambda match: _filled(match, scope), text)
    assert "{{" not in filled, f"{path}: {filled[filled.index('{{') :][:80]}"
    yield from filter(None, yaml.load_all(filled, yaml.CSafeLoader))


def _filled(match: re.Match[str], scope: Scope) -> str:
    layout, paths, path, function = match.groups()
    value = layout % tuple(_at(scope, each) for each in paths.split()) if layout else _at(scope, path)
    if function == "toJson":
        return json.dumps(value)
    return json.dumps(str(value).lower() if isinstance(value, bool) else str(value))


def _at(scope: Scope, path: str) -> Any:
    found: Any = scope
    for name in path.strip(".").split("."):
        found = found[name]
    return found
