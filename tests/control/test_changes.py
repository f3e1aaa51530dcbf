"""The diff of two catalogs, as the log shows it."""

from stellwerk.control.changes import MAX_LINES, changes
from stellwerk.model.catalog import Catalog
from tests.kit.documents import made, model, objective, pool, rewrite, server


def diff(before: tuple[str, ...], after: tuple[str, ...]) -> list[str]:
    """The lines for the change from one set of documents to another."""
    return list(changes(made(*before).catalog, made(*after).catalog))


A = server("a", address="10.0.0.1")


def test_equal_catalogs_have_no_changes() -> None:
    assert diff((pool(), A), (A, pool())) == []


def test_pools_come_and_go() -> None:
    assert diff((), (pool(), A)) == ["pool default/llama added: 1 endpoint", "default pool: none -> default/llama"]
    assert diff((pool(), A), ()) == ["pool default/llama removed", "default pool: default/llama -> none"]


def test_endpoints_come_go_and_change() -> None:
    b = server("b", address="10.0.0.2")
    assert diff((pool(), A), (pool(), b)) == [
        "pool default/llama: endpoint default/a:8000 removed",
        "pool default/llama: endpoint default/b:8000 added: 10.0.0.2:8000 vllm app=llama",
    ]
    assert diff((pool(), A), (pool(), server("a", address="10.0.0.9"))) == [
        "pool default/llama: endpoint default/a:8000: 10.0.0.1:8000 vllm app=llama -> 10.0.0.9:8000 vllm app=llama"
    ]


def test_weights_and_priorities_are_shown() -> None:
    def split(a: int, b: int) -> str:
        return model("m", "chat", more=f", targetModels: [{{name: a, weight: {a}}}, {{name: b, weight: {b}}}]")

    assert diff((pool(), A, split(90, 10)), (pool(), A, split(50, 50))) == [
        "model chat: a 90, b 10 in default/llama, priority 0 -> a 50, b 50 in default/llama, priority 0"
    ]


def test_settings_of_a_pool_are_shown() -> None:
    after = pool(more=", endpointPickerRef: {name: e, port: {number: 1}, failureMode: FailOpen}")
    rules = "{targets: [{modelRewrite: g}]}, {matches: [{model: {value: x}}], targets: [{modelRewrite: b}]}"
    assert diff((pool(), A), (after, A, rewrite("r", rules), objective("o", 3))) == [
        "pool default/llama: rewrite of x added: b",
        "pool default/llama: rewrite of every model: none -> g",
        "pool default/llama: failure mode: FailClose -> FailOpen",
        "pool default/llama: objective o added: priority 3",
    ]


def test_a_switch_that_turns_is_told() -> None:
    off = pool(annotations='"stellwerk.dev/restore-streamed-model": "false"')
    assert diff((pool(), A), (off, A)) == ["pool default/llama: restores streamed model: by default -> no"]
    on = pool(annotations='"stellwerk.dev/restore-streamed-model": "true"')
    assert diff((off, A), (on, A)) == ["pool default/llama: restores streamed model: no -> yes"]


def test_a_large_change_is_cut_off() -> None:
    crowd = tuple(server(f"s{n}", address=f"10.0.1.{n + 1}") for n in range(200))
    lines = changes(made(pool()).catalog, made(pool(), *crowd).catalog)
    assert len(lines) == MAX_LINES
    assert lines[-1] == f"and {200 - MAX_LINES + 1} more changes"
    assert changes(Catalog(), Catalog(generation=5)) == ()
