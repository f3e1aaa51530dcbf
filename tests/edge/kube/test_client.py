"""Requests: what succeeds, and every way in which one does not."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stellwerk.control.kube.resource import DEPLOYMENTS, NAMESPACES, PODS
from stellwerk.edge.kube.access import Access, Secret
from stellwerk.edge.kube.client import ClientLimits, KubeClient
from stellwerk.edge.kube.errors import ApiError, error_of
from tests.kit.kube_api import kube_api, pod
from tests.kit.loop import on_loop


def test_paths() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("a", "b", "status") == "/api/v1/namespaces/a/pods/b/status"
    assert DEPLOYMENTS.path("a") == "/apis/apps/v1/namespaces/a/deployments"
    assert NAMESPACES.path("ignored", "b") == "/api/v1/namespaces/b"
    assert PODS.path("../x", "a/b") == "/api/v1/namespaces/..%2Fx/pods/a%2Fb"


@on_loop
async def test_objects_are_made_read_changed_and_removed() -> None:
    async with kube_api() as api:
        client = api.client()
        made = await client.create(PODS, pod("a"))
        assert (await client.get(PODS, "a", "default"))["metadata"]["uid"] == made["metadata"]["uid"]
        changed = await client.patch(PODS, "a", {"metadata": {"labels": {"x": "y", "app": None}}}, "default")
        assert changed["metadata"]["labels"] == {"x": "y"}
        with pytest.raises(ApiError) as caught:
            await client.replace(PODS, made)
        assert caught.value.is_conflict
        await client.replace(PODS, changed)
        with pytest.raises(ApiError) as caught:
            await client.create(PODS, pod("a"))
        assert caught.value.reason == "AlreadyExists"
        for number in range(5):
            await client.create(PODS, pod(f"p{number}"))
        listed = await client.list(PODS, "default", page_size=2)
        assert len(listed.items) == 6
        assert {item["kind"] for item in listed.items} == {"Pod"}
        await client.delete(PODS, "a", "default")
        with pytest.raises(ApiError) as caught:
            await client.get(PODS, "a", "default")
        assert caught.value.is_not_found
        await client.close()


@on_loop
async def test_a_token_that_was_renewed_is_read_again_when_the_old_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    async with kube_api() as api:
        client = KubeClient(Access(api.url, token=Secret(str(file))))
        api.wanted_token = "old"
        await client.list(PODS)
        file.write_text("renewed")
        api.wanted_token = "renewed"
        await client.list(PODS)
        api.wanted_token = "another"
        with pytest.raises(ApiError, match="401 Unauthorized"):
            await client.list(PODS)
        assert len(api.requests) == 5
        await client.close()


@asynccontextmanager
async def answering(answer: bytes, ends: bool = True) -> AsyncIterator[str]:
    """A server that says these bytes, whatever is asked, and then ends or waits. Its URL."""
    open_ones: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            if not ends:
                await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        open_ones.add(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*open_ones)
        await server.wait_closed()


def chunked(*pieces: bytes) -> bytes:
    """An answer in chunks, without the last."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body


def sized(body: bytes, status: str = "200 OK") -> bytes:
    """An answer whose size is told."""
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "ends", "reason"),
    [
        (b"", True, "Unreachable"),
        (b"nonsense\r\n\r\n", True, "Unreachable"),
        (sized(b"[1]"), True, "Malformed"),
        (sized(b"{"), True, "Malformed"),
        (sized(b"[" * 3_000), True, "Malformed"),
        (sized(b"{}")[:-1], True, "Unreachable"),
        (chunked(b'{"a":', b'"' + b"x" * 5000), False, "TooLarge"),
        (chunked(b'{"a":'), False, "Timeout"),
        (sized(b"<html>bad gateway", "502 Bad Gateway"), True, "Failed"),
        (sized(b"", "302 Found"), True, "Failed"),
    ],
)
def test_an_answer_that_is_none_is_an_error(answer: bytes, ends: bool, reason: str) -> None:
    @on_loop
    async def ask() -> None:
        async with answering(answer, ends) as url:
            client = KubeClient(Access(url), ClientLimits(answer_seconds=0.3, max_answer_bytes=4096))
            with pytest.raises(ApiError) as caught:
                await client.get(PODS, "a", "default")
            await client.close()
        assert caught.value.reason == reason
        assert len(str(caught.value)) < 500

    ask()


@on_loop
async def test_nobody_listening_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = KubeClient(Access(f"http://127.0.0.1:{taken.getsockname()[1]}"))
        with pytest.raises(ApiError) as caught:
            await client.list(PODS)
        assert caught.value.is_unanswered
        await client.close()


EVENT = b'{"type":"ADDED","object":{"metadata":{"name":"a"}}}\n'


@pytest.mark.parametrize(
    ("pieces", "events", "reason"),
    [
        ((EVENT, EVENT[:10], EVENT[10:]), 2, "Unreachable"),
        ((EVENT + EVENT + b"\n\n", b"x" * 5000), 2, "TooLarge"),
        ((EVENT + b"{}\n" + EVENT,), 1, "Malformed"),
        ((EVENT + b'{"type":"ERROR","object":{"code":410,"reason":"Expired"}}\n' + EVENT,), 1, "Expired"),
        ((b"[" * 3000 + b"\n",), 0, "Malformed"),
    ],
)
def test_the_events_before_a_break_are_given_first(pieces: tuple[bytes, ...], events: int, reason: str) -> None:
    @on_loop
    async def ask() -> None:
        got = 0
        async with answering(chunked(*pieces)) as url:
            client = KubeClient(Access(url), ClientLimits(max_line_bytes=4096))
            with pytest.raises(ApiError) as caught:  # noqa: PT012 - the stream is the statement
                async with client.watch(PODS) as stream:
                    while (some := await stream.events()) is not None:
                        got += len(some)
            await client.close()
        assert (got, caught.value.reason) == (events, reason)

    ask()


def test_an_error_carries_the_servers_words_and_wish() -> None:
    error = error_of(429, b'{"kind":"Status","reason":"TooManyRequests","message":"slow\\ndown"}', "7")
    assert str(error) == "429 TooManyRequests: slow\\ndown"
    assert error.retry_after_seconds == 7.0
    assert error_of(500, b"\xff" * 1000).status == 500
    assert error_of(429, b"{}", "soon").retry_after_seconds is None
    assert error_of(503, b'{"details":{"retryAfterSeconds":9999}}').retry_after_seconds == 60.0
