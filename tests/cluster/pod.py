"""One pod: a network namespace with an address, its containers, and the status that the API server is told."""

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster import network
from tests.cluster.addresses import NODE_IP
from tests.cluster.api import Api, ApiError, Document
from tests.cluster.container import Container, Sandbox
from tests.cluster.images import Image, short_name
from tests.cluster.volumes import PodFiles, expanded

_STEP_SECONDS = 0.2
_SOURCES_AGAIN_SECONDS = 5.0
"""How soon a pod sees a changed Secret or ConfigMap; the real kubelet takes up to a minute or two."""
_UNKNOWN_IMAGE = Image(("sh", "-c", "echo the test cluster has no such image; exit 1", "unknown-image"))


def timestamp() -> str:
    """Now, as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Pod(threading.Thread):
    """Owns the pod's namespace and processes, from binding to deletion. `forget` is called when all is gone."""

    def __init__(
        self,
        api: Api,
        document: Document,
        address: str,
        directory: Path,
        images: dict[str, Image],
        forget: Callable[["Pod"], None],
    ) -> None:
        meta, spec = document["metadata"], document["spec"]
        super().__init__(daemon=True, name=f"{meta['namespace']}/{meta['name']}")
        self.uid: str = meta["uid"]
        self.address = address
        self.document = document
        self.deleted = threading.Event()
        self._api = api
        self._path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self._directory = directory / f"{meta['namespace']}_{meta['name']}_{self.uid}"
        self.network = f"pod-{address}"
        self._link = "v" + address.split(".", 2)[2]
        self._files = PodFiles(api, document, address)
        self._forget = forget
        self._started_at = timestamp()
        self._conditions: dict[str, dict[str, Any]] = {}
        self._sent = ""
        sandbox = Sandbox(self.network, address, self._directory, spec.get("securityContext", {}))
        self._containers = [
            Container(each, images.get(short_name(each["image"]), _UNKNOWN_IMAGE), sandbox)
            for each in spec["containers"]
        ]

    def run(self) -> None:
        """Until it is deleted. The one door: whatever breaks here is this pod's trouble alone."""
        try:
            if self.document["spec"].get("initContainers"):
                self._say("init containers are not run")
            network.add_pod(self.network, self._link, self.address)
            self._set_sysctls()
            self._directory.mkdir(parents=True)
            self._live()
        except Exception as problem:  # noqa: BLE001
            self._say(f"{problem!r}")
            self.deleted.wait()
        self._stop()

    def _live(self) -> None:
        written = 0.0
        while not self.deleted.wait(_STEP_SECONDS):
            if time.monotonic() - written > _SOURCES_AGAIN_SECONDS:
                is_laid_out = self._write_sources()
                written = time.monotonic() if is_laid_out or written else 0.0
            if written:
                self._step_all()
            self._report()

    def _write_sources(self) -> bool:
        try:
            self._files.write(self._directory / "volumes")
        except (ApiError, KeyError, OSError) as problem:
            self._say(f"volumes: {problem}")
            return False
        return True

    def _step_all(self) -> None:
        try:
            for container in self._containers:
                self._step(container)
        except (ApiError, KeyError, OSError) as problem:
            self._say(f"not started: {problem!r}")
            self.deleted.wait(1)

    def _step(self, container: Container) -> None:
        if container.is_running:
            container.check()
        elif container.should_start(self.document["spec"].get("restartPolicy", "Always")):
            if container.exit_status is not None:
                self._say(f"{container.name} ended with status {container.exit_status}; starting it again")
            spec = next(each for each in self.document["spec"]["containers"] if each["name"] == container.name)
            values = self._files.environment(spec)
            container.start(values, [expanded(each, values) for each in container.command()], timestamp())

    def _set_sysctls(self) -> None:
        """Those that a pod may set for its own network namespace."""
        for each in self.document["spec"].get("securityContext", {}).get("sysctls", []):
            command = ["ip", "netns", "exec", self.network, "sysctl", "-qw", f"{each['name']}={each['value']}"]
            network.run(command)

    def _report(self) -> None:
        """Tell the API server when something changed."""
        status = self._status()
        text = json.dumps(status)
        if text == self._sent:
            return
        try:
            self._api.merge(f"{self._path}/status", {"status": status})
            self._sent = text
        except (ApiError, OSError) as problem:
            if not isinstance(problem, ApiError) or problem.code != 404:
                self._say(f"status: {problem}")

    def _status(self) -> dict[str, Any]:
        is_ready = all(each.is_ready for each in self._containers)
        always = ("PodReadyToStartContainers", "Initialized", "PodScheduled")
        for kind in (*always, "ContainersReady", "Ready"):
            self._set_condition(kind, kind in always or is_ready)
        return {
            "phase": self._phase(),
            "hostIP": NODE_IP,
            "hostIPs": [{"ip": NODE_IP}],
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "startTime": self._started_at,
            "conditions": list(self._conditions.values()),
            "containerStatuses": [each.status() for each in self._containers],
        }

    def _phase(self) -> str:
        policy = self.document["spec"].get("restartPolicy", "Always")
        ended = [each.exit_status for each in self._containers]
        if policy != "Always" and all(each is not None for each in ended):
            if not any(ended):
                return "Succeeded"
            if policy == "Never":
                return "Failed"
        return "Running" if any(each.is_running for each in self._containers) or any(ended) else "Pending"

    def _set_condition(self, kind: str, value: bool) -> None:
        status = str(value)
        if self._conditions.get(kind, {}).get("status") == status:
            return
        self._conditions[kind] = {"type": kind, "status": status, "lastTransitionTime": timestamp()}
        self._conditions[kind] |= {} if value else {"reason": "ContainersNotReady"}

    def _stop(self) -> None:
        """Grace, then SIGKILL, then the object goes; as kubelet does. Logs stay."""
        grace = self.document["metadata"].get("deletionGracePeriodSeconds", 30)
        end = time.monotonic() + grace
        for container in self._containers:
            container.terminate()
        while any(each.is_running for each in self._containers) and time.monotonic() < end:
            time.sleep(_STEP_SECONDS / 2)
        for container in self._containers:
            container.kill()
        network.remove_pod(self.network, self._link)
        shutil.rmtree(self._directory / "root", ignore_errors=True)
        try:
            self._api.call("DELETE", self._path, {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}})
        except (ApiError, OSError):
            self._say("gone from the API server already")
        self._forget(self)

    def _say(self, text: str) -> None:
        sys.stderr.write(f"{self.name}: {text}\n")
