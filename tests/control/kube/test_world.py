"""The same objects mean the same, whether files hold them or an API server does; and how pools change hands."""

import json
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from stellwerk.blueprint import Draft, Source, build, draft
from stellwerk.control.kube.pods import kept_of_pod
from stellwerk.control.kube.resource import (
    MODELS,
    OBJECTIVES,
    OLD_OBJECTIVES,
    OLD_POOLS,
    OLD_REWRITES,
    POOLS,
    REWRITES,
    Resource,
    without_bulk,
)
from stellwerk.control.kube.world import Selection, World, pool_of_flags
from stellwerk.model.catalog import Catalog
from stellwerk.model.event import Ask
from stellwerk.model.outcome import Outcome
from tests.kit.fleet import Brain, request
from tests.kit.kube_api import pod, pool

Object = dict[str, Any]


def catalog(world: World) -> Catalog:
    """What the world amounts to."""
    return build(Draft(items=world.items()), {}).catalog


def keys(world: World, name: str = "default/llama") -> list[str]:
    """Its endpoints."""
    found = catalog(world).pools.get(name)
    return [endpoint.key for endpoint in found.endpoints] if found else []


def with_pool(labels: dict[str, str], ports: tuple[int, ...] = (8000,)) -> tuple[World, Selection]:
    """A world with one pool, whose Pods are known."""
    world = World()
    world.put(POOLS, ("default", "llama"), pool("llama", labels, ports))
    (selection,) = world.selections()
    world.settle([selection])
    return world, selection


def put(world: World, selection: Selection, value: Object) -> bool:
    """A Pod as it comes."""
    return world.put_pod(selection, (value["metadata"]["namespace"], value["metadata"]["name"]), kept_of_pod(value))


def test_only_what_takes_an_endpoint_away_is_urgent() -> None:
    world, pods = with_pool({"app": "llama"})
    assert not put(world, pods, pod("a", is_ready=False))
    assert not put(world, pods, pod("a"))
    assert not put(world, pods, pod("a"))
    assert keys(world) == ["default/a:8000"]
    assert put(world, pods, pod("a", is_terminating=True))
    assert keys(world) == []
    assert not put(world, pods, pod("a", is_terminating=True))
    assert not world.put_pod(pods, ("default", "a"), None)


def test_an_address_that_is_used_again_is_another_endpoint() -> None:
    world, pods = with_pool({"app": "llama"})
    put(world, pods, pod("a", "10.0.0.1", uid="one"))
    (before,) = catalog(world).pools["default/llama"].endpoints
    world.put_pod(pods, ("default", "a"), None)
    put(world, pods, pod("a", "10.0.0.1", uid="two"))
    (after,) = catalog(world).pools["default/llama"].endpoints
    assert (before.key, before.address) == (after.key, after.address)
    assert before.uid != after.uid


def test_an_annotation_limits_the_ports_and_ranks_stay() -> None:
    world, pods = with_pool({"app": "llama"}, (8000, 8001, 8002))
    put(world, pods, pod("a", annotations={"llm-d.ai/active-ports": "8002, 8000,x,9"}))
    endpoints = catalog(world).pools["default/llama"].endpoints
    assert [(endpoint.port, endpoint.rank) for endpoint in endpoints] == [(8000, 0), (8002, 2)]
    put(world, pods, pod("a", annotations={"inference.networking.k8s.io/active-ports": "8001"}))
    assert keys(world) == ["default/a:8001"]
    put(world, pods, pod("a", annotations={"llm-d.ai/active-ports": ""}))
    assert keys(world) == []


def test_a_new_selector_holds_once_its_pods_are_known() -> None:
    world, old = with_pool({"app": "llama"})
    put(world, old, pod("a"))
    world.put(POOLS, ("default", "llama"), pool("llama", {"app": "new"}, [9000]))
    assert world.selections() == {old, Selection("default", "app=new")}
    world.settle([old])
    assert keys(world) == ["default/a:8000"]
    (new,) = world.selections() - {old}
    put(world, new, pod("b", labels={"app": "new"}))
    world.settle([old, new])
    assert keys(world) == ["default/b:9000"]
    assert world.selections() == {new}


