"""The README's examples, run as they stand there, only with free ports in place of the fixed ones."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from stellwerk.demo.ports import free_block
from tests.kit.processes import Child, call, free_port, wait_until

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Readme:
    """The blocks of the README in order, with ports replaced, run in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = {port: str(free_port()) for port in ("8080", "9090")}
        # `sim --count 2` takes consecutive ports.
        first = free_block(2)
        self.ports |= {"8001": str(first), "8002": str(first + 1)}
        text = (ROOT / "README.md").read_text()
        self.blocks = [(kind, self.with_free_ports(code)) for kind, code in BLOCK.findall(text)]
        self.env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def with_free_ports(self, code: str) -> str:
        """The code with this run's ports, and `--admin` where the default would be taken."""
        for port, free in self.ports.items():
            code = re.sub(rf"\b{port}\b", free, code)
        listen = f"--listen 127.0.0.1:{self.ports['8080']} --admin 127.0.0.1:{self.ports['9090']}"
        return code.replace("stellwerk run ", f"stellwerk run {listen} ")

    def code(self, kind: str, containing: str) -> str:
        """The only block of this kind that contains a text."""
        (code,) = (code for found, code in self.blocks if found == kind and containing in code)
        return code

    def run(self, code: str, interpreter: str = "bash") -> str:
        """Run a block to its end; its output."""
        command = ["bash", "-euo", "pipefail", "-c", code] if interpreter == "bash" else [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=self.directory, env=self.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def background(self, code: str) -> Iterator[Child]:
        """Run a one-line block in the background for the duration of the `with`."""
        (command,) = code.strip().splitlines()
        log_path = self.directory / f"log-{len(list(self.directory.iterdir()))}"
        with log_path.open("wb") as log:
            process = subprocess.Popen(command.split(), cwd=self.directory, env=self.env, stdout=log, stderr=log)
        child = Child(process, log_path)
        try:
            yield child
        finally:
            child.stop()

    def wait_for_gateway(self, child: Child, model: str) -> None:
        """Until the gateway lists `model`."""

        def is_listed() -> bool:
            child.expect_alive()
            try:
                return model in call(f"http://127.0.0.1:{self.ports['8080']}/v1/models", timeout=2).body.decode()
            except OSError:
                return False

        try:
            wait_until(f"{model} in /v1/models", is_listed)
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{child.log[-4000:]}") from None


def test_every_example_of_the_readme_works(tmp_path: Path) -> None:
    readme = Readme(tmp_path)
    with ExitStack() as stack:
        servers = stack.enter_context(readme.background(readme.code("bash", "stellwerk sim")))
        wait_until(
            "the simulated servers", lambda: _answers(servers, f"http://127.0.0.1:{readme.ports['8002']}/health")
        )
        with readme.background(readme.code("bash", "--server http")) as running:
            readme.wait_for_gateway(running, "summary-v2")
            answers = readme.run(readme.code("bash", "/v1/chat/completions"))
            assert '"object":"list"' in answers.replace(" ", "")
            assert '"chat.completion"' in answers
            assert readme.run(readme.code("python", "openai"), "python").strip()
            about = readme.run(readme.code("bash", "/api/decisions"))
            assert "llm_d_epp_request_total" in about
        (tmp_path / "objects.yaml").write_text(readme.code("yaml", "kind: InferenceModel"))
        validate, run = readme.code("bash", "stellwerk validate").strip().splitlines()
        readme.run(validate)
        with readme.background(run) as running:
            readme.wait_for_gateway(running, '"summary"')


def _answers(child: Child, url: str) -> bool:
    child.expect_alive()
    try:
        return call(url, timeout=2).status == 200
    except OSError:
        return False


def test_every_block_of_the_readme_is_run_by_a_test(tmp_path: Path) -> None:
    """Those of kind `console` by test_on_cluster_first_pool."""
    kinds = [kind for kind, _ in Readme(tmp_path).blocks]
    assert kinds == ["bash", "bash", "bash", "bash", "python", "yaml", "bash", "console", "console", "bash"]
