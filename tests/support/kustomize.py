"""Builds the kustomizations of this repository: of what kustomize can do, what they use. Where kubectl is, a test
compares the two."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
KEYS = {
    "apiVersion", "kind", "namespace", "resources", "components", "configMapGenerator", "generatorOptions", "labels",
    "images", "patches",
}  # fmt: skip


def load(path: Path) -> list[Object]:
    """The objects of a file."""
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def build(directory: Path) -> list[Object]:
    """The objects of a kustomization; a generated ConfigMap has no hash in its name."""
    return _accumulate(directory, [])


def _accumulate(directory: Path, objects: list[Object]) -> list[Object]:
    (plan,) = load(directory / "kustomization.yaml")
    assert plan.keys() <= KEYS, f"{directory}: {plan.keys() - KEYS}"
    for name in plan.get("resources", []):
        path = directory / name
        objects += build(path) if path.is_dir() else load(path)
    for name in plan.get("components", []):
        objects = _accumulate(directory / name, objects)
    options = plan.get("generatorOptions", {})
    for generator in plan.get("configMapGenerator", []):
        files = {Path(name).name: (directory / name).read_text() for name in generator["files"]}
        metadata = {"name": generator["name"], **({"labels": dict(options["labels"])} if "labels" in options else {})}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files})
    for found in objects:
        _transform(found, plan)
    return objects


def _transform(found: Object, plan: Object) -> None:
    for patch in plan.get("patches", []):
        target = patch["target"]
        if found["kind"] == target["kind"] and re.fullmatch(target["name"], found["metadata"]["name"]):
            for operation in yaml.safe_load(patch["patch"]):
                _patch(found, **operation)
    if "namespace" in plan and found["kind"] != "Namespace":
        found["metadata"]["namespace"] = plan["namespace"]
    for entry in plan.get("labels", []):
        assert entry["includeSelectors"] is False
        found["metadata"].setdefault("labels", {}).update(entry["pairs"])
    for entry in plan.get("images", []):
        for container in containers(found):
            name, _, tag = container["image"].partition(":")
            if name == entry["name"]:
                container["image"] = f"{entry.get('newName', name)}:{entry.get('newTag', tag)}"


def _patch(found: Object, op: str, path: str, value: Any = None) -> None:
    *way, last = [int(part) if part.isdigit() else part for part in path.strip("/").split("/")]
    at: Any = found
    for part in way:
        at = at[part]
    assert op == "add" or last in at
    if op == "remove":
        del at[last]
    else:
        at[last] = value


def pods(found: Object) -> Iterable[Object]:
    """The pod templates of an object."""
    if "containers" in (template := found.get("spec", {}).get("template", {})).get("spec", {}):
        yield template


def containers(found: Object) -> Iterable[Object]:
    """All containers of an object's pods."""
    for template in pods(found):
        yield from template["spec"]["containers"]