def test_new_ports_hold_at_once() -> None:
    world, pods = with_pool({"app": "llama"})
    put(world, pods, pod("a"))
    world.put(POOLS, ("default", "llama"), pool("llama", {"app": "llama"}, [9000]))
    world.settle([pods])
    assert keys(world) == ["default/a:9000"]


def test_a_pool_that_is_gone_is_gone_and_one_that_cannot_be_read_stays() -> None:
    world, pods = with_pool({"app": "llama"})
    put(world, pods, pod("a"))
    world.put(POOLS, ("default", "llama"), {**pool("llama", {"app": "x"}, []), "spec": {}})
    world.settle([pods])
    assert keys(world) == ["default/a:8000"]
    assert len(world.problems()) == 2
    world.put(POOLS, ("default", "llama"), None)
    world.settle([pods])
    assert catalog(world).pools == {}
    assert world.selections() == frozenset()


def test_a_pool_that_cannot_be_read_and_never_was_in_effect_is_told_of() -> None:
    world, _ = with_pool({"app": "llama"})
    broken = pool("llama", {"app": "llama"}, [])
    world.put(POOLS, ("default", "llama"), broken)
    world.put(POOLS, ("default", "new"), {**broken, "metadata": {"namespace": "default", "name": "new"}})
    assert world.unreadable() == {"default/new"}
    world.choose([("default", "llama")])
    assert not world.unreadable()


def test_other_pools_and_their_policies_are_passed_over() -> None:
    world = World([("default", "llama")])
    for name in ("llama", "other"):
        world.put(POOLS, ("default", name), pool(name, {"app": name}, [8000]))
        model = {"metadata": {"name": name, "namespace": "default"}, "apiVersion": MODELS.api_version}
        spec = {"modelName": name, "poolRef": {"name": name}}
        world.put(MODELS, ("default", name), {**model, "kind": "InferenceModel", "spec": spec})
    assert world.selections() == {Selection("default", "app=llama")}
    world.settle(world.selections())
    assert sorted(catalog(world).pools) == ["default/llama"]
    assert sorted(catalog(world).models) == ["llama"]
    world.choose([("default", "other")])
    world.settle(world.selections())
    assert sorted(catalog(world).models) == ["other"]


def test_a_field_of_a_newer_definition_is_passed_over_with_a_warning() -> None:
    world = World()
    made = pool("llama", {"app": "llama"}, [8000])
    made["spec"]["fromTheFuture"] = {"a": 1}
    world.put(POOLS, ("default", "llama"), made)
    world.settle(world.selections())
    assert list(catalog(world).pools) == ["default/llama"]
    assert world.problems() == ()
    assert [finding.path for finding in world.warnings()] == ["spec.fromTheFuture"]


NAMES = st.sampled_from(["a", "b", "c"])
APPS = st.sampled_from(["x", "y"])
TIMES = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])


