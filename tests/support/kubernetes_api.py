"""As much of the Kubernetes API as kubectl needs to apply, patch, wait for, log and delete: a cluster of objects in
memory.

Whatever is applied is ready at once. The log of every pod is a file.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.json_patch import PatchRefused, json_patched, merged

Object = dict[str, Any]

# What is served, by group and version: plural names with their kinds.
RESOURCES = {
    "v1": {"services": "Service", "pods": "Pod"},
    "apps/v1": {"deployments": "Deployment"},
    "batch/v1": {"cronjobs": "CronJob"},
    "machinelearning.seldon.io/v1": {"seldondeployments": "SeldonDeployment"},
    "serving.knative.dev/v1": {"services": "Service"},
    "eventing.knative.dev/v1": {"brokers": "Broker", "triggers": "Trigger"},
    "serving.kserve.io/v1beta1": {"inferenceservices": "InferenceService"},
}
# What a controller would write once an object is ready.
STATUS = {
    "state": "Available",
    "conditions": [{"type": name, "status": "True"} for name in ("Available", "Ready")],
    "observedGeneration": 1,
}
SHORT_NAMES = {"serving.knative.dev/v1": ["ksvc"]}
NAMESPACED = re.compile(
    r"/apis?/(?P<version>.+)/namespaces/(?P<namespace>[^/]+)/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?"
)


def _root(version: str) -> str:
    return f"/{'apis' if '/' in version else 'api'}/{version}"


def _resources(version: str) -> list[Object]:
    verbs = ["create", "delete", "get", "list", "patch", "watch"]
    return [
        {
            "name": plural,
            "singularName": kind.lower(),
            "kind": kind,
            "namespaced": True,
            "verbs": verbs,
            "shortNames": SHORT_NAMES.get(version, []),
        }
        for plural, kind in RESOURCES[version].items()
    ]


def _validates(version: str) -> Object:
    """The description of a version that tells kubectl that fields are checked on the server."""
    group, _, number = version.rpartition("/")
    takes = {"parameters": [{"name": "fieldValidation", "in": "query"}]}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "1"},
        "paths": {
            f"{_root(version)}/namespaces/{{namespace}}/{plural}/{{name}}": {
                "patch": {
                    **takes,
                    "x-kubernetes-group-version-kind": {"group": group, "kind": kind, "version": number},
                }
            }
            for plural, kind in RESOURCES[version].items()
        },
    }


def _discovery() -> dict[str, Object]:
    """What kubectl asks for to learn which kinds there are, by path."""
    groups = [version.split("/") for version in RESOURCES if "/" in version]
    found: dict[str, Object] = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {
                    "name": group,
                    "versions": [{"groupVersion": f"{group}/{version}", "version": version}],
                    "preferredVersion": {"groupVersion": f"{group}/{version}", "version": version},
                }
                for group, version in groups
            ],
        },
        "/openapi/v3": {
            "paths": {
                _root(version)[1:]: {"serverRelativeURL": f"/openapi/v3{_root(version)}"} for version in RESOURCES
            }
        },
    }
    for version in RESOURCES:
        found[_root(version)] = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": version,
            "resources": _resources(version),
        }
        found[f"/openapi/v3{_root(version)}"] = _validates(version)
    return found


class Cluster:
    """The objects by path, and what was done with them in order: verb, kind and name."""

    def __init__(self, logs: Path) -> None:
        self.objects: dict[str, Object] = {}
        self.done: list[str] = []
        self._logs = logs
        self._discovery = _discovery()

    def log(self) -> str:
        """What the pods have logged."""
        return "".join(path.read_text() for path in self._logs.glob("metrics-server-*.log"))

    def pods(self, selector: str) -> list[Object]:
        """One pod for each selector that anybody asks for."""
        name, _, value = selector.partition("=")
        metadata = {"name": "server-0", "namespace": "seldon", "labels": {name: value}}
        spec = {"containers": [{"name": "server", "image": "server"}]}
        return [{"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": {"phase": "Running"}}]

    def get(self, path: str, query: Mapping[str, list[str]]) -> Object | str | None:
        """What stands at a path: discovery, a log, an object, or a list of them."""
        if path in self._discovery:
            return self._discovery[path]
        if path.endswith("/log"):
            self.done.append("log")
            return self.log()
        found = NAMESPACED.fullmatch(path)
        if found is None or path in self.objects:
            return self.objects.get(path)
        return None if found["name"] else self._list(path, found["version"], found["plural"], query)

    def _list(self, path: str, version: str, plural: str, query: Mapping[str, list[str]]) -> Object:
        if plural == "pods":
            items = self.pods(query["labelSelector"][0])
        else:
            wanted = query.get("fieldSelector", ["="])[0].partition("=")[2]
            items = [
                found for at, found in self.objects.items() if at.startswith(f"{path}/") and at.endswith(f"/{wanted}")
            ]
        kind = f"{RESOURCES[version][plural]}List"
        return {"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items}

    def create(self, path: str, found: Object) -> Object:
        """Makes an object that is ready at once."""
        metadata = {**found["metadata"], "uid": f"uid-{len(self.done)}", "resourceVersion": "1", "generation": 1}
        created = self.objects[f"{path}/{metadata['name']}"] = {**found, "metadata": metadata, "status": STATUS}
        self.done.append(f"create {found['kind']}/{metadata['name']}")
        return created

    def patch(self, path: str, patch: Any, kind: str) -> Object | None:
        """Applies a patch of a kind of content; returns None where there is no such object.

        Raises:
            PatchRefused: it cannot be applied.
        """
        if path not in self.objects:
            return None
        apply = json_patched if kind == "application/json-patch+json" else merged
        patched: Object = apply(self.objects[path], patch)
        self.objects[path] = patched
        self.done.append(f"patch {patched['kind']}/{patched['metadata']['name']}")
        return patched

    def delete(self, path: str) -> Object | None:
        """Takes an object out."""
        found = self.objects.pop(path, None)
        if found is not None:
            self.done.append(f"delete {found['kind']}/{found['metadata']['name']}")
        return found


class _Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def handle(self) -> None:
        """Serves a connection, which kubectl drops as it likes."""
        with suppress(ConnectionResetError):
            super().handle()

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        self._answer(self.cluster.get(asked.path, parse_qs(asked.query)))

    def do_POST(self) -> None:
        self._answer(self.cluster.create(urlsplit(self.path).path, self._body()), 201)

    def do_PATCH(self) -> None:
        kind = self.headers["Content-Type"]
        try:
            self._answer(self.cluster.patch(urlsplit(self.path).path, self._body(), kind))
        except PatchRefused as error:
            refusal = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid"}
            self._answer({**refusal, "message": str(error), "code": 422}, 422)

    def do_DELETE(self) -> None:
        self._body()
        self._answer(self.cluster.delete(urlsplit(self.path).path))

    def _body(self) -> Any:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return json.loads(body or "{}")

    def _answer(self, found: Object | str | None, status: int = 200) -> None:
        if found is None:
            status, reason = 404, "NotFound"
            found = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status}
        is_text = isinstance(found, str)
        body = str(found).encode() if is_text else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing of requests."""


@contextmanager
def running_cluster(directory: Path) -> Iterator[tuple[Cluster, Path]]:
    """Serves a cluster; yields it with the configuration by which kubectl reaches it. Logs stand in the directory."""
    cluster = Cluster(directory)
    handler = type("Api", (_Api,), {"cluster": cluster})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        address = {"server": f"http://127.0.0.1:{server.server_address[1]}"}
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "stub", "cluster": address}],
            "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": ""}}],
            "current-context": "stub",
        }
        path = directory / "kubeconfig"
        path.write_text(json.dumps(configuration))
        try:
            yield cluster, path
        finally:
            server.shutdown()
            thread.join()
