"""Envoy from outside: its files, its admin socket, its log, and whether it took what it was given.

Envoy watches files and keeps the last good state, so a bad update changes nothing and says so in a counter and a log
line; `EnvoyWatch` joins the two and reports them. Envoy itself runs under `edge.supervisor`.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp
import msgspec
from msgspec import Struct

from stellwerk.control.envoy.document import Document
from stellwerk.control.envoy.listener import LISTENER, STAT_PREFIX
from stellwerk.control.envoy.resources import CDS, LDS, Resources
from stellwerk.control.envoy.settings import RuntimePaths

_log = logging.getLogger("stellwerk.envoy")
_UPDATES = (
    rf"^({re.escape(LDS)}|{re.escape(CDS)}|http\.{re.escape(STAT_PREFIX)}\.rds\..+|sds\..+)"
    r"\.update_(rejected|failure|success)$"
)
_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


def command(
    binary: Path,
    paths: RuntimePaths,
    concurrency: int | None = None,
    log_level: str = "warning",
    drain_seconds: float = 30.0,
) -> tuple[str, ...]:
    """Envoy's command line. `concurrency` is its number of worker threads; None: `default_concurrency`.

    Hot restart is off: nothing is shared between two Envoys of one machine, and nothing is left in /dev/shm.
    """
    return (
        str(binary),
        "--config-path",
        paths.bootstrap,
        "--disable-hot-restart",
        "--concurrency",
        str(concurrency or default_concurrency(os.cpu_count())),
        "--drain-time-s",
        str(max(1, round(drain_seconds))),
        "--log-level",
        log_level,
        # misc: marks of unfinished API features; ext_proc: a line per request while the picker is away.
        "--component-log-level",
        "misc:error,ext_proc:error",
        "--log-format",
        "%l|%n|%v",
        "--log-format-escaped",
    )


def default_concurrency(cpus: int | None) -> int:
    """One picker is one core; two to four workers keep it busy, and more would only split connection pools."""
    return min(4, max(2, cpus or 2))


class EnvoyLog:
    """Envoy's output, line by line, told again in our log; remembers why updates were rejected."""

    def __init__(self) -> None:
        self._rejections: deque[str] = deque(maxlen=16)

    def __call__(self, line: str) -> None:
        level, _, rest = line.partition("|")
        component, _, text = rest.partition("|")
        if level not in _LEVELS or not text:
            _log.error("%s", line)
            return
        _log.log(_LEVELS[level], "%s", _one_line(text), extra={"fields": {"component": component}})
        found = re.match(r"Filesystem config update (?:rejected|failure): (.*)", text)
        if found:
            self._rejections.append(_one_line(found[1]))

    def take_rejection(self) -> str | None:
        """The newest reason since the last call."""
        newest = self._rejections[-1] if self._rejections else None
        self._rejections.clear()
        return newest


class EnvoyFiles:
    """Writes what changed, each file whole or not at all, in the order in which it is safe."""

    def __init__(self, paths: RuntimePaths) -> None:
        self._paths = paths
        self._written: dict[str, bytes] = {}

    def write(self, wanted: Resources) -> tuple[str, ...]:
        """The paths that were written. Raises OSError (disk full, directory gone); the next call tries again."""
        contents = [wanted.bootstrap, *wanted.files.items()]
        changed = tuple(path for path, document in contents if self._put(path, document))
        for entry in os.scandir(self._paths.watched):
            if entry.path not in wanted.files:
                os.unlink(entry.path)
                self._written.pop(entry.path, None)
        return changed

    def _put(self, path: str, document: Document) -> bool:
        content = msgspec.json.encode(document, order="deterministic")
        if self._written.get(path) is None:
            # Another process may have written it before us (the picker, before it was started again).
            with contextlib.suppress(FileNotFoundError):
                self._written[path] = Path(path).read_bytes()
        if self._written.get(path) == content:
            return False
        temporary = f"{path}.new"
        with open(temporary, "wb") as file:
            file.write(content)
        os.rename(temporary, path)
        self._written[path] = content
        return True


