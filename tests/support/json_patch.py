"""Patches of JSON as a Kubernetes API applies them: JSON Patch (RFC 6902) and merge patches (RFC 7396)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any


class PatchRefused(Exception):
    """A path that is not there, or a test that fails; nothing of the patch is applied then."""


def json_patched(document: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """Returns the document with the operations applied in order, all or none."""
    patched = copy.deepcopy(document)
    for operation in operations:
        _apply(patched, operation)
    return patched


def _apply(document: Any, operation: Mapping[str, Any]) -> None:
    parent, key = _place(document, operation["path"])
    match operation["op"]:
        case "test":
            if _at(parent, key) != operation["value"]:
                raise PatchRefused(f"testing value {operation['path']} failed")
        case "remove":
            _at(parent, key)
            del parent[key]
        case "replace":
            _at(parent, key)
            parent[key] = operation["value"]
        case "copy":
            source = _at(*_place(document, operation["from"]))
            parent[key] = copy.deepcopy(source)
        case other:
            raise PatchRefused(f"{other}: not applied here")


def _place(document: Any, path: str) -> tuple[Any, Any]:
    *above, last = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
    for part in above:
        document = _at(document, _key(document, part))
    return document, _key(document, last)


def _key(parent: Any, part: str) -> str | int:
    return int(part) if isinstance(parent, list) else part


def _at(parent: Any, key: Any) -> Any:
    try:
        return parent[key]
    except (LookupError, TypeError):
        raise PatchRefused(f"there is no {key}") from None


def merged(document: Any, patch: Any) -> Any:
    """Returns the document with a merge patch applied: null takes a member out."""
    if not isinstance(patch, dict):
        return patch
    found = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found
