"""The OpenAPI document, made from the table of routes, with the types that the code itself answers and reads."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from metrics_server import __version__
from metrics_server.api.parameters import Parameter
from metrics_server.api.routes import ANY_PART, Body, Operation, Route

REFERENCE = "#/components/schemas/{name}"

_PART = (
    "One part of the name of a series, percent-encoded; `-` if it is empty, and one hyphen more if it consists of"
    " hyphens, or of hyphens before `.` or `..`."
)


def document(windows: Iterable[str], *, guarded: Collection[str] = ()) -> bytes:
    """The document of a server with these windows, in JSON. `guarded` are those that it wants a token of, as operations
    name them.
    """
    types = {part for operation in _operations() for body in _bodies(operation) for part in body.types}
    ordered = sorted(types, key=str)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=REFERENCE)
    made = _Document(dict(zip(ordered, schemas, strict=True)), list(windows), guarded)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Feedback metrics server", "version": __version__},
            "paths": {route.template: made.path(route) for route in Route},
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "basic": {"type": "http", "scheme": "basic"},
                    "access_token": {"type": "apiKey", "in": "query", "name": "access_token"},
                },
            },
        }
    )


def _operations() -> Iterator[Operation]:
    return (operation for route in Route for operation in route.operations.values())


def _bodies(operation: Operation) -> Iterator[Body]:
    yield from (body for _, body in operation.answers.values() if body is not None)
    if operation.body is not None:
        yield operation.body


class _Document:
    """Writes the parts of a document."""

    def __init__(self, schemas: Mapping[Any, Any], windows: list[str], guarded: Collection[str]) -> None:
        self._schemas = schemas
        self._windows = windows
        self._guarded = {"owner", *guarded}

    def path(self, route: Route) -> dict[str, Any]:
        item: dict[str, Any] = {
            method: self._operation(route.template, method, one) for method, one in route.operations.items()
        }
        if route.names:
            names = {"type": "string"} | (
                {"minLength": 1} if route.part == ANY_PART else {"pattern": f"^{route.part}$"}
            )
            item["parameters"] = [
                {"name": name, "in": "path", "required": True, "description": _PART, "schema": names}
                for name in route.names
            ]
        return item

    def _operation(self, path: str, method: str, operation: Operation) -> dict[str, Any]:
        found: dict[str, Any] = {
            "operationId": re.sub(r"\W+", "_", f"{method}{path}").strip("_"),
            "summary": operation.help,
            "responses": {str(status): self._answer(*answer) for status, answer in operation.answers.items()},
        }
        if operation.query:
            found["parameters"] = [self._parameter(parameter) for parameter in operation.query]
        if operation.body is not None:
            found["requestBody"] = {"required": True, "content": self._content(operation.body)}
        if operation.who in self._guarded:
            found["security"] = [{"bearer": []}, {"basic" if operation.who == "reader" else "access_token": []}]
        return found

    def _parameter(self, parameter: Parameter) -> dict[str, Any]:
        schema = {"type": "string", "enum": self._windows} if parameter.name == "window" else parameter.schema
        return {"name": parameter.name, "in": "query", "description": parameter.help, "schema": schema}

    def _answer(self, help_: str, body: Body | None) -> dict[str, Any]:
        return {"description": help_} | ({} if body is None else {"content": self._content(body)})

    def _content(self, body: Body) -> dict[str, Any]:
        schemas = [self._schemas[part] for part in body.types]
        schema = {} if not schemas else schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        return {media: {"schema": schema} if media.endswith("json") else {} for media in body.media}
