"""What is missing is named."""

from pathlib import Path

import pytest

from tests.cluster import toolchain


def test_programs_that_are_not_built_are_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STELLWERK_CLUSTER_BIN", str(tmp_path))
    assert toolchain.missing_programs() == [*toolchain.CLUSTER]
    assert "kube-apiserver" in toolchain.missing()[-1]
    assert "python -m tests.cluster build" in toolchain.missing()[-1]


def test_conformance_needs_go_only_for_what_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STELLWERK_CLUSTER_BIN", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert any(each.startswith("Go ") for each in toolchain.missing_for_conformance())
    for name in toolchain.CLUSTER:
        (tmp_path / name).touch()
    assert not any(each.startswith("Go ") for each in toolchain.missing_for_conformance())


def test_tools_that_are_absent_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "search_path", lambda: "/nowhere")
    assert "etcd (package etcd-server)" in toolchain.missing_to_run()
    assert "nft (package nftables)" in toolchain.missing_to_run()


def test_without_root_that_is_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert toolchain.missing_to_run()[0].startswith("root")


def test_the_cache_of_a_module_is_named_after_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STELLWERK_CLUSTER_BIN", raising=False)
    here = toolchain.program("kubectl").parent
    assert here.name.startswith("kubernetes-")
    monkeypatch.setattr(toolchain, "MODULES", tmp_path)
    (tmp_path / "kubernetes").mkdir()
    (tmp_path / "kubernetes" / "go.sum").write_text("other sums")
    changed = toolchain.program("kubectl").parent
    assert changed != here
    assert changed.parent == here.parent


def test_a_change_of_one_module_leaves_what_is_built_of_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STELLWERK_CLUSTER_BIN", raising=False)
    monkeypatch.setattr(toolchain, "MODULES", tmp_path)
    before = {name: toolchain.program(name) for name in toolchain.PROGRAMS}
    (tmp_path / "helm").mkdir()
    (tmp_path / "helm" / "go.sum").write_text("other sums")
    assert {name for name in before if toolchain.program(name) != before[name]} == {toolchain.HELM}


def test_every_program_has_a_module_that_pins_it() -> None:
    assert all((toolchain.module_of(name) / "go.mod").exists() for name in toolchain.PROGRAMS)
