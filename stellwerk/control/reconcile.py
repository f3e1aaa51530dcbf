"""All objects in, one Catalog out, with a status for each object and a remark for each that has no effect.

Pure and level-based: the result depends on the set of objects and on nothing else, neither on their order nor on what
was there before. The same function serves files, flags and an API server.
"""

from collections.abc import Iterable
from itertools import chain
from typing import TypeVar, cast

from msgspec import Struct

from stellwerk.control.address import literal
from stellwerk.control.fields import LEGACY_GROUP, POOL_REF_GROUPS, ReadObject
from stellwerk.control.finding import Path, advice
from stellwerk.control.intake import Item
from stellwerk.control.kinds import (
    Criticality,
    InferenceModel,
    InferenceModelRewrite,
    InferenceObjective,
    InferencePool,
    ModelServer,
    OldInferencePool,
    OldPoolRef,
    PoolRef,
)
from stellwerk.control.membership import Addresses, members
from stellwerk.control.remark import Condition, ObjectStatus, Remark, accepted, pending, refused, seniority, status_of
from stellwerk.model.catalog import Catalog, FailureMode, Pool, PublicModel, Split, Target
from stellwerk.model.endpoint import Endpoint
from stellwerk.model.engines import DEFAULT_ENGINES, EngineRule

DEFAULT_POOL = "stellwerk.dev/default-pool"
RESTORE_STREAMED_MODEL = "stellwerk.dev/restore-streamed-model"

PRIORITIES = {Criticality.CRITICAL: 1, Criticality.STANDARD: 0, None: 0, Criticality.SHEDDABLE: -1}

AnyPool = InferencePool | OldInferencePool
Kind = TypeVar("Kind", bound=ReadObject)


class Reconciled(Struct, frozen=True):
    """What the objects amount to."""

    catalog: Catalog
    statuses: tuple[ObjectStatus, ...] = ()
    remarks: tuple[Remark, ...] = ()


def reconcile(
    items: Iterable[Item], addresses: Addresses, generation: int = 0, engines: EngineRule = DEFAULT_ENGINES
) -> Reconciled:
    """The catalog of `items`; `engines` is for servers that do not name theirs. Of objects that contradict each other
    the oldest holds (`remark.seniority`); of two groups or versions with an object of one name, the newer group or
    version."""
    return _Reconciliation(sorted(items, key=seniority), addresses, engines).result(generation)


def names_to_resolve(items: Iterable[Item]) -> frozenset[str]:
    """The DNS names among the addresses of model servers."""
    addresses = (item.object.spec.address for item in items if isinstance(item.object, ModelServer))
    return frozenset(address for address in addresses if literal(address) is None)


