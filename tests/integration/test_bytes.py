"""Bodies arrive byte for byte, at every size, and a rewritten name changes only its own bytes."""

import contextlib
import hashlib
import http.client
import json
from collections.abc import Iterator

import pytest

from tests.kit.objects import canary, pool, servers_of
from tests.kit.processes import Gateway, call, gateway, simulated_servers

pytestmark = pytest.mark.integration

LIMIT = 16 * 1024 * 1024
SIZES = [0, 1, 100, 16_383, 16_384, 16_385, 32_768, 65_535, 65_536, 65_537, 131_072, 1_048_575, 1_048_577, 4_194_304]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("objects")
    with simulated_servers(
        2, "--model", "base", "--speed", "instant", "--max-model-len", "10000000", "--num-blocks", "200000"
    ) as sim:
        objects = [*servers_of(sim.ports), pool(), canary("public-name", {"base": 1})]
        (directory / "objects.yaml").write_text("\n---\n".join(objects))
        with gateway("-f", str(directory)) as running:
            yield running


def body_of(model: str, padding: int) -> bytes:
    """A chat whose text is not what a JSON library would write: odd spacing, escapes, big integers, key order."""
    unit = "äöü€ \\n\\t"
    text = unit * (padding // len(unit.encode())) + "x" * (padding % len(unit.encode()))
    head = f'{{ "seed":123456789012345678901234,\t"temperature" : 1.0, "model":"{model}" ,"max_tokens":1,'
    return f'{head}"messages":[{{"role":"user","content":"{text}"}}]}}'.encode()


@pytest.mark.parametrize("size", [*SIZES, LIMIT - 4096])
def test_an_unmodified_body_arrives_byte_for_byte(running: Gateway, size: int) -> None:
    body = body_of("base", size)
    answer = call(f"{running.url}/v1/chat/completions", body)
    assert answer.status == 200, answer.body[:500]
    assert answer.headers["x-sim-body-sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("size", SIZES)
def test_a_rewritten_name_changes_only_its_own_bytes(running: Gateway, size: int) -> None:
    body = body_of("public-name", size)
    answer = call(f"{running.url}/v1/chat/completions", body)
    assert answer.status == 200, answer.body[:500]
    assert answer.headers["x-sim-body-sha256"] == hashlib.sha256(body_of("base", size)).hexdigest()
    assert json.loads(answer.body)["model"] == "public-name"


def test_a_body_over_the_limit_is_413_and_names_the_limit(running: Gateway) -> None:
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=30)
    try:
        connection.putrequest("POST", "/v1/chat/completions")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", str(LIMIT + 1))
        # Envoy answers and closes while the rest is still on its way.
        with contextlib.suppress(OSError):
            connection.endheaders(b" " * (LIMIT + 1))
        response = connection.getresponse()
        assert response.status == 413
        assert str(LIMIT) in json.loads(response.read())["error"]["message"]
    finally:
        connection.close()
