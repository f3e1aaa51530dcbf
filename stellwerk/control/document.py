"""Text to documents: bytes of YAML or JSON in, plain values out, and for every value the line and column it stood at.

Composed from the parser's events with an explicit stack, so that size, depth, document count and what aliases unfold to
are all bounded, and nothing recurses over foreign input. First step of reading objects; `intake` is the next.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from msgspec import Struct

from stellwerk.control.finding import Finding, Path, shown
from stellwerk.control.scalar import NULLS, SWITCHES, TRUE_AND_FALSE, plain


class ReadingLimits(Struct, frozen=True):
    """Bounds of one file."""

    max_bytes: int = 1024 * 1024
    max_depth: int = 64
    max_nodes: int = 200_000
    """Values of all documents, aliases counted as what they stand for."""
    max_documents: int = 2_000


DEFAULT_LIMITS = ReadingLimits()


class Node(Struct, eq=False):
    """One value in the text. Exactly one of `entries` and `items` is set for a mapping or list, none for a scalar."""

    line: int
    column: int
    value: Any = None
    raw: str | None = None
    """Text of an unquoted scalar."""
    entries: "dict[str, tuple[Node, Node]] | None" = None
    """Key node and value node, by key."""
    items: "list[Node] | None" = None
    size: int = 1

    def unfolded(self) -> Any:
        """The plain value: dict, list or scalar. Aliased parts are equal, not shared."""
        if self.entries is not None:
            return {key: node.unfolded() for key, (_, node) in self.entries.items()}
        if self.items is not None:
            return [node.unfolded() for node in self.items]
        return self.value


class Doubt(Struct, frozen=True):
    """A value that may not be what its author meant, counted from the document's root."""

    path: Path
    line: int
    column: int
    message: str


class Document(Struct, eq=False):
    """One document of a file. `doubts` matter only where they are about an object that is ours to read."""

    file: str
    root: Node
    doubts: list[Doubt]

    def at(self, path: Path, is_key: bool = False) -> tuple[Node | None, int, int]:
        """The node of `path` (None: there is none), and the line and column to show: those of the key if `is_key` or
        if the value starts on another line, else of the value. The nearest ancestor stands in for what is absent."""
        node, line, column = self.root, self.root.line, self.root.column
        for part in path:
            if isinstance(part, str) and node.entries is not None and part in node.entries:
                key, node = node.entries[part]
                on_key = node.line != key.line or (is_key and part == path[-1])
                line, column = (key.line, key.column) if on_key else (node.line, node.column)
            elif isinstance(part, int) and node.items is not None and 0 <= part < len(node.items):
                node = node.items[part]
                line, column = node.line, node.column
            else:
                return None, line, column
        return node, line, column


class Text(Struct, frozen=True):
    """What one file held: its documents, and why the rest could not be read."""

    documents: tuple[Document, ...] = ()
    problems: tuple[Finding, ...] = ()


