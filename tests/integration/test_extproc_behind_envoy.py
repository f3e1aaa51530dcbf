"""The ext_proc service and the access log service behind real Envoy, with an engine that the test plays."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from stellwerk.config import Timeouts
from stellwerk.edge import accesslog, extproc
from stellwerk.edge.grpc.health import Health
from stellwerk.edge.grpc.server import GrpcServer
from stellwerk.model.event import Ask, Decided, Event, Finished, Released, Used, Withdrawn
from stellwerk.model.outcome import Picked
from tests.kit.data_plane import DataPlane, RecordingServer, catalog, data_plane, endpoint, model_servers, pool
from tests.kit.processes import call, wait_until

pytestmark = pytest.mark.integration

MESSAGE_SECONDS = 0.5
DECISION_SECONDS = 2.0


class PlayedPicker(threading.Thread):
    """Both services on a Unix socket. The prompt says how late the decision comes; `never` means never."""

    def __init__(self, path: str, port: int) -> None:
        super().__init__(daemon=True)
        self.told: list[Event] = []
        self._path = path
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()

    def run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self.join(10)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]

    async def _serve(self) -> None:
        timeouts = Timeouts(decision_seconds=DECISION_SECONDS)
        settings = extproc.ExtProcSettings(is_own_proxy=True, epoch="e", timeouts=timeouts)
        self._service = extproc.ExtProcService(self._receive, settings, time.monotonic)
        log = accesslog.AccessLogService("e", self.told.append)
        health = Health()
        health.set("envoy.service.ext_proc.v3.ExternalProcessor", True)
        server = GrpcServer({extproc.PATH: self._service, accesslog.PATH: log, **health.services()})
        await server.listen_unix(self._path)
        await self._ending.wait()
        self._service.close()
        await server.close()

    def _receive(self, event: Event, now: float) -> tuple[Decided, ...]:
        self.told.append(event)
        if not isinstance(event, Ask):
            return ()
        request = event.request
        one = endpoint(self._port)
        picked = Picked(pool("a"), (one,), one.address, request.model, "served" if request.model == "renamed" else None)
        decided = Decided(event.ticket, picked)
        delay = request.fairness_id or "0"
        if delay == "0":
            return (decided,)
        if delay != "never":
            self._loop.call_later(float(delay), self._service.dispatch, (decided,))
        return ()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DataPlane, PlayedPicker, RecordingServer]]:
    tmp_path = tmp_path_factory.mktemp("envoy")
    with model_servers(1) as servers:
        wanted = catalog(pool("a", servers[0].port), models={"m": "default/a"})
        trusts = {"trusted_sources": ("127.0.0.1/32",)}
        with data_plane(wanted, tmp_path, message_seconds=MESSAGE_SECONDS, **trusts) as plane:
            plane.expect_picker(is_healthy=False)
            picker = PlayedPicker(plane.settings.paths.picker_socket, servers[0].port)
            picker.start()
            try:
                plane.expect_picker(is_healthy=True)
                yield plane, picker, servers[0]
            finally:
                picker.end()


def chat(plane: DataPlane, delay: str = "0", model: str = "m") -> Any:
    body = json.dumps({"model": model, "messages": []}).encode()
    headers = {"x-llm-d-inference-fairness-id": delay, "content-type": "application/json"}
    return call(f"{plane.url}/v1/chat/completions", body, headers=headers)


Running = tuple[DataPlane, PlayedPicker, RecordingServer]


def test_a_decision_later_than_envoys_patience_still_counts(running: Running) -> None:
    plane, _, _ = running
    began = time.monotonic()
    answer = chat(plane, delay=str(2 * MESSAGE_SECONDS))
    assert answer.status == 200, answer
    assert answer.json()["served_by"]
    assert time.monotonic() - began >= 2 * MESSAGE_SECONDS


def test_a_decision_that_never_comes_is_our_504_and_not_envoys(running: Running) -> None:
    plane, picker, _ = running
    before = len(picker.of(Withdrawn))
    answer = chat(plane, delay="never")
    assert answer.status == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    assert len(picker.of(Withdrawn)) == before + 1


def test_a_client_that_leaves_while_it_waits_withdraws_its_question(running: Running) -> None:
    plane, picker, _ = running
    before = len(picker.of(Withdrawn))
    asked = len(picker.of(Ask))
    with socket.create_connection(("127.0.0.1", plane.port)) as client:
        body = b'{"model": "m", "messages": []}'
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-llm-d-inference-fairness-id: never\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )
        wait_until("the question", lambda: len(picker.of(Ask)) > asked)
    wait_until("its withdrawal", lambda: len(picker.of(Withdrawn)) > before, DECISION_SECONDS)


def test_the_access_log_tells_how_it_ended(running: Running) -> None:
    plane, picker, server = running
    assert chat(plane).status == 200
    ticket = picker.of(Ask)[-1].ticket
    finished = wait_until("the report", lambda: [one for one in picker.of(Finished) if one.ticket == ticket])
    (report,) = (one.report for one in finished)
    assert report.status == 200
    assert report.served == f"127.0.0.1:{server.port}"
    assert report.ttft_seconds is not None
    assert report.duration_seconds is not None
    assert 0 < report.ttft_seconds <= report.duration_seconds < 10
    assert report.request_bytes > 0
    assert report.flags == ""
    assert not report.is_stream
    assert [one.ticket for one in picker.of(Released)].count(ticket) == 1


def test_the_access_log_tells_a_stream_from_the_rest(running: Running) -> None:
    plane, picker, _ = running
    assert call(f"{plane.url}/stream").status == 200
    ticket = picker.of(Ask)[-1].ticket
    wait_until("the report", lambda: any(one.ticket == ticket and one.report.is_stream for one in picker.of(Finished)))


def test_a_renamed_body_and_hidden_headers_arrive_at_the_server(running: Running) -> None:
    plane, _, server = running
    assert chat(plane, model="renamed").status == 200
    seen = server.seen[-1]
    assert seen["bytes"] == len(json.dumps({"model": "served", "messages": []}))
    assert "x-llm-d-inference-fairness-id" not in seen["headers"]


def test_an_upgrade_is_answered_at_once(running: Running) -> None:
    plane, _, _ = running
    with socket.create_connection(("127.0.0.1", plane.port)) as client:
        client.settimeout(5.0)
        client.sendall(
            b"GET /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert int(client.recv(100).split()[1]) in (403, 501)


def test_nothing_stays_open(running: Running) -> None:
    _, picker, _ = running
    picked = {one.ticket for one in picker.of(Ask)} - {one.ticket for one in picker.of(Withdrawn)}
    wait_until("all to be released", lambda: {one.ticket for one in picker.of(Released)} == picked)
    assert not picker.of(Used)
