"""Servers and adapters that come after the gateway: what clients are told meanwhile, and how soon they are served."""

import pytest

from tests.kit.processes import Answer, Gateway, call, free_port, gateway, simulated_servers, stellwerk, wait_until

pytestmark = pytest.mark.integration


def ask(running: Gateway, model: str) -> Answer:
    body = {"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "x"}]}
    return call(f"{running.url}/v1/chat/completions", body)


def test_before_its_first_server_is_up_a_gateway_says_try_again() -> None:
    port = free_port()
    with gateway("--server", f"http://localhost:{port}", is_ready=False) as running:
        wait_until("the gateway", lambda: "ready for requests" in running.child.log)
        early = ask(running, "tiny")
        assert early.status == 503
        assert early.json()["error"]["code"] == "no_endpoints"
        assert early.headers["retry-after"]
        with stellwerk("sim", "--port", str(port), "--speed", "instant"):
            wait_until("the server to be found", lambda: ask(running, "tiny").status == 200)
            assert ask(running, "other").status == 404


def test_an_adapter_is_served_soon_after_it_was_asked_for_and_loaded() -> None:
    with (
        simulated_servers(2, "--speed", "instant", "--max-loras", "4") as sim,
        gateway("--server", sim.urls[0], "--server", sim.urls[1]) as running,
    ):
        assert ask(running, "sql").status == 404
        assert call(f"{sim.urls[1]}/v1/load_lora_adapter", {"lora_name": "sql", "lora_path": "/x"}).status == 200
        wait_until("the adapter", lambda: ask(running, "sql").status == 200, seconds=6)
        holder = sim.urls[1].removeprefix("http://")
        assert {ask(running, "sql").headers["x-sim-server"] for _ in range(10)} == {holder}
        assert b'"sql"' in call(f"{running.url}/v1/models").body