def read(file: str, data: bytes, limits: ReadingLimits = DEFAULT_LIMITS) -> Text:
    """All documents of `data`, in order. Never raises; a syntax error ends the reading but keeps what came before."""
    if len(data) > limits.max_bytes:
        return _failed(file, 1, 1, f"the file has {len(data):,} bytes, more than the limit of {limits.max_bytes:,}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        return _failed(file, line, column, "not UTF-8 text: save the file as UTF-8")
    if not text.strip():
        return _failed(file, 1, 1, "the file is empty: delete it, or leave a comment, if it shall hold nothing")
    if text.lstrip()[:1] in "{[":
        text = _SURROGATES.sub(_joined, text)
    composer = _Composer(file, limits)
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            composer.feed(event)
    except _Unreadable as error:
        return Text(tuple(composer.documents), (Finding(file, error.line, error.column, "", error.message),))
    except yaml.YAMLError as error:
        line, column, message = _explained(error, text)
        return Text(tuple(composer.documents), (Finding(file, line, column, "", message),))
    return Text(tuple(composer.documents))


def _failed(file: str, line: int, column: int, message: str) -> Text:
    return Text((), (Finding(file, line, column, "", message),))


_SURROGATES = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


def _joined(match: "re.Match[str]") -> str:
    """JSON writes characters beyond 16 bits as two escapes, which YAML does not know."""
    high, low = int(match[2], 16), int(match[3], 16)
    return f"{match[1]}\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"


def _explained(error: yaml.YAMLError, text: str) -> tuple[int, int, str]:
    """Where libyaml stopped, and what it said, in a sentence."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
    context = getattr(error, "context", None)
    position = getattr(error, "position", None)
    if mark is not None:
        line, column = mark.line + 1, mark.column + 1
    else:
        before = text[: position if isinstance(position, int) else 0]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    message = f"not valid YAML: {problem}" + (f" {context}" if context else "")
    lines = text.rstrip("\n").split("\n")
    if line > len(lines):  # the end of the text counts as a line of its own
        line, column = len(lines), len(lines[-1]) + 1
    if "\t" in lines[line - 1][: max(column, 1)]:
        message += " (YAML does not indent with tabs: use spaces)"
    return line, column, message


class _Unreadable(Exception):
    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line, self.column, self.message = line, column, message


class _Frame(Struct, eq=False):
    """An open mapping or list."""

    node: Node
    anchor: str | None
    key: Node | None = None
    key_text: str = ""
    merged: list[Node] = []


_TEXT_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})
_CORE_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null", "map", "seq"))


class _Composer:
    """Builds nodes from parser events. Owns the stack of open collections and the anchors of the current document."""

    def __init__(self, file: str, limits: ReadingLimits) -> None:
        self.documents: list[Document] = []
        self._file, self._limits = file, limits
        self._budget = limits.max_nodes
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._doubts: list[Doubt] = []

    def feed(self, event: Any) -> None:
        """Take one event; raises `_Unreadable` beyond a limit."""
        match event:
            case yaml.ScalarEvent():
                self._spend(event, 1)
                self._complete(self._scalar(event), event.anchor, event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                frame = self._stack.pop()
                self._merge(frame)
                self._complete(frame.node, frame.anchor, event)
            case yaml.AliasEvent():
                node = self._anchors.get(str(event.anchor))
                if node is None:
                    raise self._stop(event, f"*{event.anchor} refers to nothing, or to the value that it stands in")
                self._spend(event, node.size)
                self._complete(node, None, event)
            case yaml.DocumentStartEvent():
                self._anchors, self._doubts = {}, []
                if len(self.documents) >= self._limits.max_documents:
                    raise self._stop(event, f"more than {self._limits.max_documents:,} documents in one file")

    def _stop(self, event: Any, message: str) -> _Unreadable:
        return _Unreadable(event.start_mark.line + 1, event.start_mark.column + 1, message)

    def _spend(self, event: Any, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            limit = self._limits.max_nodes
            raise self._stop(event, f"more than {limit:,} values in one file (an alias counts as what it stands for)")

    def _scalar(self, event: Any) -> Node:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if event.implicit[0] and event.tag is None:
            value, doubt = plain(event.value)
            if doubt:
                self._doubt(line, column, doubt)
            return Node(line, column, value, event.value)
        if event.tag is None or event.tag in _TEXT_TAGS:
            return Node(line, column, event.value)
        self._doubt_tag(event)
        return Node(line, column, plain(event.value)[0])

    def _open(self, event: Any) -> None:
        self._spend(event, 1)
        if len(self._stack) >= self._limits.max_depth:
            raise self._stop(event, f"nested deeper than {self._limits.max_depth} levels")
        if event.tag is not None:
            self._doubt_tag(event)
        node = Node(event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.MappingStartEvent):
            node.entries = {}
        else:
            node.items = []
        self._stack.append(_Frame(node, event.anchor))

    def _complete(self, node: Node, anchor: str | None, event: Any) -> None:
        """`node` is whole: it becomes a key, an entry, an item, or the root of its document."""
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._stack:
            if not (node.raw is not None and node.value is None):
                self.documents.append(Document(self._file, node, self._doubts))
            return
        frame = self._stack[-1]
        if frame.node.items is not None:
            frame.node.items.append(node)
            frame.node.size += node.size
        elif frame.key is None:
            self._start_entry(frame, node, event)
        else:
            self._end_entry(frame, frame.key, node)

    def _start_entry(self, frame: _Frame, key: Node, event: Any) -> None:
        if key.entries is not None or key.items is not None:
            raise self._stop(event, "a mapping or list cannot be a key: quote it if it is text")
        frame.key = key
        frame.key_text = key.raw if key.raw is not None else str(key.value)
        if key.raw is not None and (key.raw in SWITCHES or key.raw in TRUE_AND_FALSE or key.raw in NULLS):
            what = "a boolean" if isinstance(key.value, bool) else "nothing"
            self._doubt(key.line, key.column, f'YAML 1.1 reads the key "{key.raw}" as {what}: quote it')

    def _end_entry(self, frame: _Frame, key: Node, node: Node) -> None:
        entries = frame.node.entries
        assert entries is not None
        text, frame.key = frame.key_text, None
        frame.node.size += node.size
        if text == "<<" and key.raw is not None:
            frame.merged = [*frame.merged, node]
        elif text in entries:
            first = entries[text][0].line
            self._doubt(key.line, key.column, f'"{shown(text)}" is given twice: first on line {first}', text)
        else:
            entries[text] = (key, node)

    def _merge(self, frame: _Frame) -> None:
        """`<<: *base`: entries of the base that are not given here."""
        entries = frame.node.entries
        for base in frame.merged:
            for one in base.items if base.items is not None else [base]:
                if one.entries is None or entries is None:
                    self._doubt(one.line, one.column, "<< merges mappings only")
                    continue
                for key, entry in one.entries.items():
                    entries.setdefault(key, entry)

    def _doubt_tag(self, event: Any) -> None:
        if event.tag not in _CORE_TAGS:
            mark = event.start_mark
            self._doubt(mark.line + 1, mark.column + 1, f"the tag {shown(event.tag)} means nothing here: remove it")

    def _doubt(self, line: int, column: int, message: str, key: str | None = None) -> None:
        path = tuple(self._path()) + ((key,) if key is not None else ())
        self._doubts.append(Doubt(path, line, column, message))

    def _path(self) -> Iterator[str | int]:
        for frame in self._stack:
            if frame.node.items is not None:
                yield len(frame.node.items)
            elif frame.key is not None:
                yield frame.key_text
