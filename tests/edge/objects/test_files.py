"""Object files on disk: which, what, and when they changed."""

import os
from pathlib import Path

import pytest

from stellwerk.control.document import ReadingLimits
from stellwerk.edge.objects import files
from stellwerk.edge.objects.files import contents, files_of, fingerprint


def test_a_directory_stands_for_its_yaml_and_json_files_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "sub/c.json", "readme.md", ".hidden.yaml", ".git/d.yaml", "b.yaml.swp", "a.yaml~"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a: 1\n")
    names = [os.path.relpath(name, tmp_path) for name in files_of([str(tmp_path)])]
    assert names == ["a.yml", "b.yaml", "sub/c.json"]


def test_a_named_file_is_read_whatever_it_is_called_and_once(tmp_path: Path) -> None:
    path = tmp_path / "objects.conf"
    path.write_text("a: 1\n")
    assert [source.name for source in contents([str(path), str(path)]).sources] == [str(path)]


def test_what_cannot_be_read_is_a_problem_among_the_others(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("a: 1\n")
    os.mkfifo(tmp_path / "pipe.yaml")
    read = contents([str(tmp_path), str(tmp_path / "missing.yaml")])
    assert [source.name for source in read.sources] == [str(tmp_path / "good.yaml")]
    assert [str(problem) for problem in read.problems] == [
        f"{tmp_path}/pipe.yaml: cannot be read: it is not a regular file",
        f"{tmp_path}/missing.yaml: cannot be read: No such file or directory",
    ]


def test_no_more_than_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"x" * 100)
    (source,) = contents([str(path)], limits=ReadingLimits(max_bytes=10)).sources
    assert len(source.data) == 11


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILES", 3)
    for number in range(5):
        (tmp_path / f"{number}.yaml").write_text("a: 1\n")
    assert "more than 3 files" in str(contents([str(tmp_path)]).problems[0])


def test_the_picker_configuration_may_lie_among_the_objects(tmp_path: Path) -> None:
    (tmp_path / "picker.yaml").write_text("a: 1\n")
    (source,) = contents([str(tmp_path)], str(tmp_path / "picker.yaml")).sources
    assert source.is_picker_config


def test_every_kind_of_change_changes_the_fingerprint(tmp_path: Path) -> None:
    seen = set()

    def look() -> None:
        now = fingerprint([str(tmp_path)])
        assert now not in seen
        seen.add(now)

    path = tmp_path / "a.yaml"
    look()
    path.write_text("a: 1\n")
    look()
    path.write_text("a: 22\n")
    look()
    path.chmod(0o600)
    os.utime(path, ns=(1, 1))
    look()
    (tmp_path / "b").write_text("a: 33\n")
    (tmp_path / "b").rename(path)
    look()
    path.unlink()
    (tmp_path / "c.yaml").write_text("")
    look()


def test_a_swapped_volume_changes_the_fingerprint(tmp_path: Path) -> None:
    for version in ("..1", "..2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_text("a: 1\n")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    before = fingerprint([str(tmp_path)])
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert fingerprint([str(tmp_path)]) != before
