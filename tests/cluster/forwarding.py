"""What a kubelet does for `kubectl port-forward`: connections to a pod's loopback, as streams of one connection."""

import select
import socket
from collections.abc import Callable

from tests.cluster.spdy import FIN, PING, RST_STREAM, SYN_STREAM, Connection, Frame

PROTOCOL = "portforward.k8s.io"
_PIECE = 64 * 1024


class Forwarding:
    """One `kubectl port-forward`. A connection is two streams with the same `requestid`: its bytes, and an error."""

    def __init__(self, client: socket.socket, dial: Callable[[int], socket.socket]) -> None:
        """`dial` connects to a port of the pod."""
        self._client, self._dial = client, dial
        self._connection = Connection()
        self._errors: dict[str, int] = {}
        """Streams for errors, by request."""
        self._requests: dict[int, str] = {}
        """By stream of bytes."""
        self._open: dict[int, socket.socket] = {}
        """By stream of bytes."""

    def run(self) -> None:
        """Until the client is gone."""
        try:
            while True:
                # What TLS has decrypted already, no descriptor tells of.
                waits = not getattr(self._client, "pending", lambda: 0)()
                ready, _, _ = select.select([self._client, *self._open.values()], [], [], None if waits else 0)
                for stream in [stream for stream, peer in self._open.items() if peer in ready]:
                    self._from_pod(stream)
                if self._client in ready or not waits:
                    data = self._client.recv(_PIECE)
                    if not data:
                        return
                    for frame in self._connection.received(data):
                        self._from_client(frame)
        except OSError:
            return
        finally:
            for peer in self._open.values():
                peer.close()

    def _from_client(self, frame: Frame) -> None:
        if frame.kind == PING:
            self._client.sendall(self._connection.pong(frame))
        elif frame.kind == SYN_STREAM:
            self._client.sendall(self._connection.reply(frame.stream))
            request = frame.headers.get("requestid", "")
            if frame.headers.get("streamtype") == "error":
                self._errors[request] = frame.stream
            else:
                self._requests[frame.stream] = request
                self._connect(frame.stream, int(frame.headers["port"]))
        elif frame.stream in self._open:
            peer = self._open[frame.stream]
            if frame.kind == RST_STREAM:
                self._end(frame.stream)
                return
            peer.sendall(frame.payload)
            if frame.flags & FIN:
                peer.shutdown(socket.SHUT_WR)

    def _connect(self, stream: int, port: int) -> None:
        try:
            self._open[stream] = self._dial(port)
        except OSError as problem:
            self._end(stream, f"error forwarding port {port} to pod: {problem}")

    def _from_pod(self, stream: int) -> None:
        try:
            data = self._open[stream].recv(_PIECE)
        except OSError:
            data = b""
        if data:
            self._client.sendall(self._connection.data(stream, data))
        else:
            self._end(stream)

    def _end(self, stream: int, error: str = "") -> None:
        """Both streams of a connection end; the client looks at the error first."""
        peer = self._open.pop(stream, None)
        if peer is not None:
            peer.close()
        of_error = self._errors.pop(self._requests.pop(stream), None)
        if of_error is not None:
            self._client.sendall(self._connection.data(of_error, error.encode(), is_last=True))
        self._client.sendall(self._connection.data(stream, b"", is_last=True))
