"""Objects to a catalog: precedence, references, membership; independent of the order of objects."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.control.document import read
from stellwerk.control.intake import Item, take_in
from stellwerk.control.reconcile import Reconciled, reconcile
from stellwerk.model.catalog import FailureMode, Target
from tests.kit.documents import items, made, model, objective, pool, rewrite, server


def keys(whole: Reconciled, pool: str = "default/llama") -> list[str]:
    """The endpoint keys of one pool."""
    return [endpoint.key for endpoint in whole.catalog.pools[pool].endpoints]


def remarks(whole: Reconciled) -> list[str]:
    """`name: message` of every remark."""
    return [f"{remark.item.object.metadata.name}: {remark.message}" for remark in whole.remarks]


def test_a_pool_has_the_servers_it_selects_in_its_namespace() -> None:
    whole = made(pool(), server("b"), server("a"), server("c", app="other"), server("d", namespace="prod"))
    assert keys(whole) == ["default/a:8000", "default/b:8000"]


def test_ports_of_the_server_come_before_those_of_the_pool() -> None:
    whole = made(pool(), server("a", more=", ports: [8002, 8001]"))
    assert [(e.key, e.port, e.rank) for e in whole.catalog.pools["default/llama"].endpoints] == [
        ("default/a:8002", 8002, 0),
        ("default/a:8001", 8001, 1),
    ]


def test_engine_labels_and_address_reach_the_endpoint() -> None:
    whole = made(pool(), server("a", address="FD00::0007", more=", engine: sglang"))
    (endpoint,) = whole.catalog.pools["default/llama"].endpoints
    assert (endpoint.host, endpoint.engine, endpoint.labels) == ("fd00::7", "sglang", {"app": "llama"})
    assert endpoint.address == "[fd00::7]:8000"


def test_a_name_with_several_addresses_is_several_servers() -> None:
    whole = made(pool(), server("a", address="gpu"), addresses={"gpu": ("10.0.0.1", "fd00::1")})
    assert keys(whole) == ["default/a@10.0.0.1:8000", "default/a@[fd00::1]:8000"]


def test_a_name_without_addresses_has_no_endpoint_and_a_remark() -> None:
    whole = made(pool(), server("a", address="gpu"))
    assert keys(whole) == []
    assert remarks(whole) == ['a: "gpu" has no address in DNS yet']


def test_the_identity_of_a_server_changes_with_its_address_and_with_nothing_else() -> None:
    def uid(*documents: str) -> str:
        (endpoint,) = made(*documents).catalog.pools["default/llama"].endpoints
        return endpoint.uid

    first = uid(pool(), server("a", address="10.0.0.1"))
    assert first == uid(pool(more=", appProtocol: http"), server("a", address="10.0.0.1", more=", ports: [9000]"))
    assert first != uid(pool(), server("a", address="10.0.0.2"))


def test_two_servers_of_one_address_count_once() -> None:
    whole = made(pool(), server("a", address="10.0.0.1"), server("b", address="10.0.0.1"))
    assert keys(whole) == ["default/a:8000"]
    assert remarks(whole) == ["b: 10.0.0.1:8000 is the address of ModelServer a too: only that one is used"]


def test_an_empty_pool_names_the_nearest_labels() -> None:
    whole = made(pool(app="lama"), server("a"))
    assert 'llama: pool "llama" selects no ModelServer: no object has the labels app=lama (nearest: app=llama)' in (
        remarks(whole)
    )


def test_an_empty_pool_points_to_the_other_namespace() -> None:
    (said,) = [line for line in remarks(made(pool(), server("a", namespace="prod"))) if line.startswith("llama")]
    assert said.endswith("prod/a has the labels app=llama, but a pool selects in its own namespace only")


def test_a_server_in_no_pool_and_one_in_two_get_a_remark() -> None:
    whole = made(pool(), pool("other"), server("a"), server("b", app="x"))
    assert remarks(whole) == [
        "a: is in the pools default/llama and default/other: each counts only its own requests",
        "b: is in no pool: its labels (app=x) match no selector",
    ]


def test_the_oldest_model_has_the_name() -> None:
    whole = made(
        pool(),
        server("a"),
        model("young", "chat", "2025-06-06T00:00:00Z", more=", criticality: Sheddable"),
        model("old", "chat", "2025-06-05T23:00:00-02:00", more=", criticality: Critical"),
        model("oldest", "chat", "2025-06-05T02:00:00+02:00", more=", criticality: Critical"),
        model("undated", "chat"),
    )
    assert whole.catalog.models["chat"].split.source == "InferenceModel default/oldest"
    assert whole.catalog.models["chat"].priority == 1
    conditions = {status.name: status.conditions[0] for status in whole.statuses}
    assert conditions["oldest"].status == "True"
    for name in ("young", "old", "undated"):
        assert (conditions[name].status, conditions[name].reason) == ("False", "ModelNameInUse")
        assert "InferenceModel default/oldest" in conditions[name].message


def test_without_times_the_order_in_the_file_decides() -> None:
    whole = made(pool(), server("a"), model("z", "chat"), model("a", "chat"))
    assert whole.catalog.models["chat"].split.source == "InferenceModel default/z"


def test_a_name_is_taken_once_over_all_pools() -> None:
    whole = made(pool(), pool("other"), server("a"), model("x", "chat", pool="other"), model("z", "chat"))
    assert whole.catalog.models["chat"].pool == "default/other"


def test_a_model_without_a_pool_waits_and_does_not_take_the_name() -> None:
    whole = made(pool(), server("a"), model("lost", "chat", pool="lama"), model("found", "chat"))
    assert whole.catalog.models["chat"].split.source == "InferenceModel default/found"
    (status,) = [status for status in whole.statuses if status.name == "lost"]
    assert (status.conditions[0].status, status.conditions[0].reason) == ("Unknown", "Pending")
    assert remarks(whole) == ['lost: there is no InferencePool "lama": did you mean "llama"?']


def test_of_rewrite_targets_only_those_with_a_weight_are_drawn_where_some_have_one() -> None:
    rule = "{targets: [{modelRewrite: a, weight: 3}, {modelRewrite: b}, {modelRewrite: c, weight: 1}]}"
    whole = made(pool(), server("a"), rewrite("canary", rule))
    split = whole.catalog.pools["default/llama"].generic_rewrite
    assert split is not None
    assert split.targets == (Target("a", 3), Target("c", 1))
    assert split.total == 4
    assert remarks(whole) == ["canary: is never drawn: it has no weight, and others have one"]
    assert whole.remarks[0].path == ("spec", "rules", 0, "targets", 1)


def test_a_rule_that_draws_nothing_has_no_effect_and_leaves_the_others_alone() -> None:
    match = "matches: [{model: {value: x}}]"
    whole = made(
        pool(),
        server("a"),
        rewrite("r", f"{{{match}}}, {{targets: [{{modelRewrite: ''}}]}}, {{{match}, targets: [{{modelRewrite: b}}]}}"),
    )
    found = whole.catalog.pools["default/llama"]
    assert found.exact_rewrites["x"].targets == (Target("b", 1),)
    assert found.generic_rewrite is None
    assert remarks(whole) == [
        "r: has no effect: none of its targets can be drawn",
        "r: is never drawn: it names no model",
        "r: has no effect: none of its targets can be drawn",
    ]


def test_a_model_that_nobody_can_ask_for_waits() -> None:
    whole = made(
        pool(),
        server("a"),
        model("nameless", "''"),
        model("aimless", "chat", more=", targetModels: [{name: ''}]"),
        model("half", "half", more=", targetModels: [{name: '', weight: 1}, {name: h, weight: 1}]"),
    )
    assert list(whole.catalog.models) == ["half"]
    assert whole.catalog.models["half"].split.targets == (Target("h", 1),)
    conditions = {status.name: status.conditions[0] for status in whole.statuses}
    assert [conditions[name].reason for name in ("nameless", "aimless", "half")] == ["Pending", "Pending", "Accepted"]


def test_an_object_without_a_spec_is_a_warning() -> None:
    taken = take_in(
        read("f", b"apiVersion: llm-d.ai/v1alpha2\nkind: InferenceObjective\nmetadata: {name: a}\n").documents
    )
    assert (taken.items, taken.problems) == ((), ())
    (warning,) = taken.warnings
    assert warning.message == "InferenceObjective default/a has no spec, and no effect"


def test_targets_and_weights() -> None:
    def targets(more: str) -> tuple[Target, ...]:
        return made(pool(), server("a"), model("m", "chat", more=more)).catalog.models["chat"].split.targets

    assert targets("") == (Target("chat", 1),)
    assert targets(", targetModels: [{name: a}, {name: b}]") == (Target("a", 1), Target("b", 1))
    assert targets(", targetModels: [{name: a, weight: 9}, {name: b, weight: 1}]") == (Target("a", 9), Target("b", 1))


def test_exact_rules_and_a_generic_one_the_oldest_first() -> None:
    match = "matches: [{model: {value: x}}, {model: {value: z}}]"
    whole = made(
        pool(),
        server("a"),
        rewrite(
            "young", "{targets: [{modelRewrite: g1}]}, {matches: [{model: {value: x}}], targets: [{modelRewrite: b}]}"
        ),
        rewrite("old", f"{{{match}, targets: [{{modelRewrite: a}}]}}", created="2025-01-01T00:00:00Z"),
        rewrite("last", "{targets: [{modelRewrite: g2}]}"),
    )
    found = whole.catalog.pools["default/llama"]
    assert {name: split.targets[0].model for name, split in found.exact_rewrites.items()} == {"x": "a", "z": "a"}
    assert found.generic_rewrite is not None
    assert found.generic_rewrite.targets == (Target("g1", 1),)
    assert [line.split(":")[0] for line in remarks(whole)] == ["young", "last"]


def test_the_newer_group_and_version_win() -> None:
    old = "inference.networking.x-k8s.io"
    old_pool = (
        f"apiVersion: {old}/v1alpha2\nkind: InferencePool\nmetadata: {{name: llama}}\n"
        "spec: {selector: {app: x}, targetPortNumber: 1, extensionRef: {name: e, failureMode: FailOpen}}\n"
    )
    whole = made(objective("a", 1, old), objective("a", 2), old_pool, pool(), server("s"))
    found = whole.catalog.pools["default/llama"]
    assert found.objectives == {"a": 2}
    assert found.failure_mode is FailureMode.CLOSE
    assert keys(whole) == ["default/s:8000"]
    assert len(whole.remarks) == 2


def test_an_object_of_the_newer_group_keeps_its_own_age() -> None:
    def generic(name: str, target: str, day: int, group: str = "llm-d.ai") -> str:
        return rewrite(name, f"{{targets: [{{modelRewrite: {target}}}]}}", f"2025-01-0{day}T00:00:00Z", group)

    whole = made(
        pool(),
        server("a"),
        generic("r", "replaced", 1, "inference.networking.x-k8s.io"),
        generic("s", "oldest", 2),
        generic("r", "young", 3),
    )
    split = whole.catalog.pools["default/llama"].generic_rewrite
    assert split is not None
    assert split.targets[0].model == "oldest"


def test_an_empty_selector_selects_nothing() -> None:
    text = (
        "apiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferencePool\nmetadata: {name: llama}\n"
        "spec: {selector: {}, targetPortNumber: 9, extensionRef: {name: e}}\n"
    )
    whole = made(text, server("s"))
    assert keys(whole) == []
    assert 'llama: pool "llama" selects no ModelServer: its selector is empty' in remarks(whole)


def test_an_old_pool_is_a_pool() -> None:
    text = (
        "apiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferencePool\nmetadata: {name: llama}\n"
        "spec: {selector: {app: llama}, targetPortNumber: 9, extensionRef: {name: e, failureMode: FailOpen}}\n"
    )
    whole = made(text, server("s"))
    assert keys(whole) == ["default/s:9"]
    assert whole.catalog.pools["default/llama"].failure_mode is FailureMode.OPEN


def test_the_default_pool() -> None:
    mark = '"stellwerk.dev/default-pool": "true"'
    assert made(pool(), server("a")).catalog.default_pool == "default/llama"
    assert made(pool(), pool("b"), server("a")).catalog.default_pool is None
    assert made(pool(), pool("b", annotations=mark), server("a")).catalog.default_pool == "default/b"
    both = made(
        pool(annotations=mark, created="2025-01-02T00:00:00Z"),
        pool("b", annotations=mark, created="2025-01-01T00:00:00Z"),
        server("a"),
    )
    assert both.catalog.default_pool == "default/b"


@pytest.mark.parametrize(("value", "switch"), [("true", True), ("false", False)])
def test_a_switch_is_on_or_off_or_does_not_say(value: str, switch: bool) -> None:
    whole = made(pool(annotations=f'"stellwerk.dev/restore-streamed-model": "{value}"'), server("a"))
    assert whole.catalog.pools["default/llama"].restores_streamed_model is switch
    assert made(pool(), server("a")).catalog.pools["default/llama"].restores_streamed_model is None


def test_a_switch_that_is_neither_does_not_count_and_is_remarked() -> None:
    whole = made(pool(annotations='"stellwerk.dev/restore-streamed-model": "yes"'), server("a"))
    assert whole.catalog.pools["default/llama"].restores_streamed_model is None
    assert remarks(whole) == ['llama: "yes" is neither "true" nor "false"']


def test_references_to_something_else_than_a_pool_are_pending() -> None:
    text = objective("a", 1).replace("name: llama}", "name: llama, kind: Service}")
    assert remarks(made(pool(), server("s"), text)) == [
        "a: refers to a Service of group inference.networking.k8s.io, not to an InferencePool"
    ]


MANY = items(
    pool(),
    pool("other", annotations='"stellwerk.dev/default-pool": "true"'),
    pool("third", app="x", annotations='"stellwerk.dev/default-pool": "true"', created="2025-01-01T00:00:00Z"),
    server("a"),
    server("b", app="x"),
    server("c", address="10.0.0.1"),
    server("d", address="10.0.0.1"),
    server("e", address="gpu"),
    model("m1", "chat", "2025-01-01T00:00:00Z"),
    model("m2", "chat", "2025-01-01T00:00:00Z"),
    model("m3", "chat"),
    model("m4", "other", pool="nowhere"),
    rewrite("r1", "{targets: [{modelRewrite: a}]}"),
    rewrite("r2", "{targets: [{modelRewrite: b}]}, {matches: [{model: {value: x}}], targets: [{modelRewrite: c}]}"),
    rewrite("r2", "{targets: [{modelRewrite: d}]}", group="inference.networking.x-k8s.io"),
    objective("o", 1),
    objective("o", 2, group="inference.networking.x-k8s.io"),
)


@given(st.permutations(MANY))
@settings(deadline=None, max_examples=100)
def test_the_order_of_objects_does_not_matter(shuffled: list[Item]) -> None:
    addresses = {"gpu": ("10.0.1.1", "10.0.1.2")}
    expected, found = reconcile(MANY, addresses), reconcile(shuffled, addresses)
    assert found.catalog == expected.catalog
    assert list(found.catalog.pools) == list(expected.catalog.pools)
    assert list(found.catalog.models) == list(expected.catalog.models)
    assert sorted(found.statuses, key=repr) == sorted(expected.statuses, key=repr)
    assert remarks(found) == remarks(expected)


@given(st.sets(st.sampled_from(range(len(MANY)))))
@settings(deadline=None, max_examples=100)
def test_any_subset_of_objects_gives_a_consistent_catalog(chosen: set[int]) -> None:
    catalog = reconcile([MANY[index] for index in chosen], {}).catalog
    for public in catalog.models.values():
        assert public.pool in catalog.pools
        assert public.split.total == sum(target.weight for target in public.split.targets)
    assert catalog.default_pool is None or catalog.default_pool in catalog.pools
    for one in catalog.pools.values():
        assert len({endpoint.address for endpoint in one.endpoints}) == len(one.endpoints)
