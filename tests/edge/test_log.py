"""Log lines, as people and machines read them, and what must never stand in them."""

import ast
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stellwerk
from stellwerk.edge.log import ALLOWED_FIELDS, JsonFormatter, TextFormatter, configure

SOURCES = sorted(Path(stellwerk.__file__).parent.rglob("*.py"))
log = logging.getLogger("stellwerk.part")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class BrokenPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    root = logging.getLogger()
    before, level, own = list(root.handlers), root.level, logging.getLogger("stellwerk").level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    logging.getLogger("stellwerk").setLevel(own)


def test_json_has_one_object_a_line_with_the_request_id() -> None:
    out = io.StringIO()
    configure("auto", "info", out)
    log.info("picked %s", "a", extra={"fields": {"request_id": "abc", "status": 200, "seconds": 0.1234567}})
    log.warning("two\nlines")
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert first["message"] == "picked a"
    assert (first["level"], first["part"], first["request_id"], first["status"]) == ("info", "part", "abc", 200)
    assert first["seconds"] == 0.123457
    assert first["time"].endswith("Z")
    assert second["message"] == "two\nlines"


def test_a_terminal_gets_one_aligned_line_of_text_in_colour() -> None:
    out = Terminal()
    configure("auto", "info", out)
    log.warning("odd\nthing", extra={"fields": {"endpoint": "default/a:1", "error": "no route", "count": 2}})
    (line,) = out.getvalue().splitlines()
    assert line.endswith('part       odd\\nthing  endpoint=default/a:1 error="no route" count=2')
    assert "\x1b[33mwarning" in line


def test_text_without_a_terminal_has_no_colour() -> None:
    out = io.StringIO()
    configure("text", "info", out)
    log.error("x")
    assert "\x1b" not in out.getvalue()


def test_only_known_fields_are_written() -> None:
    out = io.StringIO()
    configure("json", "info", out)
    log.info("x", extra={"fields": {"prompt": "my secret", "authorization": "Bearer sk-1", "status": 200}})
    assert "secret" not in out.getvalue()
    assert "sk-1" not in out.getvalue()
    line = json.loads(out.getvalue())
    assert (line["prompt"], line["status"]) == ("[withheld]", 200)


def test_every_field_that_the_code_logs_is_known() -> None:
    unknown = {(path.name, name) for path in SOURCES for name in _logged_fields(path) if name not in ALLOWED_FIELDS}
    assert unknown == set()


def _logged_fields(path: Path) -> Iterator[str]:
    """Literal keys of `extra={"fields": {...}}`, and of dicts called `fields`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            written = [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "fields"]
        elif isinstance(node, ast.Assign) and any(
            isinstance(name, ast.Name) and name.id == "fields" for name in node.targets
        ):
            written = [node.value]
        else:
            continue
        for value in written:
            for inner in ast.walk(value):
                if isinstance(inner, ast.Dict):
                    yield from (str(name.value) for name in inner.keys if isinstance(name, ast.Constant))


def test_levels_apply_to_our_parts_and_libraries_stay_quiet() -> None:
    out = io.StringIO()
    configure("json", "debug", out)
    log.debug("ours")
    logging.getLogger("asyncio").info("theirs")
    logging.getLogger("asyncio").warning("their warning")
    assert [json.loads(line)["message"] for line in out.getvalue().splitlines()] == ["ours", "their warning"]


def test_configuring_again_replaces_the_first_handler() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("json", "info", first)
    configure("json", "info", second)
    log.info("x")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


@pytest.mark.parametrize("arguments", [("xml", "info"), ("json", "loud")])
def test_unknown_settings_are_named(arguments: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"'(xml|loud)' is none of"):
        configure(*arguments, stream=io.StringIO())


def test_a_broken_pipe_or_a_closed_file_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "info", BrokenPipe())
    log.info("x")
    closed = io.StringIO()
    configure("text", "info", closed)
    closed.close()
    log.info("x")
    logging.getLogger().handlers[-1].flush()
    assert capsys.readouterr().err == ""


def test_wrong_arguments_do_not_lose_the_line() -> None:
    for message, arguments in (("only %s", (1, 2)), ("not %d", ("a number",))):
        record = logging.LogRecord("stellwerk.part", logging.INFO, __file__, 1, message, arguments, None)
        assert json.loads(JsonFormatter().format(record))["message"] == message


def test_an_exception_is_written_whole() -> None:
    out = io.StringIO()
    configure("json", "info", out)
    try:
        raise RuntimeError("bug")
    except RuntimeError:
        log.exception("failed")
    assert "RuntimeError: bug" in json.loads(out.getvalue())["exception"]


def test_long_and_odd_values_are_cut_short() -> None:
    out = io.StringIO()
    configure("json", "info", out)
    log.info(
        "m" * 100_000, extra={"fields": {"error": "e" * 100_000, "reasons": list(range(500)), "seconds": float("nan")}}
    )
    assert len(out.getvalue()) < 10_000
    line = json.loads(out.getvalue())
    assert line["seconds"] is None
    assert line["reasons"][-1] == "... 468 more"


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=20)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(message=st.text(max_size=50), value=VALUES, name=st.sampled_from(["error", "status", "prompt"]))
@settings(deadline=None, max_examples=150)
def test_anything_can_be_logged(message: str, value: object, name: str) -> None:
    record = logging.LogRecord("stellwerk.part", logging.INFO, __file__, 1, message, (), None)
    record.fields = {name: value}
    line = JsonFormatter().format(record)
    assert json.loads(line)["level"] == "info"
    assert "\n" not in line
    assert "\n" not in TextFormatter(has_colour=False).format(record)


def test_the_stream_is_stderr_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    log.info("x")
    assert "x" in capsys.readouterr().err
    assert sys.stderr is not None