class _Reconciliation:
    """One run over the sorted items; collects statuses and remarks on the way."""

    def __init__(self, items: list[Item], addresses: Addresses, engines: EngineRule) -> None:
        self._addresses, self._engines = addresses, engines
        self._by_type: dict[type[ReadObject], list[Item]] = {}
        for item in items:
            self._by_type.setdefault(type(item.object), []).append(item)
        self._statuses: list[ObjectStatus] = []
        self._remarks: list[Remark] = []

    def result(self, generation: int) -> Reconciled:
        """The whole, in the order that dependencies ask for."""
        pool_objects = self._pools()
        names = frozenset(pool.full_name for _, pool in pool_objects)
        exact, generic = self._rewrites(names)
        objectives = self._objectives(names)
        endpoints = self._endpoints(pool_objects)
        pools = {
            pool.full_name: Pool(
                name=pool.full_name,
                endpoints=endpoints[pool.full_name],
                failure_mode=_failure_mode(pool),
                app_protocol=pool.spec.app_protocol.value if isinstance(pool, InferencePool) else "http",
                exact_rewrites=exact.get(pool.full_name, {}),
                generic_rewrite=generic.get(pool.full_name),
                objectives=objectives.get(pool.full_name, {}),
                restores_streamed_model=self._switch(item, RESTORE_STREAMED_MODEL),
            )
            for item, pool in sorted(pool_objects, key=lambda pair: pair[1].full_name)
        }
        models = self._models(names)
        catalog = Catalog(generation, pools, models, self._default_pool(pool_objects))
        return Reconciled(catalog, tuple(self._statuses), tuple(self._remarks))

    def _remark(self, item: Item, path: tuple[str | int, ...], message: str) -> None:
        self._remarks.append(Remark(item, path, message))

    def _pools(self) -> list[tuple[Item, AnyPool]]:
        return cast("list[tuple[Item, AnyPool]]", self._of(InferencePool, OldInferencePool))

    def _of(self, *kinds: type[Kind]) -> list[tuple[Item, Kind]]:
        """All objects of `kinds`, oldest first, one per name: that of the newer group or version."""
        best: dict[str, tuple[Item, Kind]] = {}
        found = [items for kind, items in self._by_type.items() if issubclass(kind, kinds)]
        for item in sorted(chain(*found), key=seniority) if len(found) > 1 else chain(*found):
            read = cast(Kind, item.object)
            name = read.full_name
            other = best.setdefault(name, (item, read))
            if other[0] is item:
                continue
            replaces = other[1].group == LEGACY_GROUP and read.group != LEGACY_GROUP
            loser, winner = (other[0], read) if replaces else (item, other[1])
            if replaces:
                del best[name]  # so that the order stays that of age
                best[name] = (item, read)
            message = f"has no effect: {read.kind} {name} of {winner.api_version} holds"
            self._remark(loser, ("apiVersion",), message)
        return list(best.values())

    def _endpoints(self, pools: list[tuple[Item, AnyPool]]) -> dict[str, tuple[Endpoint, ...]]:
        servers = self._of(ModelServer)
        found = {pool.full_name: members(item, pool, servers, self._addresses, self._engines) for item, pool in pools}
        users: dict[int, list[str]] = {}
        for name in sorted(found):
            self._remarks.extend(found[name].remarks)
            for item in found[name].servers:
                users.setdefault(id(item), []).append(name)
        for item, server in servers:
            self._remark_server(item, server, users.get(id(item), []) if pools else None)
        return {name: found[name].endpoints for name in found}

    def _remark_server(self, item: Item, server: ModelServer, pools: list[str] | None) -> None:
        """What is odd about a server that is in `pools` (None: there are no pools to be in)."""
        if pools is not None and len(pools) > 1:
            message = f"is in the pools {' and '.join(pools)}: each counts only its own requests"
            self._remark(item, ("metadata", "labels"), message)
        elif pools is not None and not pools:
            labels = ",".join(f"{key}={value}" for key, value in sorted(server.metadata.labels.items())) or "none"
            self._remark(item, ("metadata", "labels"), f"is in no pool: its labels ({labels}) match no selector")
        address = server.spec.address
        if literal(address) is None and not self._addresses.get(address):
            self._remark(item, ("spec", "address"), f'"{address}" has no address in DNS yet')

    def _pool_of(self, item: Item, reference: PoolRef | OldPoolRef, names: frozenset[str]) -> str | None:
        """The full name of the pool referred to; None, with remark and status, if there is none."""
        namespace = item.object.metadata.namespace
        name = f"{namespace}/{reference.name}"
        if reference.kind != "InferencePool" or reference.group not in POOL_REF_GROUPS:
            message = f"refers to a {reference.kind} of group {reference.group or 'core'}, not to an InferencePool"
        elif name not in names:
            here = sorted(known.partition("/")[2] for known in names if known.startswith(f"{namespace}/"))
            hint = advice(reference.name, here) if here else f"there is none in namespace {namespace}"
            message = f'there is no InferencePool "{reference.name}": {hint}'
        else:
            return name
        self._remark(item, ("spec", "poolRef", "name"), message)
        self._conclude(item, pending(message))
        return None

    def _conclude(self, item: Item, condition: Condition) -> None:
        self._statuses.append(status_of(item, condition))

    def _models(self, names: frozenset[str]) -> dict[str, PublicModel]:
        models: dict[str, PublicModel] = {}
        for item, model in self._of(InferenceModel):
            pool = self._pool_of(item, model.spec.pool_ref, names)
            if pool is None:
                continue
            name = model.spec.model_name
            holder = models.get(name)
            if holder is not None:
                message = f'the model name "{name}" is taken by {holder.split.source}, which is older'
                self._remark(item, ("spec", "modelName"), message)
                self._conclude(item, refused("ModelNameInUse", message))
                continue
            split = self._split_of_model(item, model)
            if split is None:
                self._conclude(item, pending("nothing can be asked for by this name, or drawn for it"))
                continue
            models[name] = PublicModel(name, pool, split, PRIORITIES[model.spec.criticality])
            self._conclude(item, accepted())
        return dict(sorted(models.items()))

    def _rewrites(self, names: frozenset[str]) -> tuple[dict[str, dict[str, Split]], dict[str, Split]]:
        """Per pool, what replaces a model name, and what replaces every other."""
        exact: dict[str, dict[str, Split]] = {}
        generic: dict[str, Split] = {}
        for item, rewrite in self._of(InferenceModelRewrite):
            pool = self._pool_of(item, rewrite.spec.pool_ref, names)
            if pool is None:
                continue
            for index, rule in enumerate(rewrite.spec.rules):
                weighted = [(target.model_rewrite, target.weight) for target in rule.targets]
                split = self._split(item, ("spec", "rules", index), "targets", weighted)
                if split is None:
                    continue
                matched = [match.model.value for match in rule.matches]
                table = exact.setdefault(pool, {})
                holders = [table.setdefault(name, split) for name in matched] or [generic.setdefault(pool, split)]
                if all(holder is not split for holder in holders):
                    text = f"is never reached: {holders[0].source} has an earlier rule for the same models"
                    self._remark(item, ("spec", "rules", index), text)
            self._conclude(item, accepted())
        return exact, generic

    def _split_of_model(self, item: Item, model: InferenceModel) -> Split | None:
        """Without targets the name itself."""
        name, targets = model.spec.model_name, model.spec.target_models
        if not name:
            self._remark(item, ("spec", "modelName"), "is empty, and has no effect: no request can ask for it")
            return None
        weighted = [(target.name, target.weight) for target in targets] or [(name, None)]
        return self._split(item, ("spec",), "targetModels", weighted)

    def _split(self, item: Item, path: Path, field: str, weighted: list[tuple[str, int | None]]) -> Split | None:
        """The choice among the targets at `path` and `field`; None: there is nothing to choose, which has no effect. As
        upstream, targets without a weight count the same, unless others have one: then they are never drawn."""
        has_weights = any(weight is not None for _, weight in weighted)
        targets: list[Target] = []
        for index, (model, weight) in enumerate(weighted):
            if not model:
                self._remark(item, (*path, field, index), "is never drawn: it names no model")
            elif has_weights and weight is None:
                self._remark(item, (*path, field, index), "is never drawn: it has no weight, and others have one")
            else:
                targets.append(Target(model, 1 if weight is None else weight))
        if not targets:
            self._remark(item, path, f"has no effect: none of its {field} can be drawn")
            return None
        return Split.of(tuple(targets), f"{item.object.kind} {item.object.full_name}")

    def _objectives(self, names: frozenset[str]) -> dict[str, dict[str, int]]:
        priorities: dict[str, dict[str, int]] = {}
        for item, objective in self._of(InferenceObjective):
            pool = self._pool_of(item, objective.spec.pool_ref, names)
            if pool is not None:
                priorities.setdefault(pool, {})[objective.metadata.name] = objective.spec.priority or 0
                self._conclude(item, accepted())
        return priorities

    def _switch(self, item: Item, annotation: str) -> bool | None:
        """None where the annotation does not say."""
        value = item.object.metadata.annotations.get(annotation)
        if value not in (None, "true", "false"):
            self._remark(item, ("metadata", "annotations", annotation), f'"{value}" is neither "true" nor "false"')
        return {"true": True, "false": False}.get(value or "")

    def _default_pool(self, pools: list[tuple[Item, AnyPool]]) -> str | None:
        """The pool that says so; of several the oldest; without any, the only pool there is."""
        claimants = [(item, pool.full_name) for item, pool in pools if self._switch(item, DEFAULT_POOL)]
        for item, _ in claimants[1:]:
            path = ("metadata", "annotations", DEFAULT_POOL)
            self._remark(item, path, f"has no effect: {claimants[0][1]}, which is older, is the default pool")
        if claimants:
            return claimants[0][1]
        return pools[0][1].full_name if len(pools) == 1 else None


def _failure_mode(pool: AnyPool) -> FailureMode:
    reference = pool.spec.endpoint_picker_ref if isinstance(pool, InferencePool) else pool.spec.extension_ref
    return reference.failure_mode if reference is not None else FailureMode.CLOSE
