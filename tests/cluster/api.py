"""A small synchronous client of the Kubernetes API for tests, on the standard library alone.

It shares nothing with the client that is under test.
"""

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

Document = dict[str, Any]
_MERGE = "application/merge-patch+json"
_APPLY = "application/apply-patch+yaml"


class ApiError(Exception):
    """The server said no. `code` is the HTTP status."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text[:1000]}")
        self.code = code


class Api:
    """Calls to one server. `network` is entered wherever a connection is opened (see network.entered)."""

    def __init__(
        self,
        server: str,
        token: str,
        ca_file: Path,
        network: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._host = urlsplit(server).netloc
        self._token = token
        self._tls = ssl.create_default_context(cafile=str(ca_file))
        self._network = network
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    @classmethod
    def from_kubeconfig(cls, path: Path, network: Callable[[], AbstractContextManager[None]] = nullcontext) -> "Api":
        """From the file that the cluster writes: JSON, with a token."""
        config = json.loads(path.read_text())
        cluster = config["clusters"][0]["cluster"]
        token = config["users"][0]["user"]["token"]
        return cls(cluster["server"], token, Path(cluster["certificate-authority"]), network)

    def as_user(self, token: str) -> "Api":
        """The same server with another bearer token."""
        other = Api.__new__(Api)
        other.__dict__.update(self.__dict__, _token=token)
        return other

    @contextlib.contextmanager
    def _answer(
        self, method: str, path: str, body: str | None, content_type: str, timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(self._host, context=self._tls, timeout=timeout)
        with contextlib.closing(connection):
            with self._network():
                connection.connect()
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type}
            connection.request(method, path, body, headers)
            yield connection.getresponse()

    def call(
        self,
        method: str,
        path: str,
        body: Document | str | None = None,
        content_type: str = "application/json",
        timeout: float = 30.0,
    ) -> Any:
        """One call; the answer, decoded where it is JSON, else text. Raises ApiError, OSError."""
        text = json.dumps(body) if isinstance(body, dict) else body
        with self._answer(method, path, text, content_type, timeout) as answer:
            data = answer.read().decode(errors="replace")
            if answer.status >= 300:
                raise ApiError(answer.status, data)
            return json.loads(data) if data[:1] in ("{", "[") else data

    def get(self, path: str) -> Any:
        """GET."""
        return self.call("GET", path)

    def merge(self, path: str, change: Document) -> Any:
        """A JSON merge patch."""
        return self.call("PATCH", path, change, _MERGE)

    def path_of(self, api_version: str, kind: str, namespace: str | None = None, name: str | None = None) -> str:
        """Path of a kind's collection, or of one object. Raises ApiError when the server does not know the kind."""
        prefix = f"/api/{api_version}" if api_version == "v1" else f"/apis/{api_version}"
        if (api_version, kind) not in self._resources:
            for each in self.get(prefix)["resources"]:
                if "/" not in each["name"]:
                    self._resources[api_version, each["kind"]] = each["name"], each["namespaced"]
        if (api_version, kind) not in self._resources:
            raise ApiError(404, f"the server has no {kind} of {api_version}")
        plural, is_namespaced = self._resources[api_version, kind]
        parts = [prefix]
        if is_namespaced and (namespace or name):
            parts += ["namespaces", namespace or "default"]
        return "/".join([*parts, plural, *([quote(name)] if name else [])])

    def path_to(self, document: Mapping[str, Any]) -> str:
        """Path of an object by its own words."""
        meta = document["metadata"]
        return self.path_of(document["apiVersion"], document["kind"], meta.get("namespace"), meta["name"])

    def apply(self, document: Document, manager: str = "test") -> Document:
        """Server-side apply; wins conflicts."""
        path = f"{self.path_to(document)}?fieldManager={manager}&force=true"
        applied: Document = self.call("PATCH", path, document, _APPLY)
        return applied

    def delete(self, document: Mapping[str, Any], **options: Any) -> None:
        """Gone already is fine."""
        try:
            self.call("DELETE", self.path_to(document), options or None)
        except ApiError as problem:
            if problem.code != 404:
                raise

    def watch(self, path: str, on_change: Callable[[str, Any], None]) -> None:
        """List, then watch, for ever.

        `on_change` gets SYNC with all objects, then ADDED, MODIFIED or DELETED with one.
        """
        while True:
            try:
                listing = self.get(path)
                on_change("SYNC", listing["items"])
                version = listing["metadata"]["resourceVersion"]
                while True:
                    version = self._watch_once(path, version, on_change)
            except (OSError, ApiError, http.client.HTTPException, ValueError):
                time.sleep(0.5)

    def _watch_once(self, path: str, version: str, on_change: Callable[[str, Any], None]) -> str:
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion={version}"
        with self._answer("GET", f"{path}?{query}", None, "application/json", 330) as answer:
            if answer.status != 200:
                raise ApiError(answer.status, "watch")
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 500), "watch")
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    on_change(event["type"], event["object"])
        return version


class Cache:
    """The present objects of one kind, kept by a thread; `wake` is called after every change."""

    def __init__(self, api: Api, path: str, wake: Callable[[], None]) -> None:
        self._objects: dict[tuple[str, str], Document] = {}
        self._wake = wake
        self._lock = threading.Lock()
        threading.Thread(target=api.watch, args=(path, self._on_change), daemon=True, name=f"watch {path}").start()

    def _on_change(self, event: str, found: Any) -> None:
        with self._lock:
            if event == "SYNC":
                self._objects = {_key(each): each for each in found}
            elif event == "DELETED":
                self._objects.pop(_key(found), None)
            else:
                self._objects[_key(found)] = found
        self._wake()

    def all(self) -> list[Document]:
        """A copy of the list."""
        with self._lock:
            return list(self._objects.values())


def _key(document: Document) -> tuple[str, str]:
    return document["metadata"].get("namespace", ""), document["metadata"]["name"]