def _object(resource: Resource, name: str, created: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": "default", "creationTimestamp": created, "uid": f"{resource}-{name}"}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}


@st.composite
def objects(draw: st.DrawFn) -> list[tuple[Resource, Object]]:
    """Some of every kind, that agree and disagree."""
    found: dict[tuple[Resource, str], Object] = {}

    def add(resource: Resource, name: str, spec: Object) -> None:
        found[resource, name] = _object(resource, name, draw(TIMES), spec)

    for _ in range(draw(st.integers(0, 8))):
        name, app, pool = draw(NAMES), draw(APPS), {"name": draw(NAMES)}
        match draw(st.integers(0, 5)):
            case 0 | 1:
                ports = [{"number": port} for port in draw(st.sampled_from([[8000], [8000, 8001]]))]
                add(POOLS, name, {"selector": {"matchLabels": {"app": app}}, "targetPorts": ports})
            case 2:
                old = {"selector": {"app": app}, "targetPortNumber": 9000, "extensionRef": {"name": "epp"}}
                add(OLD_POOLS, name, old)
            case 3:
                targets = [{"name": f"{app}-1", "weight": 9}, {"name": f"{app}-2", "weight": draw(st.integers(1, 3))}]
                add(MODELS, name, {"modelName": f"model-{app}", "poolRef": pool, "targetModels": targets})
            case 4:
                resource = draw(st.sampled_from([OBJECTIVES, OLD_OBJECTIVES]))
                add(resource, name, {"poolRef": pool, "priority": draw(st.integers(-2, 2))})
            case _:
                resource = draw(st.sampled_from([REWRITES, OLD_REWRITES]))
                matches = draw(st.sampled_from([[], [{"model": {"value": "m"}}]]))
                add(
                    resource,
                    name,
                    {"poolRef": pool, "rules": [{"matches": matches, "targets": [{"modelRewrite": app}]}]},
                )
    return [(resource, value) for (resource, _), value in found.items()]


@st.composite
def servers(draw: st.DrawFn) -> list[tuple[Object, Object]]:
    """Pods, each with the ModelServer that says the same."""
    pairs = []
    for number in range(draw(st.integers(0, 5))):
        labels = {"app": draw(APPS)}
        engine = draw(st.sampled_from(["vllm", "sglang"]))
        if engine != "vllm":
            labels["llm-d.ai/engine-type"] = engine
        notes = draw(st.sampled_from([None, {"llm-d.ai/active-ports": "8001"}]))
        created, address = draw(TIMES), f"10.0.0.{draw(st.integers(1, 4))}"
        value = pod(f"p{number}", address, labels, uid=f"u{number}", annotations=notes)
        value["metadata"]["creationTimestamp"] = created
        metadata = {name: part for name, part in value["metadata"].items() if name != "managedFields"}
        spec = {"address": address, "engine": engine}
        server = {"apiVersion": "stellwerk.dev/v1alpha1", "kind": "ModelServer", "metadata": metadata, "spec": spec}
        pairs.append((value, server))
    return pairs


@given(objects(), servers(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=80)
def test_files_and_an_api_server_give_the_same_catalog_and_the_same_picks(
    read: list[tuple[Resource, Object]], pairs: list[tuple[Object, Object]], random: Random
) -> None:
    text = "\n---\n".join(json.dumps(value) for value in [*(value for _, value in read), *(s for _, s in pairs)])
    drawn = draft([Source("all.yaml", text.encode())] if text else [])
    assert drawn.problems == ()
    from_files = build(drawn, {}).catalog
    world = World()
    random.shuffle(read)
    for resource, value in read:
        key = (value["metadata"]["namespace"], value["metadata"]["name"])
        world.put(resource, key, without_bulk({**value, "status": {"conditions": []}}))
    random.shuffle(pairs)
    for selection in world.selections():
        for value, _ in pairs:
            if selection.selector == f"app={value['metadata']['labels']['app']}":
                put(world, selection, value)
    world.settle(world.selections())
    from_server = catalog(world)
    assert replace(from_server, generation=0) == replace(from_files, generation=0)
    assert _outcomes(from_server) == _outcomes(from_files)


def _outcomes(wanted: Catalog) -> list[Outcome]:
    """Of some requests, some of which wait for an endpoint in vain, with signals that tell endpoints apart."""
    brain = Brain(catalog=wanted, seed=7)
    endpoints = sorted({each.key for pool in wanted.pools.values() for each in pool.endpoints})
    for number, key in enumerate(endpoints):
        brain.tell(key, waiting=number % 3, kv_use=number / 10)
    found: list[Outcome] = []
    for number in range(24):
        brain.ticket += 1
        wish = request(("model-x", "model-y", "m", "unknown")[number % 4], id=f"r{number}", prompt=b"word " * number)
        found += [each.outcome for each in brain.engine.receive(Ask(brain.ticket, wish), brain.now)]
    return found


def test_an_empty_selector_follows_nothing() -> None:
    world = World()
    old = {"selector": {}, "targetPortNumber": 9000, "extensionRef": {"name": "epp"}}
    world.put(OLD_POOLS, ("default", "a"), _object(OLD_POOLS, "a", "2026-01-01T00:00:00Z", old))
    assert world.selections() == frozenset()
    world.settle([])
    assert catalog(world).pools["default/a"].endpoints == ()


def test_a_pool_of_flags_has_whatever_its_selector_selects() -> None:
    world = World([("default", "mine")])
    world.add(pool_of_flags("default", "mine", "app in (a,b),!old", [8000]))
    (selection,) = world.selections()
    assert selection == Selection("default", "app in (a,b),!old")
    put(world, selection, pod("a", "10.0.0.1", {"app": "a"}))
    put(world, selection, pod("b", "10.0.0.2", {"app": "b"}))
    world.settle([selection])
    assert keys(world, "default/mine") == ["default/a:8000", "default/b:8000"]
