"""Ports for a demo run: the documented ones, unless somebody else has them."""

import socket


def choose(listen: int, admin: int, first_server: int, servers: int) -> tuple[int, int, int]:
    """`listen`, `admin` and the first of `servers` consecutive ports, each replaced by a free one when taken."""
    chosen_listen = listen if is_free(listen) else free_block(1)
    chosen_admin = admin if is_free(admin) else free_block(1)
    block = range(first_server, first_server + servers)
    return chosen_listen, chosen_admin, first_server if all(map(is_free, block)) else free_block(servers)


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_block(count: int) -> int:
    """The first of `count` consecutive free ports. Raises OSError when there is none to be found."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first: int = probe.getsockname()[1]
        if first + count < 65536 and all(map(is_free, range(first, first + count))):
            return first
    raise OSError(f"no {count} consecutive free ports on 127.0.0.1")
