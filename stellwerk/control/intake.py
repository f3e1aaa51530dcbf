"""Documents to objects: which kind each one is, whether it is right, and the located problems of all that are not.

Objects from files pass through `take_in`, objects from an API server through `admit`: the same checks, but for unknown
fields.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct

from stellwerk.control.document import Document
from stellwerk.control.fields import LEGACY_GROUP, OWN_GROUP, POOL_GROUP, ROUTER_GROUP, ReadObject
from stellwerk.control.finding import Finding, Path, advice, dotted, nearest, shown
from stellwerk.control.kinds import KINDS, MAY_BE_UNSPECIFIED, PoolImport, Unspecified
from stellwerk.control.picker import API_VERSIONS, KIND, EndpointPickerConfig, gate_problems, remarks
from stellwerk.control.rules import RULES
from stellwerk.control.schema import checked

GROUPS = frozenset({POOL_GROUP, LEGACY_GROUP, ROUTER_GROUP, OWN_GROUP})
KIND_NAMES = tuple(dict.fromkeys([*(kind for _, kind in KINDS), KIND]))
API_VERSION_NAMES = tuple(dict.fromkeys([*(version for version, _ in KINDS), *API_VERSIONS]))


class Origin(Struct, frozen=True, eq=False):
    """Where an object was read: `file` and its place among the documents of all files. Without a document (an object
    from an API server or a flag) findings have no line."""

    file: str
    index: int = 0
    document: Document | None = None
    root: Path = ()
    """Path of the object inside its document (an item of a List)."""

    def finding(self, path: Path, message: str, is_key: bool = False) -> Finding:
        """Something about the field at `path`, counted from the object's root."""
        if self.document is None:
            return Finding(self.file, 0, 0, dotted(path), message)
        _, line, column = self.document.at((*self.root, *path), is_key)
        return Finding(self.file, line, column, dotted(path), message)

    def raw(self, path: Path) -> str | None:
        """The text of the unquoted scalar at `path`, counted from the document's root."""
        node = self.document.at(path)[0] if self.document is not None else None
        return node.raw if node is not None else None


class Item(Struct, frozen=True, eq=False):
    """One object, and where it came from."""

    object: ReadObject
    origin: Origin = Origin("")


class PickerItem(Struct, frozen=True, eq=False):
    """One EndpointPickerConfig, and where it came from."""

    object: EndpointPickerConfig
    origin: Origin


class Intake(Struct, frozen=True):
    """All that documents held. Only if `problems` is empty is it a whole; warnings and notes are for people."""

    items: tuple[Item, ...] = ()
    pickers: tuple[PickerItem, ...] = ()
    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    """What was passed over: kinds that are none of ours."""


def take_in(documents: Iterable[Document]) -> Intake:
    """All objects of `documents`, in order, and everything that is wrong with them. Never raises."""
    desk = _Desk()
    for index, document in enumerate(documents):
        desk.take(document.root.unfolded(), Origin(document.file, index, document))
    desk.find_doubles()
    return desk.intake()


def admit(value: Mapping[str, Any], source: str) -> Intake:
    """One object as an API server sends it, or a List of such; `source` names it in findings. The server has refused
    fields that its definitions do not know; those that we do not know come from newer definitions than ours, and are no
    reason to drop the object: a warning names them."""
    desk = _Desk(is_checked=True)
    desk.take(dict(value), Origin(source))
    return desk.intake()


