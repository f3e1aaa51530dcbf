"""Probes of containers: HTTP, TCP and gRPC health. Exec probes are not run; they count as passed."""

import contextlib
import http.client
import socket
import ssl
import struct
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

_HEADERS, _DATA, _SETTINGS, _GOAWAY = 1, 0, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
_SERVING = b"\x08\x01"


def passes(probe: Mapping[str, Any], address: str, ports: Mapping[str, int]) -> bool:
    """Ask once. `ports` resolves named ports."""
    timeout = float(probe.get("timeoutSeconds", 1))
    with contextlib.suppress(OSError, urllib.error.URLError, http.client.HTTPException):
        if "httpGet" in probe:
            return _http(probe["httpGet"], address, ports, timeout)
        if "grpc" in probe:
            return grpc_is_serving(address, probe["grpc"]["port"], probe["grpc"].get("service") or "", timeout)
        if "tcpSocket" in probe:
            socket.create_connection((address, _port(probe["tcpSocket"]["port"], ports)), timeout).close()
        return True
    return False


def _port(port: int | str, ports: Mapping[str, int]) -> int:
    return port if isinstance(port, int) else ports[port]


def _http(ask: Mapping[str, Any], address: str, ports: Mapping[str, int], timeout: float) -> bool:
    scheme = ask.get("scheme", "HTTP").lower()
    url = f"{scheme}://{ask.get('host') or address}:{_port(ask['port'], ports)}{ask.get('path', '/')}"
    context = ssl._create_unverified_context() if scheme == "https" else None
    with urllib.request.urlopen(url, timeout=timeout, context=context) as answer:
        return bool(answer.status < 400)


def grpc_is_serving(address: str, port: int, service: str, timeout: float) -> bool:
    """grpc.health.v1.Health/Check over a bare HTTP/2 connection. Raises OSError."""
    message = b"\x0a" + bytes([len(service)]) + service.encode() if service else b""
    headers = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", address),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
    with socket.create_connection((address, port), timeout) as connection:
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, b"")
            + _frame(_HEADERS, _END_HEADERS, 1, b"".join(_field(*each) for each in headers))
            + _frame(_DATA, _END_STREAM, 1, b"\0" + struct.pack(">I", len(message)) + message)
        )
        with connection.makefile("rb") as stream:
            while head := stream.read(9):
                payload = stream.read(int.from_bytes(head[:3], "big"))
                kind, flags = head[3], head[4]
                if kind == _DATA and payload:
                    return payload[5:] == _SERVING
                if kind == _GOAWAY or (kind == _HEADERS and flags & _END_STREAM):
                    return False
    return False


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _field(name: str, value: str) -> bytes:
    """HPACK: literal, not indexed, not Huffman coded."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
