"""One container: a local process in its pod's network namespace, with a process namespace and a root of its own.

The root is an overlay of this machine's, so an image is just a command here. What a pod asks for its safety is done:
user and group, dropped capabilities, no new privileges, a read-only root.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.cluster import logs
from tests.cluster.images import Image
from tests.cluster.probes import passes
from tests.cluster.toolchain import ROOT, cluster_folders

_PROBE_SECONDS_UNTIL_READY = 0.3
"""Faster than asked, and without the initial delay: tests wait for readiness."""
_MOST_RESTART_PAUSE_SECONDS = 60.0


class Sandbox(NamedTuple):
    """What a container gets of its pod."""

    network: str
    """Name of the network namespace."""
    address: str
    directory: Path
    """For its root, volumes and logs."""
    security: Mapping[str, Any]
    """The pod's securityContext."""


class Container:
    """Owns one process, and says what kubelet would say of it."""

    def __init__(self, spec: Mapping[str, Any], image: Image, sandbox: Sandbox) -> None:
        self.name: str = spec["name"]
        self._spec = spec
        self._image = image
        self._sandbox = sandbox
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = 0
        self._started_at = ""
        self._last_exit: int | None = None
        self.is_ready = False
        self._failures = {"readinessProbe": 0, "livenessProbe": 0}
        self._not_before = 0.0
        self._next_probe = {"readinessProbe": 0.0, "livenessProbe": 0.0}

    @property
    def is_running(self) -> bool:
        """Its process has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """Of the last process, when none runs."""
        return None if self.is_running else self._last_exit

    # -- process

    def start(self, environment: Mapping[str, str], arguments: Sequence[str], now: str) -> None:
        """Run the command; `arguments` are those of the pod's spec, or the image's command with the spec's."""
        folder = self._sandbox.directory / "root" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        argv = [
            *("nsenter", f"--net=/run/netns/{self._sandbox.network}"),
            *("unshare", "--mount", "--propagation", "private", "--uts", "--pid", "--fork", "--kill-child=KILL"),
            *("sh", "-ec", self._script(folder), self.name, *arguments),
        ]
        self._process = subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        logs.keep(self._process.stdout, self._sandbox.directory / f"{self.name}.log")
        self._started_at = now
        alive_after = self._spec.get("livenessProbe", {}).get("initialDelaySeconds", 0)
        self._next_probe = {"readinessProbe": 0.0, "livenessProbe": time.monotonic() + alive_after}
        self._failures = dict.fromkeys(self._failures, 0)

    def command(self) -> list[str]:
        """As kubelet composes it: `command` replaces the image's, `args` follow."""
        return [*(self._spec.get("command") or self._image.command), *self._spec.get("args", [])]

    def _script(self, folder: Path) -> str:
        """Shell that mounts the root and enters it. It runs in the container's own mount and process namespaces."""
        root = folder / "root"
        lines = [
            f"mount -t tmpfs tmpfs {folder}",
            f"mkdir {folder}/upper {folder}/work {root}",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={folder}/upper,workdir={folder}/work {root}",
            f"mount -t tmpfs tmpfs {root}/run",
            f"mount -t proc proc {root}/proc",
            'echo "$HOSTNAME" > /proc/sys/kernel/hostname',
        ]
        tops = (each for each in sorted(os.listdir("/")) if each not in ("run", "proc"))
        lines += [f"mount --rbind /{each} {root}/{each}" for each in tops if os.path.ismount(f"/{each}")]
        for path in _needed_folders():
            if path.stat().st_dev != os.stat("/").st_dev:
                lines.append(f"mkdir -p {root}{path}; mount --rbind {path} {root}{path}")
            lines += [f"chmod a+rx {root}{each}" for each in (path, *path.parents) if not _is_open(each)]
        lines += [line for mount in self._spec.get("volumeMounts", []) for line in self._mount(root, mount)]
        lines += [f"mkdir -p {root}{path}; mount --rbind {path} {root}{path}" for path in self._hidden()]
        security = {**self._sandbox.security, **self._spec.get("securityContext", {})}
        if security.get("readOnlyRootFilesystem"):
            lines += [f"mount -o remount,ro {root}/run", f"mount -o remount,ro {root}"]
        home = shlex.quote(self._spec.get("workingDir", "/"))
        lines.append(f'exec chroot {root} env -C {home} {" ".join(self._privileges(security))} "$@"')
        return "\n".join(lines)

    def _hidden(self) -> list[Path]:
        """Folders that are needed and that a volume lies over: a checkout below /tmp, say."""
        volumes = [Path(mount["mountPath"]) for mount in self._spec.get("volumeMounts", [])]
        return [path for path in _needed_folders() if any(path.is_relative_to(each) for each in volumes)]

    def _mount(self, root: Path, mount: Mapping[str, Any]) -> list[str]:
        source = self._sandbox.directory / "volumes" / mount["name"] / mount.get("subPath", "")
        target = shlex.quote(f"{root}{os.path.realpath(mount['mountPath'])}")
        make = f"mkdir -p {target}" if source.is_dir() else f'mkdir -p "$(dirname {target})"; touch {target}'
        lines = [make, f"mount --bind {shlex.quote(str(source))} {target}"]
        if mount.get("readOnly"):
            lines.append(f"mount -o remount,bind,ro {target}")
        return lines

    def _privileges(self, security: Mapping[str, Any]) -> list[str]:
        user = security.get("runAsUser", self._image.user)
        if security.get("runAsNonRoot") and user == 0:
            return ["sh", "-c", "'echo the pod must not run as root, and its image would; exit 1'"]
        words = ["setpriv", f"--reuid={user}", f"--regid={security.get('runAsGroup', user)}", "--clear-groups"]
        capabilities = security.get("capabilities", {})
        if "ALL" in capabilities.get("drop", []):
            kept = [f"+{name.lower()}" for name in capabilities.get("add", [])]
            words += ["--inh-caps=-all", f"--bounding-set={','.join(['-all', *kept])}"]
        if security.get("allowPrivilegeEscalation") is False:
            words.append("--no-new-privs")
        return [*words, "--"]

    def terminate(self) -> None:
        """SIGTERM to its first process."""
        if self._process is not None and self.is_running:
            with contextlib.suppress(OSError, ProcessLookupError):
                children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
                for child in children.split():
                    os.kill(int(child), signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to all its processes: the kernel empties a process namespace whose first process ends."""
        if self._process is not None and self.is_running:
            self._process.kill()
            self._process.wait()

    # -- what kubelet does with it

    def should_start(self, restart_policy: str) -> bool:
        """Whether to start it now: never started, or ended and its pause is over."""
        if self._process is None:
            return True
        now = time.monotonic()
        if self._not_before == 0.0:
            self._last_exit, self.is_ready = self._process.returncode, False
            pause = min(10.0 * 2.0 ** min(self._restarts, 8), _MOST_RESTART_PAUSE_SECONDS) if self._restarts else 0.5
            self._not_before = now + pause
        if restart_policy == "Never" or (restart_policy == "OnFailure" and self._last_exit == 0):
            return False
        if now < self._not_before:
            return False
        self._restarts += 1
        self._not_before = 0.0
        return True

    def check(self) -> None:
        """Probe it, when it is time to."""
        self.is_ready = self._probed("readinessProbe", self.is_ready, _PROBE_SECONDS_UNTIL_READY)
        if not self._probed("livenessProbe", True, None):
            sys.stderr.write(f"{self.name}: liveness probe failed: restarting it\n")
            self.terminate()
            self.kill()

    def _probed(self, kind: str, present: bool, seconds_until_true: float | None) -> bool:
        """The new state: changes to True with one success, to False with `failureThreshold` failures in a row."""
        probe = self._spec.get(kind)
        if time.monotonic() < self._next_probe[kind]:
            return present
        state = self._after_probe(kind, probe, present)
        period = float((probe or {}).get("periodSeconds", 10))
        self._next_probe[kind] = time.monotonic() + (period if state else seconds_until_true or period)
        return state

    def _after_probe(self, kind: str, probe: Mapping[str, Any] | None, present: bool) -> bool:
        ports = {each["name"]: each["containerPort"] for each in self._spec.get("ports", []) if "name" in each}
        if probe is None or passes(probe, self._sandbox.address, ports):
            self._failures[kind] = 0
            return True
        self._failures[kind] += 1
        return present and self._failures[kind] < probe.get("failureThreshold", 3)

    def status(self) -> dict[str, Any]:
        """Its entry in the pod's status."""
        image = self._spec["image"]
        if self.is_running:
            state: dict[str, Any] = {"running": {"startedAt": self._started_at}}
        elif self._last_exit is not None:
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": f"exit status {self._last_exit}"}}
        else:
            state = {"waiting": {"reason": "ContainerCreating"}}
        return {
            "name": self.name,
            "image": image,
            "imageID": image,
            "ready": self.is_ready,
            "started": self.is_running,
            "restartCount": self._restarts,
            "containerID": f"process://{self._process.pid}" if self._process else "",
            "state": state,
        }


def _needed_folders() -> list[Path]:
    """Folders that every container may read: this checkout, its Python, the built programs."""
    folders = (ROOT, Path(sys.prefix), Path(sys.base_prefix), *cluster_folders())
    return list(dict.fromkeys(each.resolve() for each in folders))


def _is_open(folder: Path) -> bool:
    """Whether users other than root may pass."""
    return folder.stat().st_mode & 0o005 == 0o005
