"""From texts to what the gateway is to be: a Catalog and a PickerConfig, or every problem, located.

Joins what `control` knows (documents and positions) with what `schedule` knows (plugins). Two steps, because DNS comes
between them: `draft` reads and checks, `build` reconciles with addresses. Pure; `edge.objects` does the reading.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from stellwerk.control.document import DEFAULT_LIMITS, Document, ReadingLimits, read
from stellwerk.control.finding import Finding
from stellwerk.control.intake import Intake, Item, PickerItem, admit, take_in
from stellwerk.control.membership import Addresses
from stellwerk.control.picker import API_VERSIONS, KIND, picker_config
from stellwerk.control.reconcile import names_to_resolve, reconcile
from stellwerk.control.remark import ObjectStatus
from stellwerk.control.servers import from_urls
from stellwerk.model.catalog import Catalog
from stellwerk.model.picker_config import PickerConfig
from stellwerk.schedule import registry


class Source(Struct, frozen=True):
    """One file's name and bytes. `is_picker_config`: it came by `--config` and must hold an EndpointPickerConfig."""

    name: str
    data: bytes
    is_picker_config: bool = False


class Draft(Struct, frozen=True):
    """Everything that the sources say. With `problems` it must not be built."""

    items: tuple[Item, ...] = ()
    picker: PickerConfig = PickerConfig()
    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    """What was passed over, since it is none of ours (a Deployment in the same directory)."""

    @property
    def names(self) -> frozenset[str]:
        """DNS names that `build` wants addresses of."""
        return names_to_resolve(self.items)


class Blueprint(Struct, frozen=True):
    """What the gateway is to be, from here on."""

    catalog: Catalog
    picker: PickerConfig = PickerConfig()
    warnings: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    statuses: tuple[ObjectStatus, ...] = ()


def draft(sources: Iterable[Source], servers: Iterable[str] = (), limits: ReadingLimits = DEFAULT_LIMITS) -> Draft:
    """Read and check all sources and `--server` URLs. Never raises; `problems` are all there are, in file order."""
    problems: list[Finding] = []
    documents: list[Document] = []
    config_files = set()
    for source in sources:
        text = read(source.name, source.data, limits)
        problems.extend(text.problems)
        documents.extend(text.documents)
        if source.is_picker_config:
            config_files.add(source.name)
    objects = take_in(documents)
    flags = from_urls(servers)
    picker, picker_problems = _picker(objects.pickers)
    problems += [*objects.problems, *flags.problems, *picker_problems, *_strangers(objects, config_files, problems)]
    return Draft(
        items=(*objects.items, *flags.items),
        picker=picker,
        problems=tuple(sorted(set(problems))),
        warnings=tuple(sorted(objects.warnings)),
        notes=tuple(sorted(objects.notes)),
    )


def picker_problems(name: str, text: str) -> tuple[Finding, ...]:
    """What is wrong with an EndpointPickerConfig; `name` is what findings call the text."""
    return draft([Source(name, text.encode(errors="replace"), is_picker_config=True)]).problems


def received(objects: Iterable[tuple[str, Mapping[str, Any]]]) -> Draft:
    """The same for objects from an API server: pairs of a name for findings and the object as it was sent. What is
    wrong with one object leaves out that object only; its problems say so."""
    parts = [admit(value, name) for name, value in objects]
    return Draft(
        items=tuple(item for part in parts for item in part.items),
        problems=tuple(sorted(problem for part in parts for problem in part.problems)),
        warnings=tuple(sorted(warning for part in parts for warning in part.warnings)),
    )


def build(drawn: Draft, addresses: Addresses, generation: int = 0) -> Blueprint:
    """The blueprint of a draft. `addresses` holds what is known of `drawn.names`; names without an address have no
    endpoints yet."""
    whole = reconcile(drawn.items, addresses, generation, registry.engines(drawn.picker))
    remarks = [remark.item.origin.finding(remark.path, remark.message, is_key=True) for remark in whole.remarks]
    warnings = (*drawn.warnings, *sorted(remarks))
    return Blueprint(whole.catalog, drawn.picker, warnings, drawn.notes, whole.statuses)


def _strangers(objects: Intake, config_files: Collection[str], unread: Iterable[Finding]) -> Iterator[Finding]:
    """What stands in a `--config` file and does not belong there, and such a file without a configuration. Files with
    problems, of objects or `unread`, have enough of them."""
    for item in objects.items:
        if item.origin.file in config_files:
            message = f"expected {KIND}, got {item.object.kind}: name the file with -f instead"
            yield item.origin.finding(("kind",), message)
    for file in config_files:
        seen = {finding.file for finding in (*objects.problems, *unread)}
        seen |= {item.origin.file for item in objects.items} | {item.origin.file for item in objects.pickers}
        if file not in seen:
            yield Finding(file, 1, 1, "", f"holds no {KIND}: it needs apiVersion: {API_VERSIONS[0]} and kind: {KIND}")


def _picker(pickers: Sequence[PickerItem]) -> tuple[PickerConfig, list[Finding]]:
    """The one configuration, with what is wrong with its plugins."""
    problems = []
    for item in pickers[1:]:
        first = pickers[0].origin.finding(("kind",), "")
        message = f"only one {KIND} can hold: another is in {first.file}:{first.line}"
        problems.append(item.origin.finding(("kind",), message))
    if not pickers:
        return PickerConfig(), problems
    config = picker_config(pickers[0].object)
    for problem in registry.check(config):
        path = pickers[0].object.spelled(problem.path)
        problems.append(pickers[0].origin.finding(path, problem.message))
    return config, problems