class EnvoyAdmin:
    """Envoy's admin interface over its Unix socket. Every call is bounded in time."""

    def __init__(self, socket_path: str, timeout_seconds: float = 2.0) -> None:
        self._socket_path = socket_path
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body. Raises OSError, TimeoutError or aiohttp.ClientError when Envoy is not there."""
        return await self._call("GET", path)

    async def post(self, path: str) -> tuple[int, bytes]:
        """Like `get`, for what changes Envoy's state."""
        return await self._call("POST", path)

    async def is_ready(self) -> bool:
        """Whether Envoy runs, has read its files and accepts connections."""
        try:
            return (await self.get("/ready"))[0] == 200
        except (OSError, TimeoutError, aiohttp.ClientError):
            return False

    async def stats(self, pattern: str) -> Mapping[str, int]:
        """Counters and gauges whose name matches the regular expression."""
        _, body = await self.get(f"/stats?format=json&type=All&filter={_quoted(pattern)}")
        rows = json.loads(body)["stats"]
        return {row["name"]: row["value"] for row in rows if isinstance(row.get("value"), int)}

    async def listen_port(self) -> int | None:
        """The port clients connect to, once the listener is there."""
        _, body = await self.get("/listeners?format=json")
        for status in json.loads(body).get("listener_statuses", ()):
            if status["name"] == LISTENER:
                return int(status["local_address"]["socket_address"]["port_value"])
        return None

    async def has_taken(self, wanted: Resources) -> bool:
        """Whether Envoy works with these files; False also when it is not there."""
        try:
            _, body = await self.get("/stats?format=json&type=TextReadouts&filter=version_text")
        except (OSError, TimeoutError, aiohttp.ClientError):
            return False
        found = {row["name"]: row["value"] for row in json.loads(body)["stats"] if "name" in row}
        return all(found.get(name) == version for name, version in wanted.versions.items())

    async def is_listening(self) -> bool:
        """Whether the listener is there: an Envoy that rejected it is live all the same."""
        try:
            return await self.listen_port() is not None
        except (OSError, TimeoutError, ValueError, KeyError, aiohttp.ClientError):
            return False

    async def active_requests(self) -> int:
        """Requests of clients that are being served."""
        stats = await self.stats(rf"^http\.{STAT_PREFIX}\.downstream_rq_active$")
        return sum(stats.values())

    async def close(self) -> None:
        """Closes what is open; the object may be used again."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(self, method: str, path: str) -> tuple[int, bytes]:
        if self._session is None:
            connector = aiohttp.UnixConnector(self._socket_path, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        url = f"http://envoy{path}"
        async with self._session.request(method, url, headers={"host": "envoy"}) as answer:
            return answer.status, await answer.read()


class Rejection(Struct, frozen=True):
    """An update that Envoy did not take: what it was for (Envoy's name of the subscription), and its own words."""

    subscription: str
    reason: str


class EnvoyWatch:
    """Polls Envoy's counters and calls `report` once for each subscription whose update was rejected, and `settle` when
    one that stood rejected is taken again.

    The report comes one look after the counter moved, since its log line comes another way.
    """

    def __init__(
        self,
        admin: EnvoyAdmin,
        log: EnvoyLog,
        report: Callable[[Rejection], None],
        settle: Callable[[str], None],
        interval_seconds: float = 1.0,
    ) -> None:
        self._admin = admin
        self._log = log
        self._report, self._settle = report, settle
        self._interval_seconds = interval_seconds
        self._seen: Mapping[str, int] = {}
        self._unexplained: set[str] = set()
        self._standing: set[str] = set()
        """Subscriptions whose newest update was rejected, as far as is known."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval_seconds)

    async def look(self) -> None:
        """One look. An Envoy that is not there is the supervisor's business."""
        try:
            now = await self._admin.stats(_UPDATES)
        except (OSError, TimeoutError, ValueError, aiohttp.ClientError):
            return
        for name in sorted(self._unexplained):
            self._report(Rejection(name, self._log.take_rejection() or "Envoy gave no reason"))
        # A restarted Envoy counts from zero.
        is_anew = any(now.get(name, 0) < count for name, count in self._seen.items())
        before = {} if is_anew else self._seen
        moved = [name.rpartition(".update_") for name, count in now.items() if count > before.get(name, 0)]
        taken = {subscription for subscription, _, what in moved if what == "success"}
        self._unexplained = {subscription for subscription, _, what in moved if what != "success"}
        for name in sorted((self._standing & taken) - self._unexplained):
            self._settle(name)
        self._standing = (self._standing - taken) | self._unexplained
        self._seen = now


async def drain(admin: EnvoyAdmin, seconds: float, poll_seconds: float = 0.05, notice_seconds: float = 0.0) -> bool:
    """Asks clients to close, stops accepting after `notice_seconds`, and waits until no request is left. False:
    `seconds` were not enough.

    The notice is for load balancers that still send new connections here. An Envoy that is gone is drained.
    """
    try:
        await admin.post("/healthcheck/fail")
        await asyncio.sleep(notice_seconds)
        await admin.post("/drain_listeners")
        async with asyncio.timeout(seconds):
            while await admin.active_requests():  # noqa: ASYNC110 - Envoy sends no event
                await asyncio.sleep(poll_seconds)
    except TimeoutError:
        return False
    except (OSError, aiohttp.ClientError):
        return True
    return True


def _one_line(text: str) -> str:
    """Escaped line ends and the indentation after them become single spaces."""
    return re.sub(r"(?:\\n|\s)+", " ", text).strip()


def _quoted(pattern: str) -> str:
    return pattern.replace("\\", "%5C").replace("+", "%2B").replace("|", "%7C").replace("^", "%5E").replace("$", "%24")