class _Desk:
    """Takes objects one at a time and keeps what was found."""

    def __init__(self, is_checked: bool = False) -> None:
        self._is_checked = is_checked
        self._items: list[Item] = []
        self._pickers: list[PickerItem] = []
        self._problems: list[Finding] = []
        self._warnings: list[Finding] = []
        self._notes: list[Finding] = []

    def intake(self) -> Intake:
        """What was found; one problem per place, the first."""
        problems: dict[tuple[str, int, int, str], Finding] = {}
        for finding in self._problems:
            place = (finding.file, finding.line, finding.column, finding.message if not finding.line else "")
            if finding.message.endswith("is required"):
                place = (*place[:3], finding.message)
            problems.setdefault(place, finding)
        return Intake(
            tuple(self._items),
            tuple(self._pickers),
            tuple(problems.values()),
            tuple(self._warnings),
            tuple(self._notes),
        )

    def take(self, value: object, origin: Origin) -> None:
        """One object, or a List of objects."""
        if not isinstance(value, dict):
            self._problems.append(origin.finding((), "expected an object with apiVersion, kind, metadata and spec"))
            return
        version, kind = value.get("apiVersion"), value.get("kind")
        if not isinstance(version, str) or not isinstance(kind, str):
            self._doubt(origin)
            for name, part in (("apiVersion", version), ("kind", kind)):
                if part is None:
                    close = nearest(name, (key for key in value if key not in ("apiVersion", "kind")))
                    hint = f': did you mean that by "{shown(close)}"?' if close else ""
                    self._problems.append(origin.finding((), f'"{name}" is required{hint}'))
                elif not isinstance(part, str):
                    self._problems.append(origin.finding((name,), "expected text"))
        elif _is_list(version, kind):
            self._take_list(value, origin)
        elif (version, kind) in KINDS:
            self._take_object(value, KINDS[version, kind], origin)
        elif kind == KIND and version in API_VERSIONS:
            self._take_picker(value, origin)
        else:
            self._pass_over(version, kind, origin)

    def _doubt(self, origin: Origin) -> None:
        """What the text leaves open about the object of `origin`."""
        depth = len(origin.root)
        for doubt in origin.document.doubts if origin.document is not None else ():
            if doubt.path[:depth] == origin.root:
                path = dotted(doubt.path[depth:])
                self._problems.append(Finding(origin.file, doubt.line, doubt.column, path, doubt.message))

    def _take_list(self, value: dict[str, Any], origin: Origin) -> None:
        items = value.get("items")
        if not isinstance(items, list):
            self._problems.append(origin.finding((), 'a List needs "items": a list of objects'))
            return
        if origin.root:
            self._problems.append(origin.finding((), "a List inside a List is not read"))
            return
        for index, item in enumerate(items):
            root = (*origin.root, "items", index)
            self.take(item, Origin(origin.file, origin.index, origin.document, root))

    def _pass_over(self, version: str, kind: str, origin: Origin) -> None:
        group = version.rpartition("/")[0]
        if group not in GROUPS and kind not in KIND_NAMES:
            self._notes.append(origin.finding((), f"{shown(kind)} ({shown(version)}) is not read here"))
            return
        versions = [known for known, name in KINDS if name == kind] + (list(API_VERSIONS) if kind == KIND else [])
        if versions:
            text = f'{kind} has no version "{shown(version)}" here: {advice(version, versions)}'
            self._problems.append(origin.finding(("apiVersion",), text))
        elif version in API_VERSION_NAMES:
            names = [name for known, name in KINDS if known == version] + ([KIND] if version in API_VERSIONS else [])
            close = nearest(kind, KIND_NAMES) or ""
            message = (
                f'unknown kind "{shown(kind)}" in {version}: {advice(kind, names if close in names else KIND_NAMES)}'
            )
            self._problems.append(origin.finding(("kind",), message))
        else:
            message = f'unknown version "{shown(version)}": {advice(version, API_VERSION_NAMES)}'
            self._problems.append(origin.finding(("apiVersion",), message))

    def _check(self, value: dict[str, Any], wanted: type, origin: Origin) -> Any:
        """The struct, or None after recording what is wrong."""
        self._doubt(origin)
        unknown: list[Path] | None = [] if self._is_checked else None
        clean, violations = checked(value, wanted, RULES, origin.root, origin.raw, unknown)
        for path in unknown or ():
            self._warnings.append(origin.finding(path[len(origin.root) :], "is not known here and has no effect"))
        for violation in violations:
            path = violation.path[len(origin.root) :]
            self._problems.append(origin.finding(path, violation.message, violation.is_key))
        if violations:
            return None
        try:
            return msgspec.convert(clean, wanted)
        except msgspec.ValidationError as error:
            self._problems.append(origin.finding((), str(error)))
            return None

    def _take_object(self, value: dict[str, Any], wanted: type[ReadObject], origin: Origin) -> None:
        if value.get("spec") is None and wanted in MAY_BE_UNSPECIFIED:
            wanted = Unspecified
        read = self._check(value, wanted, origin)
        if isinstance(read, PoolImport):
            self._warnings.append(origin.finding(("kind",), "InferencePoolImport has no effect here"))
        elif isinstance(read, Unspecified):
            self._warnings.append(origin.finding((), f"{read.kind} {read.full_name} has no spec, and no effect"))
        elif read is not None:
            self._items.append(Item(cast(ReadObject, read), origin))

    def _take_picker(self, value: dict[str, Any], origin: Origin) -> None:
        read = self._check(value, EndpointPickerConfig, origin)
        if read is None:
            return
        for problem in gate_problems(read):
            self._problems.append(origin.finding(problem.path, problem.message))
        for remark in remarks(value):
            self._warnings.append(origin.finding(remark.path, remark.message, is_key=True))
        self._pickers.append(PickerItem(read, origin))

    def find_doubles(self) -> None:
        """Two objects of one kind and name: which of them holds would depend on the order of reading."""
        for double, first in _doubles(self._items):
            place = first.origin.finding(("metadata", "name"), "")
            kind, name = double.object.kind, double.object.full_name
            message = f"{kind} {name} is given twice: first in {place.file}:{place.line}"
            self._problems.append(double.origin.finding(("metadata", "name"), message))


def _is_list(version: str, kind: str) -> bool:
    return (version, kind) == ("v1", "List") or (kind.endswith("List") and (version, kind[: -len("List")]) in KINDS)


def _doubles(items: Iterable[Item]) -> Iterator[tuple[Item, Item]]:
    seen: dict[tuple[str, str, str], Item] = {}
    for item in items:
        key = (item.object.api_version, item.object.kind, item.object.full_name)
        if key in seen:
            yield item, seen[key]
        else:
            seen[key] = item
