"""`stellwerk validate`: everything that is wrong with objects and picker configuration, without running anything."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from stellwerk.cli.options import source_options

if TYPE_CHECKING:
    from stellwerk.blueprint import Blueprint
    from stellwerk.control.finding import Finding

EPILOG = """\b
  stellwerk validate -f objects/ --config picker.yaml
  kubectl get inferencepools,inferencemodels -o yaml | stellwerk validate -f -

Exit status: 0 all right (warnings allowed), 1 problems, 2 wrong usage. Names are not resolved."""


@click.command(epilog=EPILOG)
@source_options
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def validate(objects: tuple[str, ...], servers: tuple[str, ...], picker_config: str | None, output: str) -> None:
    """Check objects and picker configuration: every problem at once, with file, line and column; then what would be
    served. `-f -` reads standard input."""
    from stellwerk.blueprint import Source, build, draft
    from stellwerk.control.document import DEFAULT_LIMITS
    from stellwerk.edge.objects.files import contents

    if not objects and not servers and picker_config is None:
        raise click.UsageError("nothing to check: name objects with -f FILE_OR_DIRECTORY")
    read = contents([path for path in objects if path != "-"], picker_config)
    sources = list(read.sources)
    if "-" in objects:
        sources.append(Source("<stdin>", sys.stdin.buffer.read(DEFAULT_LIMITS.max_bytes + 1)))
    drawn = draft(sources, servers)
    problems = sorted((*read.problems, *drawn.problems))
    built = None if problems else build(drawn, {name: (name,) for name in drawn.names})
    warnings = drawn.warnings if built is None else built.warnings
    if output == "json":
        _print_json(problems, warnings, drawn.notes, built)
    else:
        _print_text(problems, warnings, drawn.notes, built)
    sys.exit(1 if problems else 0)


def _print_text(
    problems: "Sequence[Finding]", warnings: "Sequence[Finding]", notes: "Sequence[Finding]", built: "Blueprint | None"
) -> None:
    for finding in problems:
        click.echo(str(finding))
    for finding in warnings:
        click.echo(_labelled(finding, "warning"))
    for finding in notes:
        click.echo(_labelled(finding, "note"))
    counts = f"{_counted(len(problems), 'problem')}, {_counted(len(warnings), 'warning')}"
    if built is None:
        click.echo(counts)
        return
    for line in _summary(built):
        click.echo(line)
    click.echo(f"all right: {counts}")


def _labelled(finding: "Finding", label: str) -> str:
    import msgspec.structs

    return str(msgspec.structs.replace(finding, path=f"{label}: {finding.path}" if finding.path else label))


def _summary(built: "Blueprint") -> list[str]:
    """What would be served."""
    catalog = built.catalog
    lines = []
    for pool in catalog.pools.values():
        is_default = ", default" if pool.name == catalog.default_pool else ""
        extras = [_counted(len(pool.endpoints), "endpoint"), pool.failure_mode.value]
        extras += [_counted(len(pool.exact_rewrites), "rewrite")] if pool.exact_rewrites else []
        extras += [_counted(len(pool.objectives), "objective")] if pool.objectives else []
        lines.append(f"pool {pool.name}: {', '.join(extras)}{is_default}")
        lines += [f"  {endpoint.address} {endpoint.engine} ({endpoint.key})" for endpoint in pool.endpoints]
    for model in catalog.models.values():
        shares = ", ".join(
            f"{target.model} {100 * target.weight / model.split.total:.4g}%" for target in model.split.targets
        )
        lines.append(f"model {model.name}: {shares} in {model.pool}, priority {model.priority}")
    return lines


def _print_json(
    problems: "Sequence[Finding]", warnings: "Sequence[Finding]", notes: "Sequence[Finding]", built: "Blueprint | None"
) -> None:
    import msgspec

    document: dict[str, object] = {"valid": not problems, "problems": problems, "warnings": warnings, "notes": notes}
    if built is not None:
        document |= {
            "default_pool": built.catalog.default_pool,
            "pools": list(built.catalog.pools.values()),
            "models": list(built.catalog.models.values()),
        }
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
