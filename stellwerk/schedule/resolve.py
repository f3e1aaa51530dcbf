"""From what a request asks for to a pool and a target model.

Order: an InferenceModel of that name; a rewrite rule (exact before generic) of the given pool or over the pools; a
model or adapter that a pool's servers list; where names are the servers' business, the given or default pool; else 404.

An InferenceModel is a complete statement (name, pool, split), so no rewrite rule applies to what it draws. A generic
rule belongs to its pool: it applies where the pool is given, or where the pool's servers list the model, and a name
that nobody knows goes to the default pool's generic rule, or to the only one there is. The header that names a target
(`Request.model_override`) is outranked by all of these rules. Of a body that names no model the generic rule of its
pool and that header make one that does.
"""

from collections.abc import Iterable

from msgspec import Struct

from stellwerk.model.catalog import Catalog, Pool, Split
from stellwerk.model.chance import Chance
from stellwerk.model.fleet import Fleet, Health
from stellwerk.model.outcome import Refused
from stellwerk.model.reason import Reason
from stellwerk.model.request import Api, Request
from stellwerk.schedule.nearest import Nearest

SHOWN = 100
"""Characters of a client's name that a message repeats."""

_NAMELESS = frozenset((Api.OTHER, Api.MODELS))
"""What is sent to them has no place for a model."""


class Resolved(Struct, frozen=True, gc=False):
    """Where a request goes. `target` is None if neither the request nor a rule names a model."""

    pool: Pool
    target: str | None
    priority: int = 0
    source: str | None = None
    """The object that named the target."""


