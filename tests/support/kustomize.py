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
    "images", "patches", "configurations", "replacements",
}  # fmt: skip
CLUSTER_WIDE = ("Namespace", "ClusterRoleBinding")
DELETE = "$patch: delete"
LOCAL = "config.kubernetes.io/local-config"  # of objects that other objects are made with, and no cluster sees


def load(path: Path) -> list[Object]:
    """The objects of a file."""
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def build(directory: Path) -> list[Object]:
    """The objects of a kustomization; a generated ConfigMap has no hash in its name."""
    return [found for found in _accumulate(directory, []) if LOCAL not in found["metadata"].get("annotations", {})]


def _accumulate(directory: Path, objects: list[Object]) -> list[Object]:
    (plan,) = load(directory / "kustomization.yaml")
    assert plan.keys() <= KEYS, f"{directory}: {plan.keys() - KEYS}"
    for name in plan.get("resources", []):
        path = directory / name
        objects += _accumulate(path, []) if path.is_dir() else load(path)
    for generator in plan.get("configMapGenerator", []):
        objects.append(_generated(directory, generator, plan.get("generatorOptions", {})))
    for name in plan.get("components", []):
        objects = _accumulate(directory / name, objects)
    objects = [found for found in objects if not _is_deleted(found, plan)]
    for found in objects:
        _transform(found, plan)
    for replacement in plan.get("replacements", []):
        _replace(objects, replacement)
    return objects


def _generated(directory: Path, generator: Object, options: Object) -> Object:
    options = {**options, **generator.get("options", {})}
    metadata = {key: dict(options[key]) for key in ("labels", "annotations") if key in options}
    data = {Path(name).name: (directory / name).read_text() for name in generator.get("files", [])}
    data |= dict(literal.split("=", 1) for literal in generator.get("literals", []))
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"], **metadata}, "data": data}


def _replace(objects: list[Object], replacement: Object) -> None:
    """Puts a field of one object into fields of others."""
    ((holder, key),) = _fields(objects, replacement["source"], replacement["source"]["fieldPath"])
    for target in replacement["targets"]:
        part = target.get("options")
        for path in target["fieldPaths"]:
            for at, last in _fields(objects, target["select"], path):
                at[last] = _with_part(at[last], holder[key], **part) if part else holder[key]


def _with_part(text: str, value: str, delimiter: str, index: int) -> str:
    parts = text.split(delimiter)
    parts[index] = value
    return delimiter.join(parts)


def _fields(objects: list[Object], selector: Object, path: str) -> list[tuple[Object, str]]:
    """The places of a field: what holds it, and its key there."""
    *way, last = re.findall(r"\[[^]]*\]|[^.]+", path)
    nodes: list[Any] = [found for found in objects if _is(found, selector)]
    for step in way:
        nodes = [inner for node in nodes for inner in _below(node, step)]
    return [(node, last) for node in nodes if last in node]


def _below(node: Any, step: str) -> list[Any]:
    if step == "*":
        return list(node)
    if step.startswith("["):
        name, _, value = step.strip("[]").partition("=")
        return [one for one in node if one.get(name) == value]
    return [node[step]] if step in node else []


def _is(found: Object, selector: Object) -> bool:
    return found["kind"] == selector["kind"] and bool(re.fullmatch(selector["name"], found["metadata"]["name"]))


def _is_deleted(found: Object, plan: Object) -> bool:
    deleting = [patch for patch in plan.get("patches", []) if patch["patch"].startswith(DELETE)]
    return any(_is(found, patch["target"]) for patch in deleting)


def _transform(found: Object, plan: Object) -> None:
    for patch in plan.get("patches", []):
        if _is(found, patch["target"]) and not patch["patch"].startswith(DELETE):
            for operation in yaml.safe_load(patch["patch"]):
                _patch(found, **operation)
    if "namespace" in plan and found["kind"] not in CLUSTER_WIDE:
        found["metadata"]["namespace"] = plan["namespace"]
        for rule in _alerts(found):
            rule["labels"]["namespace"] = plan["namespace"]
    for entry in plan.get("labels", []):
        assert entry["includeSelectors"] is False
        found["metadata"].setdefault("labels", {}).update(entry["pairs"])
    for entry in plan.get("images", []):
        for container in containers(found):
            name, _, tag = container["image"].partition(":")
            if name == entry["name"]:
                container["image"] = f"{entry.get('newName', name)}:{entry.get('newTag', tag)}"


def _patch(found: Object, op: str, path: str, value: Any = None) -> None:
    parts = [part.replace("~1", "/") for part in path.strip("/").split("/")]  # RFC 6901, 4
    *way, last = [int(part) if part.isdigit() else part for part in parts]
    at: Any = found
    for part in way:
        at = at[part]
    assert op == "add" or last in (range(len(at)) if isinstance(at, list) else at)
    if op == "remove":
        del at[last]
    else:
        at[last] = value


def _alerts(found: Object) -> Iterable[Object]:
    """The alerts of a PrometheusRule, to whose label the namespace goes by components/prometheus-operator."""
    if found["kind"] == "PrometheusRule":
        for group in found["spec"]["groups"]:
            yield from (rule for rule in group["rules"] if "alert" in rule)


def pods(found: Object) -> Iterable[Object]:
    """The pod templates of an object."""
    if "containers" in (template := found.get("spec", {}).get("template", {})).get("spec", {}):
        yield template


def containers(found: Object) -> Iterable[Object]:
    """All containers of an object's pods."""
    for template in pods(found):
        yield from template["spec"]["containers"]
