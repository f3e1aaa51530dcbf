"""The catalog's own answers."""

from stellwerk.model.catalog import Catalog, Pool, PublicModel, Split, Target


def split(*names: str) -> Split:
    return Split.of(tuple(Target(name, 1) for name in names), "test")


def test_names_are_all_public_names_and_targets() -> None:
    pool = Pool("default/p", exact_rewrites={"old": split("new")}, generic_rewrite=split("any"))
    model = PublicModel("chat", "default/p", split("v1", "v2"))
    catalog = Catalog(1, {"default/p": pool}, {"chat": model})
    assert set(catalog.names()) == {"chat", "v1", "v2", "old", "new", "any"}


def test_an_empty_catalog_names_nothing() -> None:
    assert list(Catalog().names()) == []


def test_it_knows_whether_any_name_has_a_target_of_another_name() -> None:
    assert not Catalog(models={"same": PublicModel("same", "default/p", split("same"))}).renames
    assert not Catalog(pools={"p": Pool("p", exact_rewrites={"same": split("same")})}).renames
    assert Catalog(models={"other": PublicModel("other", "default/p", split("same"))}).renames
    assert Catalog(pools={"p": Pool("p", exact_rewrites={"other": split("other", "same")})}).renames
    assert Catalog(pools={"p": Pool("p", generic_rewrite=split("same"))}).renames
