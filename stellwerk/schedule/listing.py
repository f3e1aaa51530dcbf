"""The answer to `GET /v1/models` and `GET /v1/models/NAME`: public names, then what healthy servers list.

Same fields as vLLM. `created` is 0: no server's start would mean anything for a name that many serve.
"""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from stellwerk.model.catalog import Catalog, Pool, Split
from stellwerk.model.fleet import Fleet
from stellwerk.model.outcome import Answered, Refused
from stellwerk.model.reason import Reason
from stellwerk.model.request import Api, Request


class Card(Struct, frozen=True, gc=False):
    """One model."""

    id: str
    owned_by: str
    root: str
    parent: str | None
    created: int = 0
    object: str = "model"


class _Page(Struct, frozen=True, gc=False):
    data: list[Card]
    object: str = "list"


class Listing:
    """Keeps the finished answers until a server's list or health changes. Made anew with every catalog."""

    def __init__(self, catalog: Catalog, fleet: Fleet) -> None:
        self._catalog = catalog
        self._fleet = fleet
        self._version = -1
        self._cards: dict[str | None, dict[str, Card]] = {}
        self._pages: dict[str | None, bytes] = {}

    def answer(self, request: Request) -> Answered | Refused | None:
        """The gateway's own answer; None where it knows nothing of the given pool, so that a server should answer."""
        pool = request.pool_hint
        if pool is not None and not self.cards(pool):
            return None
        if request.api is Api.MODELS:
            return Answered(200, self.page(pool))
        found = self.one(request.model or "", pool)
        if found is not None:
            return Answered(200, found)
        return Refused(Reason.UNKNOWN_MODEL, "there is no such model; GET /v1/models lists those that are", "model")

    def page(self, pool: str | None = None) -> bytes:
        """The whole list as JSON; of one pool if its name is given."""
        cards = self.cards(pool)
        page = self._pages.get(pool)
        if page is None:
            page = self._pages[pool] = msgspec.json.encode(_Page(list(cards.values())))
        return page

    def one(self, name: str, pool: str | None = None) -> bytes | None:
        """One model as JSON; None if there is no such model."""
        card = self.cards(pool).get(name)
        return None if card is None else msgspec.json.encode(card)

    def cards(self, pool: str | None = None) -> dict[str, Card]:
        """By name, in the order in which they are listed."""
        if self._version != self._fleet.choice_version:
            self._version = self._fleet.choice_version
            self._cards.clear()
            self._pages.clear()
        cards = self._cards.get(pool)
        if cards is None:
            cards = self._cards[pool] = {}
            for card in self._all(pool):
                cards.setdefault(card.id, card)
        return cards

    def _all(self, only: str | None) -> Iterable[Card]:
        for public in self._catalog.models.values():
            if only is None or public.pool == only:
                yield _public(public.name, public.split)
        pools = [pool for pool in self._catalog.pools.values() if only is None or pool.name == only]
        for pool in pools:
            for name, split in pool.exact_rewrites.items():
                yield _public(name, split)
        listed: dict[str, str | None] = {}
        for pool in pools:
            self._gather(pool, listed)
        for name in sorted(listed, key=lambda each: (listed[each] is not None, each)):
            parent = listed[name]
            yield Card(name, "vllm", name, parent)

    def _gather(self, pool: Pool, listed: dict[str, str | None]) -> None:
        for endpoint in pool.endpoints:
            member = self._fleet.by_key[endpoint.key]
            if member.health.is_wanted and member.models is not None:
                for name, parent in member.models.items():
                    listed.setdefault(name, parent)


def _public(name: str, split: Split) -> Card:
    heaviest = max(split.targets, key=lambda target: target.weight)
    return Card(name, "stellwerk", heaviest.model, None)
