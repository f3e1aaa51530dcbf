"""What a scheduling plugin is: a frozen struct whose fields are its parameters, with one method over columns.

Parameters are written in YAML in camel case, as upstream does; a plugin's docstring is its documentation.
"""

from enum import Enum
from typing import ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stellwerk.model.candidates import Candidates
from stellwerk.model.chance import Chance
from stellwerk.model.fleet import Floats
from stellwerk.model.request import Request

Mask = NDArray[np.bool_]


class Reads(Enum):
    """What a plugin's result depends on besides the candidates; it is computed again only when that changes."""

    LABELS = "labels"
    """The endpoints as the objects describe them."""
    SIGNALS = "signals"
    """The servers' metrics pages: waiting, running, KV use."""
    ADAPTERS = "adapters"
    """The adapters on the metrics pages, and the target model."""
    REQUEST = "request"
    """The request, what is in flight, the time, or chance."""


class Context(Struct, gc=False):
    """One request, as plugins see it. Arrays are parallel to the candidates in hand."""

    request: Request
    chance: Chance
    now: float
    target_model: str | None = None
    turn: int = 0
    """Decisions made so far in this pool."""
    matched: Floats | None = None
    """Blocks of the prompt that are cached, from its front and without a gap, per row of the fleet; None: none are."""
    block_count: int = 0
    """Blocks of the prompt that were looked up."""
    block_tokens: int = 64

    def matched_blocks(self, candidates: Candidates) -> Floats:
        """Matched blocks per candidate."""
        return candidates.zeros if self.matched is None else self.matched[candidates.rows]

    def uncached_tokens(self, candidates: Candidates) -> Floats:
        """Prompt tokens that each candidate would have to compute."""
        left: Floats = self.request.prompt_tokens - self.matched_blocks(candidates) * self.block_tokens
        return np.maximum(left, 0.0)


class Plugin(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Anything a configuration may declare."""


class Filter(Plugin, frozen=True):
    """Keeps some of the candidates."""

    reads: ClassVar[Reads] = Reads.REQUEST
    is_load: ClassVar[bool] = False
    """Whether it removes servers for being loaded: an empty result is then 429, not 503."""

    def keep(self, context: Context, candidates: Candidates) -> Mask:
        """True for those that stay; shape (len(candidates),)."""
        raise NotImplementedError


class Scorer(Plugin, frozen=True):
    """Rates the candidates."""

    reads: ClassVar[Reads] = Reads.REQUEST
    is_bounded: ClassVar[bool] = False
    """Whether scores are 0..1 by construction, so that they need not be clamped."""

    def score(self, context: Context, candidates: Candidates) -> Floats:
        """One score per candidate, 0 (worst) to 1 (best); shape (len(candidates),)."""
        raise NotImplementedError


class Picker(Plugin, frozen=True):
    """Puts the candidates in order."""

    max_num_of_endpoints: int = 1

    def __post_init__(self) -> None:
        if self.max_num_of_endpoints < 1:
            raise ValueError("maxNumOfEndpoints must be at least 1")

    def order(self, context: Context, totals: Floats, count: int) -> list[int]:
        """The positions of the best `count` (or all, if there are fewer), best first, each once."""
        raise NotImplementedError


class Inert(Plugin, frozen=True):
    """A plugin of upstream's configurations whose work is done here without being asked: accepted, has no effect."""
