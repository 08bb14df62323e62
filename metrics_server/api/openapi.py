"""The OpenAPI document: every route of the server in one table, with the types that the code itself answers and reads.

The application takes the paths of its own routes from here, so that none can be missing in the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from metrics_server import __version__
from metrics_server.api import parameters as query
from metrics_server.api.parameters import Parameter
from metrics_server.api.schema import PATH, Comparisons, History, SeriesList, SeriesReport
from metrics_server.ingest.feedback import FeedbackItem

REFERENCE = "#/components/schemas/{name}"
JSON, TEXT, HTML = "application/json", "text/plain", "text/html"


class Fault(msgspec.Struct):
    """Why a request was refused."""

    reason: str
    detail: str


class Error(msgspec.Struct):
    """What every error answers."""

    error: Fault


class FailedElement(msgspec.Struct):
    """An element of a batch that was refused."""

    index: int
    reason: str
    detail: str


class Status(msgspec.Struct):
    """What became of one statement."""

    status: Literal["accepted", "pending", "duplicate", "rejected"]
    reason: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class RejectedEvent(msgspec.Struct):
    """An event that was refused."""

    time: float
    reason: str
    detail: str
    id: str | UnsetType = UNSET
    source: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    requestid: str | UnsetType = UNSET


class Body(NamedTuple):
    """What is sent or answered: alternatives of a type, and the media types it may have; no type for what has no
    schema.
    """

    types: tuple[Any, ...]
    media: tuple[str, ...] = (JSON,)


class Operation(NamedTuple):
    """A method of a path: what it does, what may be in its query, what is sent, what it answers, and who may ask:
    senders need the token if there is one.
    """

    help: str
    answers: Mapping[int, tuple[str, Body | None]]
    query: tuple[Parameter, ...] = ()
    body: Body | None = None
    who: Literal["anyone", "sender", "owner"] = "anyone"


ERROR = Body((Error,))
PLAIN = Body((), (TEXT,))
SERIES = PATH + "/{namespace}/{deployment}/{predictor}/{model}"
INGRESS = "/seldon/{namespace}/{deployment}"
_UNAVAILABLE = {503: ("Not now; come again after `Retry-After` seconds.", ERROR)}
_REFUSALS = {
    400: "Malformed.",
    408: "Too slow.",
    413: "Too large.",
    415: "In a form that is not read.",
    422: "Not usable.",
    431: "Headers.",
}
_REFUSED = (
    {status: (help_, ERROR) for status, help_ in _REFUSALS.items()}
    | {401: ("The token is missing or wrong.", ERROR)}
    | _UNAVAILABLE
)
_BAD_QUERY = {400: ("A parameter that cannot be used.", ERROR)}
_NOT_FOUND = {404: ("There is nothing of that name.", ERROR)}
_FEEDBACK = Operation(
    "Takes a Seldon Feedback as its ingress does.",
    {200: ("Its effect is durable.", Body((dict[str, Any],))), **_REFUSED},
    body=Body((dict[str, Any],), (JSON, "application/x-protobuf")),
    who="sender",
)
_INGRESS = _FEEDBACK._replace(answers={**_FEEDBACK.answers, 404: ("Not the name of a namespace or deployment.", ERROR)})
_METRICS = Operation(
    "All series, for Prometheus.", {200: ("The page.", Body((), (TEXT, "application/openmetrics-text")))}
)
_EVENTS = Operation(
    "Takes CloudEvents in binary, structured or batched mode, or a bare Seldon Feedback; see the reference of routes.",
    {
        200: (
            "Their effect is durable; what was refused of a batch is listed.",
            Body((list[FailedElement], dict[str, Any])),
        ),
        **_REFUSED,
        400: ("Malformed, or everything in a batch was refused.", Body((Error, list[FailedElement]))),
    },
    body=Body(
        (Any,), (JSON, "application/cloudevents+json", "application/cloudevents-batch+json", "application/x-protobuf")
    ),
    who="sender",
)
_STATEMENTS = Operation(
    "Takes what became of predictions, one or a list.",
    {
        200: ("What became of each.", Body((Status, list[Status]))),
        **_REFUSED,
        400: ("Malformed, or everything in a list was refused.", Body((Error, list[Status]))),
    },
    body=Body((FeedbackItem, list[FeedbackItem])),
    who="sender",
)


def _page(help_: str, parameters: Iterable[Parameter]) -> Operation:
    """A page for people, or with `figures` what is drawn on it."""
    wrong = {
        status: (f"A page that says so: {why}", Body((), (HTML,)))
        for status, why in ((400, "a parameter."), (404, "no such name."))
    }
    later = {503: ("A page that says so: come again.", Body((), (HTML,)))}
    return Operation(
        help_,
        {200: ("The page, or the figures.", Body((dict[str, Any],), (HTML, JSON))), **wrong, **later},
        tuple(parameters),
    )


# Path -> method -> operation. HEAD is answered wherever GET is.
OPERATIONS: dict[str, dict[str, Operation]] = {
    "/": {
        "get": Operation(
            "The page of `/ui` for a browser, for others a word.",
            {200: ("The page, or `Alive`.", Body((), (HTML, TEXT)))},
        ),
        "post": _EVENTS,
        "options": Operation("The web hook handshake of CloudEvents.", {204: ("Any origin may send.", None)}),
    },
    "/v1/feedback": {"post": _STATEMENTS},
    "/api/v1.0/feedback": {"post": _FEEDBACK},
    "/api/v0.1/feedback": {"post": _FEEDBACK},
    f"{INGRESS}/api/v1.0/feedback": {"post": _INGRESS},
    f"{INGRESS}/api/v0.1/feedback": {"post": _INGRESS},
    "/v1/metrics": {"get": _METRICS},
    "/metrics": {"get": _METRICS},
    "/v1/models": {
        "get": Operation("All series.", {200: ("The list.", Body((SeriesList,))), **_BAD_QUERY, **_UNAVAILABLE})
    },
    "/v1/models/{namespace}/{deployment}": {
        "get": Operation(
            "The series of a deployment, or with `compare` its predictors compared.",
            {
                200: ("The list, or the comparisons.", Body((SeriesList, Comparisons))),
                **_BAD_QUERY,
                **_NOT_FOUND,
                **_UNAVAILABLE,
            },
            query.DEPLOYMENT,
        ),
    },
    SERIES: {
        "get": Operation(
            "A series in its windows, or with `from`, `to` or `step` its history.",
            {
                200: ("The reading, or the history.", Body((SeriesReport, History))),
                **_BAD_QUERY,
                **_NOT_FOUND,
                **_UNAVAILABLE,
            },
            query.MODEL,
        ),
        "delete": Operation(
            "Retires a series: it leaves with its slices and all numbers. Events that come afterwards start it anew.",
            {
                204: ("It has left, durably.", None),
                401: _REFUSED[401],
                403: ("The server has no token; it is not done without.", ERROR),
                **_BAD_QUERY,
                **_NOT_FOUND,
                **_UNAVAILABLE,
            },
            who="owner",
        ),
    },
    "/ui": {"get": _page("The page of all series.", query.OVERVIEW_PAGE)},
    SERIES.replace(PATH, "/ui/models"): {"get": _page("The page of a series.", query.MODEL_PAGE)},
    SERIES.replace(PATH, "/ui/trends"): {
        "get": Operation(
            "The trend of a series as a picture.",
            {200: ("The picture.", Body((), ("image/svg+xml",))), **_BAD_QUERY, **_NOT_FOUND, **_UNAVAILABLE},
            query.TREND,
        )
    },
    "/ui/deployments/{namespace}/{deployment}": {
        "get": _page("The predictors of a deployment side by side.", query.DEPLOYMENT_PAGE)
    },
    "/ui/health": {"get": _page("The page of the server itself.", query.HEALTH_PAGE)},
    "/ui/static/{name}": {
        "get": Operation(
            "A file of the page.",
            {200: ("It.", Body((), ("text/css", "text/javascript", "image/svg+xml"))), **_NOT_FOUND},
        )
    },
    "/v1/rejected": {
        "get": Operation(
            "The latest refused events, the newest first.", {200: ("The list.", Body((list[RejectedEvent],)))}
        )
    },
    "/healthz": {"get": Operation("Whether the process answers.", {200: ("`ok`", PLAIN)})},
    "/readyz": {"get": Operation("Whether the store can be used.", {200: ("`ok`", PLAIN), 503: ("Why not.", PLAIN)})},
    "/protocol": {"get": Operation("The value of `--protocol`.", {200: ("It.", PLAIN)})},
    "/openapi.json": {"get": Operation("This document.", {200: ("It.", Body((dict[str, Any],)))})},
}

_PART = "One part of the name of a series, percent-encoded; `-` if it is empty, and one hyphen more if it consists of hyphens, or of hyphens before `.` or `..`."


def pattern_of(path: str) -> str:
    """The path as a regular expression, with a group for each of its parts that varies."""
    return re.sub(r"\\\{\w+\\\}", "([^/]+)", re.escape(path))


def document(windows: Iterable[str], *, has_token: bool) -> bytes:
    """The document of a server with these windows, in JSON."""
    types = {part for _, operation in _operations() for body in _bodies(operation) for part in body.types}
    ordered = sorted(types, key=str)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=REFERENCE)
    made = _Document(dict(zip(ordered, schemas, strict=True)), list(windows), has_token=has_token)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Feedback metrics server", "version": __version__},
            "paths": {path: made.path(path, operations) for path, operations in OPERATIONS.items()},
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "access_token": {"type": "apiKey", "in": "query", "name": "access_token"},
                },
            },
        }
    )


def _operations() -> Iterator[tuple[str, Operation]]:
    return ((path, operation) for path, operations in OPERATIONS.items() for operation in operations.values())


def _bodies(operation: Operation) -> Iterator[Body]:
    yield from (body for _, body in operation.answers.values() if body is not None)
    if operation.body is not None:
        yield operation.body


class _Document:
    """Writes the parts of a document."""

    def __init__(self, schemas: Mapping[Any, Any], windows: list[str], *, has_token: bool) -> None:
        self._schemas = schemas
        self._windows = windows
        self._has_token = has_token

    def path(self, path: str, operations: Mapping[str, Operation]) -> dict[str, Any]:
        named = re.findall(r"\{(\w+)\}", path)
        item: dict[str, Any] = {method: self._operation(path, method, one) for method, one in operations.items()}
        if named:
            names = (
                {"type": "string", "pattern": "^[A-Za-z0-9.-]{1,253}$"}
                if path.startswith(INGRESS)
                else {"type": "string", "minLength": 1}
            )
            item["parameters"] = [
                {"name": name, "in": "path", "required": True, "description": _PART, "schema": names} for name in named
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
        if operation.who == "owner" or (operation.who == "sender" and self._has_token):
            found["security"] = [{"bearer": []}, {"access_token": []}]
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
