"""Files followed through changes: validate, then swap; what is broken changes nothing."""

import asyncio
import gc
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest
from msgspec.structs import replace

from stellwerk.blueprint import Blueprint
from stellwerk.edge.objects import ObjectsInvalid, ObjectSource, Pace
from stellwerk.edge.objects import source as source_module
from stellwerk.edge.objects.files import Fingerprint
from tests.control.objects_table import PICKER
from tests.kit.documents import pool, server

QUICK = Pace(look_seconds=0.02, settle_seconds=0.01, settle_limit_seconds=0.2, resolve_seconds=0.02)


def keys(blueprint: Blueprint) -> list[str]:
    """The endpoints of pool `llama`."""
    found = blueprint.catalog.pools.get("default/llama")
    return [endpoint.key for endpoint in found.endpoints] if found else []


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for `condition`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.005)


def follow(
    source: ObjectSource, story: Callable[[list[Blueprint]], Awaitable[None]], loads: bool = True
) -> list[Blueprint]:
    """Load, run, and tell the story meanwhile; returns what was applied."""
    applied: list[Blueprint] = []

    async def tell() -> None:
        if loads:
            await source.load()
        task = asyncio.create_task(source.run(applied.append))
        try:
            await story(applied)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(tell())
    return applied


def test_a_clean_start_names_every_problem(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(pool(more=", x: 1") + "---\n" + server("a", address="http://x"))
    source = ObjectSource([str(tmp_path), str(tmp_path / "none.yaml")])
    with pytest.raises(ObjectsInvalid) as caught:
        asyncio.run(source.load())
    assert len(caught.value.problems) == 3
    assert "a.yaml:4:" in str(caught.value)
    assert source.status.bad == 1


def test_a_change_is_applied_and_logged_as_a_diff(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(pool() + "---\n" + server("a"))
    source = ObjectSource([str(path)], pace=QUICK)
    caplog.set_level(logging.INFO, "stellwerk.objects")

    async def story(applied: list[Blueprint]) -> None:
        path.write_text(pool() + "---\n" + server("a") + "---\n" + server("b", address="10.0.0.99"))
        await until(lambda: bool(applied))

    applied = follow(source, story)
    assert keys(applied[-1]) == ["default/a:8000", "default/b:8000"]
    assert applied[-1].catalog.generation == 2
    assert (
        "changed: pool default/llama: endpoint default/b:8000 added: 10.0.0.99:8000 vllm app=llama" in caplog.messages
    )


@pytest.mark.parametrize("broken", ["a: [", "", pool(more=", x: 1"), "apiVersion: stellwerk.dev/v1\nkind: ModelServer"])
def test_a_broken_file_keeps_the_last_good_state_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(pool() + "---\n" + server("a"))
    source = ObjectSource([str(tmp_path)], pace=QUICK)

    async def story(applied: list[Blueprint]) -> None:
        path.write_text(broken)
        await until(lambda: source.status.bad == 1)
        assert source.status.is_stale
        assert str(path) in str(source.status.problems[0])
        assert keys(source.current) == ["default/a:8000"]
        path.write_text(pool() + "---\n" + server("a"))
        await until(lambda: not source.status.is_stale)

    assert follow(source, story) == []
    assert (source.status.good, source.status.bad) == (2, 1)
    assert any("the last good state stays in effect" in message for message in caplog.messages)


def test_a_half_written_file_is_never_applied(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    whole = pool() + "---\n" + server("a", address="10.0.0.1") + "---\n" + server("b", address="10.0.0.2")
    path.write_text(whole)
    source = ObjectSource([str(path)], pace=QUICK)
    changed = whole.replace("10.0.0.2", "10.0.0.3")

    async def story(applied: list[Blueprint]) -> None:
        with path.open("w") as file:
            for character in changed:
                file.write(character)
                file.flush()
                await asyncio.sleep(0)
        await until(
            lambda: bool(applied) and applied[-1].catalog.pools["default/llama"].endpoints[-1].host == "10.0.0.3"
        )

    for blueprint in follow(source, story):
        assert len(keys(blueprint)) == 2


def test_files_are_read_when_they_have_become_still(monkeypatch: pytest.MonkeyPatch) -> None:
    prints: list[Fingerprint] = [(("a", 1, size, 1),) for size in (1, 2, 3, 3, 4)]
    monkeypatch.setattr(source_module, "fingerprint", lambda paths: prints.pop(0))
    source = ObjectSource(pace=Pace(settle_seconds=0.0))
    assert asyncio.run(source._settled()) == (("a", 1, 3, 1),)


def test_a_notification_comes_long_before_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(pool())
    source = ObjectSource([str(path)], pace=Pace(look_seconds=600, settle_seconds=0.01))

    async def story(applied: list[Blueprint]) -> None:
        for port in range(1, 1000):  # the first ones may come before anybody listens
            path.write_text(pool() + "---\n" + server("a", more=f", ports: [{port}]"))
            await asyncio.sleep(0.05)
            if applied:
                return
        raise AssertionError("no notification")

    follow(source, story)


def test_a_bug_in_reading_does_not_end_what_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(pool() + "---\n" + server("a"))
    source = ObjectSource([str(path)], pace=QUICK)

    async def story(applied: list[Blueprint]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(source_module, "draft", lambda *_: 1 // 0)
            path.write_text(pool() + "---\n" + server("b"))
            await until(lambda: "ZeroDivisionError" in str(source.status.problems))
        path.write_text(pool() + "---\n" + server("c"))
        await until(lambda: bool(applied))

    assert keys(follow(source, story)[-1]) == ["default/c:8000"]


def test_a_new_name_is_resolved_before_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(pool() + "---\n" + server("a"))

    async def resolver(name: str) -> Iterable[str]:
        return ["10.0.0.7"]

    source = ObjectSource(
        [str(path)], pace=replace(QUICK, resolve_seconds=600, resolve_retry_seconds=600), resolver=resolver
    )

    async def story(applied: list[Blueprint]) -> None:
        path.write_text(pool() + "---\n" + server("a", address="gpu"))
        await until(lambda: bool(applied))

    assert keys(follow(source, story)[0]) == ["default/a@10.0.0.7:8000"]


def test_every_way_of_editors_and_volumes_is_noticed(tmp_path: Path) -> None:
    def text(port: int) -> str:
        return pool() + "---\n" + server("a", more=f", ports: [{port}]")

    (tmp_path / "..1").mkdir()
    (tmp_path / "..1" / "a.yaml").write_text(text(1))
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "a.yaml"
    path.symlink_to("..data/a.yaml")
    source = ObjectSource([str(tmp_path)], pace=QUICK)

    async def story(applied: list[Blueprint]) -> None:
        (tmp_path / "..2").mkdir()
        (tmp_path / "..2" / "a.yaml").write_text(text(2))
        (tmp_path / "..new").symlink_to("..2")
        os.rename(tmp_path / "..new", tmp_path / "..data")
        await until(lambda: keys(source.current) == ["default/a:2"])
        (tmp_path / ".a.yaml.tmp").write_text(text(3))
        os.rename(tmp_path / ".a.yaml.tmp", path)
        await until(lambda: keys(source.current) == ["default/a:3"])
        os.rename(path, tmp_path / "a.yaml~")
        path.write_text(text(4))
        await until(lambda: keys(source.current) == ["default/a:4"])
        path.write_text(text(5))
        await until(lambda: keys(source.current) == ["default/a:5"])
        path.unlink()
        await until(lambda: keys(source.current) == [])
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "b.yaml").write_text(text(6))
        await until(lambda: keys(source.current) == ["default/a:6"])

    follow(source, story)
    assert source.status.bad == 0


def test_a_named_file_that_disappears_is_a_problem_and_its_return_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(pool() + "---\n" + server("a"))
    source = ObjectSource([str(path)], pace=QUICK)

    async def story(applied: list[Blueprint]) -> None:
        path.unlink()
        await until(lambda: source.status.is_stale)
        assert keys(source.current) == ["default/a:8000"]
        path.write_text(pool() + "---\n" + server("b"))
        await until(lambda: keys(source.current) == ["default/b:8000"])

    follow(source, story)


def test_a_touched_file_applies_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(pool() + "---\n" + server("a"))
    source = ObjectSource([str(path)], pace=QUICK)

    async def story(applied: list[Blueprint]) -> None:
        path.write_text("# moved\n" + pool() + "---\n" + server("a"))
        await until(lambda: source.status.good == 2)

    assert follow(source, story) == []
    assert source.current.catalog.generation == 1


def test_a_server_that_is_created_again_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(pool() + "---\n" + server("a").replace("name: a", "name: a, uid: one"))
    source = ObjectSource([str(path)], pace=QUICK)

    async def story(applied: list[Blueprint]) -> None:
        path.write_text(pool() + "---\n" + server("a").replace("name: a", "name: a, uid: two"))
        await until(lambda: bool(applied))

    assert follow(source, story)[0].catalog.pools["default/llama"].endpoints[0].uid.startswith("two")


def test_the_picker_configuration_is_followed_too(tmp_path: Path) -> None:
    config = tmp_path / "picker.yaml"
    config.write_text(PICKER)
    source = ObjectSource(servers=["127.0.0.1:1"], picker_config=str(config), pace=QUICK)

    async def story(applied: list[Blueprint]) -> None:
        config.write_text(PICKER + "plugins: [{type: queue-scorer}]\n")
        await until(lambda: bool(applied))
        config.write_text(PICKER + "plugins: [{type: queue-scorr}]\n")
        await until(lambda: source.status.is_stale)

    applied = follow(source, story)
    assert [plugin.type for plugin in applied[-1].picker.plugins] == ["queue-scorer"]


def test_names_are_resolved_and_resolved_again(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(pool() + "---\n" + server("a", address="gpu"))
    answers = ["10.0.0.1"]

    async def resolver(name: str) -> Iterable[str]:
        assert name == "gpu"
        if not answers:
            raise OSError(-2, "Name or service not known")
        return list(answers)

    source = ObjectSource([str(path)], pace=QUICK, resolver=resolver)

    async def story(applied: list[Blueprint]) -> None:
        assert keys(source.current) == ["default/a@10.0.0.1:8000"]
        answers.insert(0, "10.0.0.2")
        await until(lambda: len(applied) == 1)
        assert keys(source.current) == ["default/a@10.0.0.1:8000", "default/a@10.0.0.2:8000"]
        answers.reverse()
        await asyncio.sleep(0.1)
        answers.clear()
        await until(lambda: source.status.unresolved == ("gpu",))
        assert len(applied) == 1
        path.write_text(pool() + "---\n" + server("a"))
        await until(lambda: len(applied) == 2)
        assert source.status.unresolved == ()

    follow(source, story)


def test_a_name_that_moves_does_not_hide_that_the_files_are_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(pool() + "---\n" + server("a", address="gpu"))
    answers = ["10.0.0.1"]

    async def resolver(name: str) -> Iterable[str]:
        return list(answers)

    source = ObjectSource([str(path)], pace=QUICK, resolver=resolver)

    async def story(applied: list[Blueprint]) -> None:
        path.write_text("a: [")
        await until(lambda: source.status.is_stale)
        answers[:] = ["10.0.0.2"]
        await until(lambda: bool(applied))

    assert keys(follow(source, story)[0]) == ["default/a@10.0.0.2:8000"]
    assert source.status.is_stale


def test_literal_addresses_never_touch_the_resolver(tmp_path: Path) -> None:
    async def resolver(name: str) -> Iterable[str]:
        raise AssertionError(name)

    (tmp_path / "a.yaml").write_text(pool() + "---\n" + server("a") + "---\n" + server("b", address="::1"))
    source = ObjectSource([str(tmp_path)], ["127.0.0.1:1"], resolver=resolver)
    assert len(keys(asyncio.run(source.load()))) == 2


@pytest.mark.integration
def test_a_thousand_reloads_leave_nothing_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "stellwerk.objects")
    path = tmp_path / "a.yaml"
    texts = [pool() + "---\n" + server("a", more=f", ports: [{port}]") for port in (1, 2)]
    path.write_text(texts[0])
    source = ObjectSource([str(path)], pace=Pace(settle_seconds=0.0))

    async def reload(times: int) -> None:
        for number in range(times):
            path.write_text(texts[number % 2] if number % 5 else "a: [")
            await source._reload()

    async def story() -> int:
        await source.load()
        await reload(50)
        gc.collect()
        before = len(gc.get_objects())
        await reload(1000)
        gc.collect()
        return len(gc.get_objects()) - before

    assert asyncio.run(story()) < 200
    assert source.status.good + source.status.bad == 1051


def test_following_stops_at_once_when_cancelled(tmp_path: Path) -> None:
    async def story(applied: list[Blueprint]) -> None:
        await asyncio.sleep(0)

    follow(ObjectSource([str(tmp_path)], pace=QUICK), story)
