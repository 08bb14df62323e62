"""Every route of the server in one table: its path, what each method does there, and who takes the events posted to it.

The application, the event router, the OpenAPI document and all links are made from it. A new route is a row here and a
handler that `serves` it:

    @serves(Route.HEALTHZ)
    class Healthz(Handler): ...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import quote

from metrics_server.api import parameters as query
from metrics_server.api.parameters import Parameter
from metrics_server.api.schema import (
    CanaryVerdicts,
    Comparisons,
    Error,
    FailedElement,
    Groups,
    History,
    RejectedEvent,
    SeriesList,
    SeriesReport,
    Status,
)
from metrics_server.http.handler import Handler, PostOnly
from metrics_server.ingest.feedback import FeedbackItem
from metrics_server.ingest.pipeline import Ingest
from metrics_server.ingest.router import Accept
from metrics_server.ingest.seldon_ingress import NAME

JSON, TEXT, HTML = "application/json", "text/plain", "text/html"
SCHEMA = "application/schema+json"

AnyHandler = TypeVar("AnyHandler", bound=type[Handler])


class Body(NamedTuple):
    """What is sent or answered: alternatives of a type, and the media types it may have; no type for what has no
    schema.
    """

    types: tuple[Any, ...]
    media: tuple[str, ...] = (JSON,)


class Operation(NamedTuple):
    """A method of a path: what it does, what may be in its query, what is sent, what it answers, and who may ask:
    senders and readers need a token if there are any for them.
    """

    help: str
    answers: Mapping[int, tuple[str, Body | None]]
    query: tuple[Parameter, ...] = ()
    body: Body | None = None
    who: Literal["anyone", "sender", "reader", "owner"] = "anyone"


ERROR = Body((Error,))
PLAIN = Body((), (TEXT,))
_UNAVAILABLE = {503: ("Not now; come again after `Retry-After` seconds.", ERROR)}
_REFUSALS = {
    400: "Malformed.",
    408: "Too slow.",
    413: "Too large.",
    415: "In a form that is not read.",
    422: "Not usable.",
    431: "Headers.",
}
_UNAUTHORIZED = {
    401: ("The token is missing or wrong.", ERROR),
    403: ("The client's certificate is missing, or not for this.", ERROR),
}
_REFUSED = {status: (help_, ERROR) for status, help_ in _REFUSALS.items()} | _UNAUTHORIZED | _UNAVAILABLE
_BAD_QUERY = {400: ("A parameter that cannot be used.", ERROR)}
_NOT_FOUND = {404: ("There is nothing of that name.", ERROR)}
_NAMED = {**_BAD_QUERY, **_UNAUTHORIZED, **_NOT_FOUND, **_UNAVAILABLE}
_FEEDBACK = Operation(
    "Takes a Seldon Feedback as its ingress does.",
    {200: ("Its effect is durable.", Body((dict[str, Any],))), **_REFUSED},
    body=Body((dict[str, Any],), (JSON, "application/x-protobuf")),
    who="sender",
)
_INGRESS = _FEEDBACK._replace(answers={**_FEEDBACK.answers, 404: ("Not the name of a namespace or deployment.", ERROR)})
_METRICS = Operation(
    "All series, for Prometheus.",
    {200: ("The page.", Body((), (TEXT, "application/openmetrics-text"))), **_BAD_QUERY, **_UNAUTHORIZED},
    (query.SAMPLE_NAMES,),
    who="reader",
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
        for status, why in (
            (400, "a parameter."),
            (401, "the token."),
            (403, "the certificate."),
            (404, "no such name."),
        )
    }
    later = {503: ("A page that says so: come again.", Body((), (HTML,)))}
    return Operation(
        help_,
        {200: ("The page, or the figures.", Body((dict[str, Any],), (HTML, JSON))), **wrong, **later},
        tuple(parameters),
        who="reader",
    )


ANY_PART = "[^/]+"
_SERIES = "/{namespace}/{deployment}/{predictor}/{model}"


class Route(Enum):
    """A route: path with names in braces for the parts that vary, operations by method, who takes what is posted there,
    and what a part that varies may be. HEAD is answered wherever GET is.
    """

    ROOT = (
        "/",
        {
            "get": Operation(
                "The page of `/ui` for a browser, for others a word that needs no token.",
                {
                    200: ("The page, or `Alive`.", Body((), (HTML, TEXT))),
                    401: ("A page that says so: the token.", Body((), (HTML,))),
                    403: ("A page that says so: the certificate.", Body((), (HTML,))),
                },
                who="reader",
            ),
            "post": _EVENTS,
            "options": Operation("The web hook handshake of CloudEvents.", {204: ("Any origin may send.", None)}),
        },
        Ingest.accept_events,
    )
    FEEDBACK = ("/v1/feedback", {"post": _STATEMENTS}, Ingest.accept_feedback)
    SELDON_FEEDBACK = ("/api/v1.0/feedback", {"post": _FEEDBACK}, Ingest.accept_seldon_feedback)
    SHORT_SELDON_FEEDBACK = ("/feedback", {"post": _FEEDBACK}, Ingest.accept_seldon_feedback)
    OLD_SELDON_FEEDBACK = ("/api/v0.1/feedback", {"post": _FEEDBACK}, Ingest.accept_seldon_feedback)
    INGRESS_FEEDBACK = (
        "/seldon/{namespace}/{deployment}/api/v1.0/feedback",
        {"post": _INGRESS},
        Ingest.accept_seldon_feedback,
        NAME,
    )
    OLD_INGRESS_FEEDBACK = (
        "/seldon/{namespace}/{deployment}/api/v0.1/feedback",
        {"post": _INGRESS},
        Ingest.accept_seldon_feedback,
        NAME,
    )
    METRICS = ("/v1/metrics", {"get": _METRICS})
    SHORT_METRICS = ("/metrics", {"get": _METRICS})
    MODELS = (
        "/v1/models",
        {
            "get": Operation(
                "All series.",
                {200: ("The list.", Body((SeriesList,))), **_BAD_QUERY, **_UNAUTHORIZED, **_UNAVAILABLE},
                who="reader",
            )
        },
    )
    DEPLOYMENT = (
        "/v1/models/{namespace}/{deployment}",
        {
            "get": Operation(
                "The series of a deployment, or with `compare` its predictors compared.",
                {200: ("The list, or the comparisons.", Body((SeriesList, Comparisons))), **_NAMED},
                query.DEPLOYMENT,
                who="reader",
            ),
        },
    )
    VERDICT = (
        "/v1/models/{namespace}/{deployment}/verdict",
        {
            "get": Operation(
                "Whether predictors of a deployment are better than their baseline, at every look.",
                {200: ("The verdicts.", Body((CanaryVerdicts,))), **_NAMED},
                query.VERDICT,
                who="reader",
            ),
        },
    )
    GROUPS = (
        "/v1/models/{namespace}/{deployment}/groups",
        {
            "get": Operation(
                "The rates of groups beside those of the group that is declared as their reference, in one look.",
                {200: ("The groups, by predictor, model and dimension.", Body((Groups,))), **_NAMED},
                query.GROUPS,
                who="reader",
            ),
        },
    )
    MODEL = (
        f"/v1/models{_SERIES}",
        {
            "get": Operation(
                "A series in its windows, or with `from`, `to` or `step` its history.",
                {200: ("The reading, or the history.", Body((SeriesReport, History))), **_NAMED},
                query.MODEL,
                who="reader",
            ),
            "delete": Operation(
                "Retires a series: it leaves with its slices and all numbers. Events that come afterwards"
                " start it anew.",
                {
                    204: ("It has left, durably.", None),
                    **_NAMED,
                    403: ("The server has no token for it, or it is not for this client.", ERROR),
                },
                who="owner",
            ),
        },
    )
    REQUEST = (
        "/v1/requests/{id}",
        {
            "delete": Operation(
                "Erases a request, by any of its ids: what it has contributed leaves all windows, and nothing is taken"
                " of it any more for `--retention`.",
                {
                    204: ("It has left, durably.", None),
                    409: ("Nothing is kept of it; what that means for the sums.", ERROR),
                    401: _REFUSED[401],
                    403: ("The server has no token; it is not done without.", ERROR),
                    **_BAD_QUERY,
                    **_UNAVAILABLE,
                },
                query.ERASURE,
                who="owner",
            )
        },
    )
    OVERVIEW_PAGE = ("/ui", {"get": _page("The page of all series.", query.OVERVIEW_PAGE)})
    MODEL_PAGE = (f"/ui/models{_SERIES}", {"get": _page("The page of a series.", query.MODEL_PAGE)})
    TREND = (
        f"/ui/trends{_SERIES}",
        {
            "get": Operation(
                "The trend of a series as a picture.",
                {200: ("The picture.", Body((), ("image/svg+xml",))), **_NAMED},
                query.TREND,
                who="reader",
            )
        },
    )
    DEPLOYMENT_PAGE = (
        "/ui/deployments/{namespace}/{deployment}",
        {"get": _page("The predictors of a deployment side by side.", query.DEPLOYMENT_PAGE)},
    )
    HEALTH_PAGE = ("/ui/health", {"get": _page("The page of the server itself.", query.HEALTH_PAGE)})
    STATIC = (
        "/ui/static/{name}",
        {
            "get": Operation(
                "A file of the page.",
                {200: ("It.", Body((), ("text/css", "text/javascript", "image/svg+xml"))), **_NOT_FOUND},
            )
        },
    )
    REJECTED = (
        "/v1/rejected",
        {
            "get": Operation(
                "The latest refused events, the newest first.",
                {200: ("The list.", Body((list[RejectedEvent],))), **_UNAUTHORIZED},
                who="reader",
            )
        },
    )
    FEEDBACK_SCHEMA = (
        "/v1/schemas/feedback.json",
        {"get": Operation("The JSON Schema of a feedback event.", {200: ("It.", Body((dict[str, Any],), (SCHEMA,)))})},
    )
    HEALTHZ = ("/healthz", {"get": Operation("Whether the process answers.", {200: ("`ok`", PLAIN)})})
    READYZ = (
        "/readyz",
        {"get": Operation("Whether the store can be used.", {200: ("`ok`", PLAIN), 503: ("Why not.", PLAIN)})},
    )
    PROTOCOL = ("/protocol", {"get": Operation("The value of `--protocol`.", {200: ("It.", PLAIN)})})
    OPENAPI = ("/openapi.json", {"get": Operation("This document.", {200: ("It.", Body((dict[str, Any],)))})})

    def __init__(
        self, template: str, operations: Mapping[str, Operation], accept: Accept | None = None, part: str = ANY_PART
    ) -> None:
        self.template = template
        self.operations = operations
        self.accept = accept
        self.part = part
        self.names: list[str] = re.findall(r"\{(\w+)\}", template)

    @property
    def pattern(self) -> str:
        """The path as a regular expression, with a group for each of its parts that varies."""
        return re.sub(r"\\\{\w+\\\}", f"({self.part})", re.escape(self.template))

    @property
    def stem(self) -> str:
        """The path up to the first of its parts that vary."""
        return self.template.partition("{")[0]

    def path(self, *parts: str) -> str:
        """The path with these parts, which are percent-encoded."""
        quoted = (quote(part, safe="") for part in parts)
        return self.template.format(**dict(zip(self.names, quoted, strict=True)))


# What answers on each route. Where events are posted and nothing is asked, all that is left to say is a 405.
HANDLERS: dict[Route, type[Handler]] = {route: PostOnly for route in Route if list(route.operations) == ["post"]}


def serves(*routes: Route) -> Callable[[AnyHandler], AnyHandler]:
    """Makes a handler the one of these routes."""

    def attach(handler: AnyHandler) -> AnyHandler:
        handler.IS_GUARDED = any(
            "get" in route.operations and route.operations["get"].who == "reader" for route in routes
        )
        HANDLERS.update(dict.fromkeys(routes, handler))
        return handler

    return attach
