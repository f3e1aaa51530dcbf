"""What the objects ask for, ready to look up: pools, public names, endpoints. A change makes a new Catalog.

`control.reconcile` makes it from objects; the engine reads it on every request; Envoy is configured from it.
"""

from collections.abc import Iterator, Mapping
from enum import Enum

from msgspec import Struct, field

from stellwerk.model.endpoint import Endpoint


class FailureMode(Enum):
    """What the gateway does with a pool's requests while the picker is silent."""

    OPEN = "FailOpen"
    CLOSE = "FailClose"


class Target(Struct, frozen=True, gc=False):
    """A model name as the servers know it, and its share of the traffic (of the sum of weights)."""

    model: str
    weight: int


class Split(Struct, frozen=True):
    """A weighted choice; `source` names the object it came from (`InferenceModel default/food-review`)."""

    targets: tuple[Target, ...]
    source: str
    total: int

    @staticmethod
    def of(targets: tuple[Target, ...], source: str) -> "Split":
        """A split whose weights add up. `targets` is not empty and every weight is positive."""
        return Split(targets, source, sum(target.weight for target in targets))


class PublicModel(Struct, frozen=True):
    """A name clients may ask for, from an accepted InferenceModel."""

    name: str
    pool: str
    split: Split
    priority: int = 0


class Pool(Struct, frozen=True):
    """One InferencePool. `name` is `namespace/name`, unique, and safe as an Envoy cluster name and in a header."""

    name: str
    endpoints: tuple[Endpoint, ...] = ()
    failure_mode: FailureMode = FailureMode.CLOSE
    app_protocol: str = "http"
    """`http` or `kubernetes.io/h2c`."""
    exact_rewrites: Mapping[str, Split] = field(default_factory=dict)
    """By the model name that a rewrite rule matches exactly; the oldest rule has won already."""
    generic_rewrite: Split | None = None
    objectives: Mapping[str, int] = field(default_factory=dict)
    """InferenceObjective name to priority."""
    restores_streamed_model: bool | None = None
    """Whether streamed answers carry the public model name (annotation `stellwerk.dev/restore-streamed-model`). None:
    where they pass the picker anyway, behind a foreign gateway. JSON answers always do."""


class Catalog(Struct, frozen=True):
    """Everything a request may be resolved against. `default_pool` serves unknown paths and bodies without a model."""

    generation: int = 0
    pools: Mapping[str, Pool] = field(default_factory=dict)
    models: Mapping[str, PublicModel] = field(default_factory=dict)
    default_pool: str | None = None
    passes_unknown_models: bool = False
    """True for a picker behind a foreign gateway, where the pool is given and model names are the servers' business."""

    @property
    def renames(self) -> bool:
        """Whether some public name has a target of another name."""
        if any(pool.generic_rewrite is not None for pool in self.pools.values()):
            return True
        splits = [(model.name, model.split) for model in self.models.values()]
        splits += [split for pool in self.pools.values() for split in pool.exact_rewrites.items()]
        return any(target.model != name for name, split in splits for target in split.targets)

    def names(self) -> Iterator[str]:
        """Every public name and target that the objects name; some more than once."""
        for model in self.models.values():
            yield model.name
            yield from (target.model for target in model.split.targets)
        for pool in self.pools.values():
            yield from pool.exact_rewrites
            splits = [*pool.exact_rewrites.values(), *filter(None, [pool.generic_rewrite])]
            yield from (target.model for split in splits for target in split.targets)
