import msgspec

from stellwerk.model.catalog import Catalog
from stellwerk.model.fleet import Fleet, Health
from stellwerk.schedule.listing import Listing
from tests.kit.fleet import catalog, endpoint, pool, public, split

A, B = endpoint("a"), endpoint("b")
CATALOG = catalog(
    pool(A, name="x/one", exact_rewrites={"alias": split(("base", 1))}),
    pool(B, name="x/two"),
    models=(public("review", ("food", 9), ("base", 1), pool="x/one"), public("base", pool="x/one")),
)


def listing(what: Catalog = CATALOG) -> tuple[Fleet, Listing]:
    fleet = Fleet([A, B])
    fleet.listed(fleet.members[0], {"food": "base", "base": None})
    fleet.listed(fleet.members[1], {"other": None, "base": None})
    return fleet, Listing(what, fleet)


def ids(which: Listing, pool: str | None = None) -> list[str]:
    return [card["id"] for card in msgspec.json.decode(which.page(pool))["data"]]


def test_public_names_come_first_then_base_models_then_adapters_each_once() -> None:
    assert ids(listing()[1]) == ["review", "base", "alias", "other", "food"]


def test_cards_have_the_fields_of_vllm() -> None:
    page = msgspec.json.decode(listing()[1].page())
    assert page["object"] == "list"
    cards = {card["id"]: card for card in page["data"]}
    assert cards["food"] == {
        "id": "food",
        "object": "model",
        "created": 0,
        "owned_by": "vllm",
        "root": "food",
        "parent": "base",
    }
    assert (cards["review"]["root"], cards["review"]["owned_by"]) == ("food", "stellwerk")


def test_one_pool_lists_only_its_own() -> None:
    which = listing()[1]
    assert ids(which, "x/two") == ["base", "other"]
    assert which.one("review", "x/two") is None
    assert msgspec.json.decode(which.one("other", "x/two") or b"")["id"] == "other"


def test_servers_that_are_down_list_nothing_and_the_page_is_kept_until_then() -> None:
    fleet, which = listing()
    first = which.page()
    assert which.page() is first
    fleet.members[1].health = Health.UNREACHABLE
    fleet.choice_version += 1
    assert ids(which) == ["review", "base", "alias", "food"]
