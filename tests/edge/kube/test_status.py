"""Statuses: written when different, over nobody else's entries, and again after a conflict."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.control.kube.resource import POOLS
from stellwerk.edge.kube.errors import ApiError
from stellwerk.edge.kube.status import StatusWriter, difference
from tests.kit.kube_api import kube_api, merged
from tests.kit.loop import on_loop

Object = dict[str, Any]
POOL = {"metadata": {"name": "a", "namespace": "default"}, "spec": {}}


def with_entry(status: Object) -> Object:
    """Our entry beside the others'."""
    others = [parent for parent in status.get("parents", []) if parent["by"] != "us"]
    return {**status, "parents": [*others, {"by": "us", "accepted": True}]}


@on_loop
async def test_it_is_written_once() -> None:
    async with kube_api() as api:
        client = api.client()
        writer = StatusWriter(client)
        made = api.put(POOLS, {**POOL, "status": {"parents": [{"by": "them"}], "note": "theirs"}})
        assert await writer.write(POOLS, made, with_entry)
        now = api.objects(POOLS)["default", "a"]
        assert now["status"] == {"parents": [{"by": "them"}, {"by": "us", "accepted": True}], "note": "theirs"}
        assert not await writer.write(POOLS, now, with_entry)
        assert [method for method, _, _ in api.requests] == ["PATCH"]
        await client.close()


@on_loop
async def test_a_conflict_is_resolved_over_the_newest() -> None:
    async with kube_api() as api:
        client = api.client()
        writer = StatusWriter(client)
        seen = api.put(POOLS, POOL)
        api.put(POOLS, {**POOL, "status": {"parents": [{"by": "them"}]}})
        assert await writer.write(POOLS, seen, with_entry)
        assert [parent["by"] for parent in api.objects(POOLS)["default", "a"]["status"]["parents"]] == ["them", "us"]
        assert writer.counts.conflicts == 1
        await client.close()


@on_loop
async def test_what_is_gone_or_was_made_anew_needs_none() -> None:
    async with kube_api() as api:
        client = api.client()
        writer = StatusWriter(client)
        seen = api.put(POOLS, POOL)
        api.remove(POOLS, "default", "a")
        assert not await writer.write(POOLS, seen, with_entry)
        api.put(POOLS, POOL)
        assert not await writer.write(POOLS, seen, with_entry)
        assert "status" not in api.objects(POOLS)["default", "a"]
        await client.close()


@on_loop
async def test_a_refusal_is_the_caller_s() -> None:
    async with kube_api() as api:
        client = api.client()
        writer = StatusWriter(client)
        seen = api.put(POOLS, POOL)
        api.lies.status = 403
        with pytest.raises(ApiError, match="403"):
            await writer.write(POOLS, seen, with_entry)
        assert writer.counts.failed == 1
        await client.close()


VALUES = st.recursive(
    st.integers(0, 2) | st.text("ab", max_size=1),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@given(OBJECTS, OBJECTS)
@settings(deadline=None, max_examples=150)
def test_a_difference_is_a_merge_patch(old: Object, new: Object) -> None:
    patch = difference(old, new)
    assert (patch is None) == (old == new)
    assert merged(old, patch or {}) == new
