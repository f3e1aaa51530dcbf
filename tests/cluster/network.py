"""Network namespaces: the node's, entered by a thread of the tests, and one for every pod."""

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tests.cluster.addresses import EXTERNAL_NETWORK, NODE_IP, POD_GATEWAY_IP, SERVICE_NETWORK

_CLONE_NEWNET = 0x40000000
_CONNECT_SECONDS = 10.0
_libc = ctypes.CDLL(None, use_errno=True)


class NetworkError(Exception):
    """A tool said no."""


def configure(commands: str, namespace: str | None = None) -> None:
    """Feed commands to `ip -batch`, inside a named namespace or where we are. Raises NetworkError."""
    where = ["-n", namespace] if namespace else []
    run(["ip", *where, "-batch", "-"], commands)


def run(command: Sequence[str], text: str = "") -> None:
    """Run a tool with `text` as its input. Raises NetworkError."""
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(command)}: {done.stderr.strip()}\n{text}")


def set_up_node() -> None:
    """Addresses and routes of the node, in its own namespace.

    The bridge has no ports; it only holds the node's address and a route to the cluster addresses, so that packets
    get as far as the NAT rules. There is no default route: whatever leaves the cluster fails at once.
    """
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    configure(
        f"""link set lo up
        link add node0 type bridge
        addr add {NODE_IP}/24 dev node0
        link set node0 up
        route add {SERVICE_NETWORK} dev node0 src {NODE_IP}
        route add local {EXTERNAL_NETWORK} dev lo
        """
    )


def add_pod(namespace: str, link: str, address: str) -> None:
    """A namespace with one address. Routed, not bridged: all traffic passes the node's NAT rules in both directions."""
    configure(f"netns add {namespace}")
    configure(
        f"""link add {link} type veth peer name eth0 netns {namespace}
        addr add {POD_GATEWAY_IP}/32 dev {link}
        link set {link} up
        route add {address}/32 dev {link}
        """
    )
    configure(
        f"""link set lo up
        addr add {address}/32 dev eth0
        link set eth0 up
        route add {POD_GATEWAY_IP} dev eth0
        route add default via {POD_GATEWAY_IP}
        """,
        namespace,
    )


def remove_pod(namespace: str, link: str) -> None:
    """Undo `add_pod`, as far as it got."""
    for command in (f"link del {link}", f"netns del {namespace}"):
        with contextlib.suppress(NetworkError):
            configure(command)


def inside(pid: int, command: Sequence[str]) -> list[str]:
    """The command, run in the network namespace of a process."""
    return ["nsenter", f"--net=/proc/{pid}/ns/net", *command]


def dial(namespace: str, port: int) -> socket.socket:
    """A connection to a port of a pod's loopback; `namespace` is the name of its own. Raises OSError."""
    with _in(f"/run/netns/{namespace}"):
        return socket.create_connection(("127.0.0.1", port), timeout=_CONNECT_SECONDS)


def entered(pid: int) -> AbstractContextManager[None]:
    """Sockets that this thread opens in the block belong to the network namespace of a process, for good."""
    return _in(f"/proc/{pid}/ns/net")


@contextlib.contextmanager
def _in(path: str) -> Iterator[None]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(path, os.O_RDONLY)
        try:
            _enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(home)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")
