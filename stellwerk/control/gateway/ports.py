"""On which port of its pod a Gateway's listener listens: a process without privileges cannot have port 80."""

from collections.abc import Iterable

ADMIN_PORT = 19090
"""Health, metrics and views of a gateway pod."""
_SHIFT = 10_000


def container_ports(ports: Iterable[int], reserved: Iterable[int] = (ADMIN_PORT,)) -> dict[int, int]:
    """Listener port (1..65535) to port in the pod, which the Service maps back: itself from 1024 on, else shifted by
    10000, or as often as it takes to be free. Depends on the set of ports only; no two share one."""
    wanted = sorted(set(ports))
    taken = set(reserved)
    mapped: dict[int, int] = {}
    for port in sorted(wanted, key=lambda port: (port < 1024, port)):
        free = port if port >= 1024 else port + _SHIFT
        while free in taken:
            free = (free + _SHIFT - 1024) % (65536 - 1024) + 1024
        mapped[port] = free
        taken.add(free)
    return {port: mapped[port] for port in wanted}
