"""The sets of manifests that we ship, and what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import kustomize
from tests.support.kustomize import Object
from tests.support.running import ROOT

DEPLOY, KNATIVE = ROOT / "deploy", ROOT / "knative"
BUILT = sorted(
    path.parent
    for folder in (DEPLOY, KNATIVE)
    for path in folder.rglob("kustomization.yaml")
    if kustomize.load(path)[0]["kind"] == "Kustomization"
)
SERVER = "feedback-metrics-server"


def path_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_set = pytest.mark.parametrize("directory", BUILT, ids=path_id)


def objects_of(objects: list[Object], *kinds: str) -> list[Object]:
    return [found for found in objects if found["kind"] in kinds]


def object_named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [found for found in objects_of(objects, kind) if found["metadata"]["name"] == name]
    return found


def servers_of(directory: Path) -> list[tuple[Object, Object]]:
    """Workload and container of each server in a set."""
    return [
        (found, container)
        for found in kustomize.build(directory)
        for container in kustomize.containers(found)
        if container["image"].startswith(f"{SERVER}:") and "command" not in container
    ]


STARTED = ["deploy/base", "deploy/overlays/plain", "knative/serving"]
REPLICATED = ["deploy/overlays/replicated", "deploy/overlays/replicated-trial"]
SHARING = [*REPLICATED, "knative/serving-postgres"]  # a PostgreSQL


def triggers_of(directory: Path) -> list[Object]:
    """The Triggers that lead to the server, by a Sequence too."""
    objects = kustomize.build(directory)
    leading = [SERVER]
    for sequence in objects_of(objects, "Sequence"):
        assert [step["ref"]["name"] for step in sequence["spec"]["steps"]] == [SERVER]
        leading.append(sequence["metadata"]["name"])
    return [found for found in objects_of(objects, "Trigger") if found["spec"]["subscriber"]["ref"]["name"] in leading]
