"""What is different between two catalogs, in lines for the log: what an operator wants to see after a reload."""

from collections.abc import Iterator, Mapping

from stellwerk.model.catalog import Catalog, Pool, Split

MAX_LINES = 50


def changes(old: Catalog, new: Catalog) -> tuple[str, ...]:
    """One line per change, sorted by pool and name, at most `MAX_LINES`; empty if nothing differs."""
    lines = list(_changes(old, new))
    if len(lines) > MAX_LINES:
        return (*lines[: MAX_LINES - 1], f"and {len(lines) - MAX_LINES + 1} more changes")
    return tuple(lines)


def _changes(old: Catalog, new: Catalog) -> Iterator[str]:
    for name in sorted({*old.pools, *new.pools}):
        before, after = old.pools.get(name), new.pools.get(name)
        if before is None and after is not None:
            yield f"pool {name} added: {_counted(len(after.endpoints), 'endpoint')}"
        elif after is None:
            yield f"pool {name} removed"
        elif before is not None and before != after:
            yield from (f"pool {name}: {line}" for line in _pool_changes(before, after))
    yield from _entries("model", _models(old), _models(new))
    if old.default_pool != new.default_pool:
        yield f"default pool: {old.default_pool or 'none'} -> {new.default_pool or 'none'}"


def _pool_changes(before: Pool, after: Pool) -> Iterator[str]:
    yield from _entries("endpoint", _endpoints(before), _endpoints(after))
    exact_before = {name: _shares(split) for name, split in before.exact_rewrites.items()}
    exact_after = {name: _shares(split) for name, split in after.exact_rewrites.items()}
    yield from _entries("rewrite of", exact_before, exact_after)
    for word, one, other in (
        ("rewrite of every model", _optional(before.generic_rewrite), _optional(after.generic_rewrite)),
        ("failure mode", before.failure_mode.value, after.failure_mode.value),
        ("protocol", before.app_protocol, after.app_protocol),
        ("restores streamed model", _switch(before.restores_streamed_model), _switch(after.restores_streamed_model)),
    ):
        if one != other:
            yield f"{word}: {one} -> {other}"
    objectives_before = {name: f"priority {priority}" for name, priority in before.objectives.items()}
    objectives_after = {name: f"priority {priority}" for name, priority in after.objectives.items()}
    yield from _entries("objective", objectives_before, objectives_after)


def _entries(word: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """Added, removed and changed entries of two tables whose values are texts."""
    for name in sorted({*before, *after}):
        if name not in before:
            yield f"{word} {name} added: {after[name]}"
        elif name not in after:
            yield f"{word} {name} removed"
        elif before[name] != after[name]:
            yield f"{word} {name}: {before[name]} -> {after[name]}"


def _endpoints(pool: Pool) -> dict[str, str]:
    texts = {}
    for endpoint in pool.endpoints:
        labels = ",".join(f"{key}={value}" for key, value in sorted(endpoint.labels.items()))
        texts[endpoint.key] = f"{endpoint.address} {endpoint.engine} {labels}".rstrip()
    return texts


def _models(catalog: Catalog) -> dict[str, str]:
    return {
        name: f"{_shares(model.split)} in {model.pool}, priority {model.priority}"
        for name, model in catalog.models.items()
    }


def _switch(is_on: bool | None) -> str:
    return "by default" if is_on is None else "yes" if is_on else "no"


def _optional(split: Split | None) -> str:
    return _shares(split) if split is not None else "none"


def _shares(split: Split) -> str:
    """`a 90, b 10`."""
    if len(split.targets) == 1:
        return split.targets[0].model
    return ", ".join(f"{target.model} {target.weight}" for target in split.targets)


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