class Resolver:
    """Reads the catalog and what the servers list; keeps only what it can find again. Made anew with every catalog."""

    def __init__(self, catalog: Catalog, fleet: Fleet) -> None:
        self.catalog = catalog
        self.fleet = fleet
        self._listed: dict[str, Pool] = {}
        self._untold: tuple[Pool, ...] = ()
        """Pools that may serve any name, for all we know: no server there has listed its models yet."""
        self._silent: tuple[Pool, ...] = ()
        """Pools of which moreover no server can be reached."""
        self._version = -1
        self._nearest: tuple[int, dict[str | None, Nearest]] | None = None
        pools = catalog.pools
        default = pools.get(catalog.default_pool or "")
        self.default = default if default is not None else next(iter(pools.values())) if len(pools) == 1 else None
        ordered = sorted(pools.values(), key=lambda pool: pool is not default)
        self._pools = tuple(ordered)
        self._exact: dict[str, Pool] = {}
        for pool in ordered:
            for name in pool.exact_rewrites:
                self._exact.setdefault(name, pool)
        generic = [pool for pool in ordered if pool.generic_rewrite is not None]
        self._generic = generic[0] if generic and (len(generic) == 1 or generic[0] is default) else None

    def resolve(self, request: Request, chance: Chance) -> Resolved | Refused:
        """Where the request goes, or why it goes nowhere. Draws once if the target is split."""
        given: Pool | None = None
        if request.pool_hint is not None:
            given = self.catalog.pools.get(request.pool_hint)
            if given is None:
                return Refused(Reason.NO_POOL, f'there is no InferencePool "{_shown(request.pool_hint)}"')
        elif not self.catalog.pools:
            return Refused(Reason.NO_POOL, "no InferencePool is configured yet")
        name = request.model
        if name is None or request.api is Api.OTHER:
            return self._without_model(request, given, chance)
        public = self.catalog.models.get(name)
        if public is not None and (given is None or given.name == public.pool):
            pool = self.catalog.pools.get(public.pool)
            if pool is None:
                message = f'model "{_shown(name)}" belongs to InferencePool "{public.pool}", which does not exist'
                return Refused(Reason.NO_POOL, message)
            return Resolved(pool, draw(public.split, chance), public.priority, public.split.source)
        return self._by_rule(request, name, given, chance)

    def names(self, given: Pool | None = None) -> Iterable[str]:
        """Every name that resolves by an object or a server's list, objects first."""
        for public in self.catalog.models.values():
            if given is None or public.pool == given.name:
                yield public.name
        for pool in (given,) if given is not None else self._pools:
            yield from pool.exact_rewrites
        for name, pool in self._servers_list().items():
            if given is None or pool is given:
                yield name

    def _by_rule(self, request: Request, name: str, given: Pool | None, chance: Chance) -> Resolved | Refused:
        pool = given
        if pool is None:
            pool = self._exact.get(name) or self._servers_list().get(name) or self._generic
        if pool is not None:
            split = pool.exact_rewrites.get(name) or pool.generic_rewrite
            if split is not None:
                return Resolved(pool, draw(split, chance), _priority(request, pool), split.source)
        return self._by_list(request, name, request.model_override or name, given, pool)

    def _by_list(
        self, request: Request, name: str, target: str, given: Pool | None, pool: Pool | None
    ) -> Resolved | Refused:
        """No rule says what the target is; `pool` is the one that `name` has led to."""
        if pool is None:
            pool = self._servers_list().get(target)
        if self.catalog.passes_unknown_models:
            pool = pool or self.default
        elif given is not None and not self._is_listed(target, given):
            pool = None
        elif pool is None:
            pool = next(iter(self._untold), None)
        if pool is None:
            return self._unheard(name, given) or self._unknown(name, given)
        return Resolved(pool, target, _priority(request, pool))

    def _without_model(self, request: Request, given: Pool | None, chance: Chance) -> Resolved | Refused:
        pool = given or self.default
        if request.api not in _NAMELESS:
            split = pool.generic_rewrite if pool is not None else None
            if pool is not None and split is not None:
                return Resolved(pool, draw(split, chance), _priority(request, pool), split.source)
            wish = request.model_override
            if wish is not None:
                return self._by_list(request, wish, wish, given, given)
        if pool is not None:
            return Resolved(pool, None, _priority(request, pool))
        if request.api is Api.OTHER:
            message = "this path is none of ours, and no default pool is configured that would take it"
            return Refused(Reason.UNKNOWN_MODEL, message)
        message = 'the request names no model, and no default pool is configured: set "model"'
        return Refused(Reason.UNKNOWN_MODEL, message, "model")

    def _unheard(self, name: str, given: Pool | None) -> Refused | None:
        """Nobody can say that a model is unknown while a pool has servers and none was ever heard of: gateways start
        before servers that load weights for minutes."""
        for pool in self._silent:
            if given is None or pool is given:
                message = (
                    f'model "{_shown(name)}" may be one of pool "{pool.name}", whose servers cannot be reached yet'
                )
                return Refused(Reason.NO_ENDPOINTS, f"{message}: try again")
        return None

    def _unknown(self, name: str, given: Pool | None) -> Refused:
        if self._nearest is None or self._nearest[0] != self.fleet.choice_version:
            self._nearest = (self.fleet.choice_version, {})
        by_pool = self._nearest[1]
        key = None if given is None else given.name
        if key not in by_pool:
            by_pool[key] = Nearest(self.names(given))
        near = by_pool[key].to(name)
        told = ", ".join(f'"{each}"' for each in near)
        hint = f"; nearest: {told}" if near else "; GET /v1/models lists those that are"
        return Refused(Reason.UNKNOWN_MODEL, f'model "{_shown(name)}" is not served here{hint}', "model")

    def _is_listed(self, name: str, pool: Pool) -> bool:
        holders = self.fleet.holders(name)
        self._servers_list()
        if any(pool is untold for untold in self._untold):
            return True
        return any(self.fleet.by_key[endpoint.key] in holders for endpoint in pool.endpoints) if holders else False

    def _servers_list(self) -> dict[str, Pool]:
        """Model to the first pool whose servers name it, the default pool first."""
        if self._version != self.fleet.choice_version:
            listed: dict[str, Pool] = {}
            untold: list[Pool] = []
            silent: list[Pool] = []
            for pool in self._pools:
                members = [self.fleet.by_key[endpoint.key] for endpoint in pool.endpoints]
                for member in members:
                    for name in (*(member.models or ()), *member.heard_adapters):
                        listed.setdefault(name, pool)
                if members and all(member.models is None for member in members):
                    is_silent = all(member.health is Health.UNREACHABLE for member in members)
                    (silent if is_silent else untold).append(pool)
            self._listed, self._version = listed, self.fleet.choice_version
            self._untold, self._silent = tuple(untold), tuple(silent)
        return self._listed


def draw(split: Split, chance: Chance) -> str:
    """A target, with probability weight / total."""
    targets = split.targets
    if len(targets) == 1:
        return targets[0].model
    left = chance.randrange(split.total)
    for target in targets:
        left -= target.weight
        if left < 0:
            return target.model
    return targets[-1].model


def _priority(request: Request, pool: Pool) -> int:
    return pool.objectives.get(request.objective, 0) if request.objective is not None else 0


def _shown(name: str) -> str:
    """Shortened, and without what cannot be written as UTF-8."""
    text = name if len(name) <= SHOWN else name[: SHOWN - 3] + "..."
    return text.encode(errors="replace").decode()
