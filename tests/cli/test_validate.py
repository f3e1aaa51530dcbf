"""`stellwerk validate`: what it prints, and its exit status."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stellwerk.cli.main import main
from tests.control.objects_table import PICKER
from tests.kit.documents import model, pool, server


def validate(*arguments: str, stdin: str | None = None) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["validate", *arguments], input=stdin)


def test_what_is_right_is_summed_up(tmp_path: Path) -> None:
    split = ", targetModels: [{name: a, weight: 3}, {name: b, weight: 1}]"
    (tmp_path / "a.yaml").write_text(
        "---\n".join([pool(), server("a", address="10.0.0.1"), model("m", "chat", more=split)])
    )
    result = validate("-f", str(tmp_path))
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "pool default/llama: 1 endpoint, FailClose, default",
        "  10.0.0.1:8000 vllm (default/a:8000)",
        "model chat: a 75%, b 25% in default/llama, priority 0",
        "all right: 0 problems, 0 warnings",
    ]


def test_every_problem_of_every_file_is_printed_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(pool(more=", x: 1") + "---\n" + server("a", address="http://x"))
    (tmp_path / "b.json").write_text('{"apiVersion": 1}')
    config = tmp_path / "picker.conf"
    config.write_text(PICKER + "plugins: [{type: queue-scorr}]\n")
    result = validate("-f", str(tmp_path), "--config", str(config), "--server", "https://x")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert [line.split(": ")[0].removeprefix(str(tmp_path)) for line in lines] == [
        "--server https://x",
        "/a.yaml:4:78",
        "/a.yaml:9:17",
        "/b.json:1:1",
        "/b.json:1:16",
        "/picker.conf:3:18",
        "6 problems, 0 warnings",
    ]


def test_warnings_do_not_fail(tmp_path: Path) -> None:
    result = validate("-f", "-", stdin=pool(app="lama") + "---\n" + server("a"))
    assert result.exit_code == 0
    assert result.output.splitlines()[0].startswith('<stdin>:4:8: warning: spec.selector: pool "llama" selects no')
    assert "all right: 0 problems, 2 warnings" in result.output


def test_names_are_not_resolved() -> None:
    result = validate("--server", "http://nowhere.invalid:8000")
    assert result.exit_code == 0
    assert "nowhere.invalid:8000" in result.output


def test_json_for_programs() -> None:
    good = json.loads(validate("-o", "json", "--server", "http://10.0.0.1:8000").output)
    assert good["valid"] is True
    assert good["pools"][0]["endpoints"][0]["port"] == 8000
    bad = json.loads(validate("-o", "json", "-f", "-", stdin="a: [").output)
    assert bad["valid"] is False
    assert (bad["problems"][0]["file"], bad["problems"][0]["line"]) == ("<stdin>", 1)


@pytest.mark.parametrize("arguments", [(), ("-f",), ("-o", "xml", "-f", "x")])
def test_wrong_usage_is_status_2(arguments: tuple[str, ...]) -> None:
    assert validate(*arguments).exit_code == 2
