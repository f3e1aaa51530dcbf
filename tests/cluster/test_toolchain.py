"""What is missing is named."""

from pathlib import Path

import pytest

from tests.cluster import toolchain


def test_programs_that_are_not_built_are_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STELLWERK_CLUSTER_BIN", str(tmp_path))
    assert toolchain.missing_programs() == [*toolchain.PROGRAMS, toolchain.CRDS]
    assert "kube-apiserver" in toolchain.missing()[-1]
    assert "python -m tests.cluster build" in toolchain.missing()[-1]


def test_conformance_needs_go_only_for_what_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STELLWERK_CLUSTER_BIN", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert any(each.startswith("Go ") for each in toolchain.missing_for_conformance())
    for name in (*toolchain.PROGRAMS, toolchain.CRDS):
        (tmp_path / name).touch()
    assert not any(each.startswith("Go ") for each in toolchain.missing_for_conformance())


def test_tools_that_are_absent_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "search_path", lambda: "/nowhere")
    assert "etcd (package etcd-server)" in toolchain.missing_to_run()
    assert "nft (package nftables)" in toolchain.missing_to_run()


def test_without_root_that_is_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert toolchain.missing_to_run()[0].startswith("root")


def test_the_cache_is_named_after_what_it_is_built_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STELLWERK_CLUSTER_BIN", raising=False)
    here = toolchain.programs_directory()
    (tmp_path / "go.sum").write_text("other sums")
    monkeypatch.setattr(toolchain, "MODULES", tmp_path)
    assert toolchain.programs_directory() != here
    assert toolchain.programs_directory().parent == here.parent
