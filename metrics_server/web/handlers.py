"""The routes of the page: what is asked goes to a view, what that found to a template."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from tornado.web import HTTPError

from metrics_server import query
from metrics_server.answer import Answer
from metrics_server.api import Api, Patience
from metrics_server.desk import Asking, Desk, Lane
from metrics_server.handlers import Rendered, Rendering, Root, takes
from metrics_server.ingest import Rejections
from metrics_server.query import Parameter
from metrics_server.telemetry import Telemetry
from metrics_server.web import asset, links, render
from metrics_server.web.deployment_page import deployment_page
from metrics_server.web.health_page import health_page
from metrics_server.web.model_page import model_page
from metrics_server.web.overview import overview
from metrics_server.web.pulse import Pulse
from metrics_server.web.question import Question
from metrics_server.web.recent import Recent
from metrics_server.web.trend import trend

VIEW_SECONDS, KEPT_VIEWS = 1.0, 50  # shared by all who look at the same
PICTURE_SECONDS, KEPT_PICTURES = 60, 2000
FOR_EVER = "public, max-age=31536000, immutable"
_HOST = re.compile(r"[\w.\-\[\]:]{1,255}")


@dataclass(frozen=True)
class Site:
    """What the pages show."""

    api: Api
    telemetry: Telemetry
    pulse: Pulse
    rejections: Rejections
    windows: Mapping[str, int]
    has_token: bool
    is_store_up: Callable[[], bool]
    clock: Callable[[], float] = time.time
    views: Recent[dict[str, Any]] = field(default_factory=lambda: Recent(VIEW_SECONDS, KEPT_VIEWS))
    pictures: Recent[bytes] = field(default_factory=lambda: Recent(PICTURE_SECONDS, KEPT_PICTURES))

    def question(self, parts: Sequence[str], found: Mapping[str, Any], patience: Patience) -> Question:
        """What was asked for, now."""
        return Question(parts, found, self.windows, self.clock(), patience)


class Showing(Asking):
    """A route that shows something of the site."""

    PARAMETERS: Iterable[Parameter] = ()

    def initialize(self, desk: Desk, site: Site) -> None:  # type: ignore[override] # Tornado gives each its own
        super().initialize(desk)
        self._site = site

    def _question(self, parts: Sequence[str], patience: Patience) -> Question:
        return self._site.question(parts, query.read(self.request.query, self.PARAMETERS), patience)


class Page(Showing):
    """A page: HTML, or with `figures` in the query the figures on it."""

    TEMPLATE = ""

    def prepare(self) -> None:
        self._nonce = secrets.token_urlsafe(16)

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")

    async def get(self, *parts: str) -> None:
        await self.ask(self._lane(), partial(self._made, parts))

    def _lane(self) -> Lane:
        return self._desk.pages

    def view(self, question: Question) -> dict[str, Any]:
        """What the template shows."""
        raise NotImplementedError

    def _made(self, parts: Sequence[str], patience: Patience) -> Rendered:
        question = self._question(parts, patience)
        # The page and its figures are of one view.
        context = self._site.views.get((self.TEMPLATE, parts, *question.asked.items()), lambda: self.view(question))
        if "figures" in question.found:
            return render.figures(context["charts"], question.found["figures"]), render.JSON
        return self._html(self.TEMPLATE, question.now, context)

    def _html(self, template: str, now: float, context: Mapping[str, Any]) -> Rendered:
        self.set_header("Content-Security-Policy", render.POLICY.format(nonce=self._nonce))
        credentials = " -H 'Authorization: Bearer …'" if self._site.has_token else ""
        given = {"origin": self._origin(), "credentials": credentials, "is_store_up": self._site.is_store_up()}
        return render.html(template, links.root_of(self.request.path), self._nonce, now, {**given, **context}), render.HTML

    def _origin(self) -> str:
        """The address that this page was asked for by, to be pasted into a shell."""
        host = self.request.host if _HOST.fullmatch(self.request.host) else "127.0.0.1:8080"
        return f"{self.request.protocol}://{host}"

    def answer(self, answer: Answer) -> None:
        """Says what is wrong to who reads it in a browser."""
        detail = msgspec.json.decode(answer.body)["error"]["detail"]
        body, kind = self._html("error", self._site.clock(), {"status": answer.status, "detail": detail})
        super().answer(Answer(answer.status, {**answer.headers, "Content-Type": kind}, body))


class Overview(Page):
    """All series."""

    TEMPLATE = "overview"
    PARAMETERS = query.OVERVIEW_PAGE

    def _lane(self) -> Lane:
        return self._desk.readings

    def view(self, question: Question) -> dict[str, Any]:
        return overview(self._site.api, question)


class Front(Overview, Root):
    """`/`: the overview for a browser, a word for everybody else; OPTIONS is the web hook handshake."""

    VARY = "Accept, Accept-Encoding"

    async def get(self, *parts: str) -> None:  # type: ignore[override] # the one it takes the place of answers at once
        if takes(self.request.headers.get("Accept", ""), "text/html"):
            await super().get(*parts)
        else:
            self.set_header("Vary", self.VARY)
            Root.get(self)


class Model(Page):
    """One series."""

    TEMPLATE = "model"
    PARAMETERS = query.MODEL_PAGE

    def view(self, question: Question) -> dict[str, Any]:
        return model_page(self._site.api, question)


class Deployment(Page):
    """The predictors of a deployment."""

    TEMPLATE = "deployment"
    PARAMETERS = query.DEPLOYMENT_PAGE

    def view(self, question: Question) -> dict[str, Any]:
        return deployment_page(self._site.api, question)


class Health(Page):
    """The server itself."""

    TEMPLATE = "health"
    PARAMETERS = query.HEALTH_PAGE

    def _lane(self) -> Lane:
        return self._desk.readings

    def view(self, question: Question) -> dict[str, Any]:
        site = self._site
        return health_page(site.telemetry, site.pulse, site.rejections.latest(), question.now)


class Trend(Showing):
    """The picture of a series' trend."""

    PARAMETERS = query.TREND

    async def get(self, *parts: str) -> None:
        self.set_header("Content-Security-Policy", "default-src 'none'")
        await self.ask(self._desk.pictures, partial(self._made, parts))

    def _made(self, parts: Sequence[str], patience: Patience) -> Rendered:
        question = self._question(parts, patience)
        picture = self._site.pictures.get((parts, self.request.query), lambda: trend(self._site.api, question))
        self.set_header("Cache-Control", f"private, max-age={PICTURE_SECONDS}")  # but not of an error
        return picture, "image/svg+xml"


class Static(Rendering):
    """Files of the page. Their addresses hold their digest, so a browser may keep them."""

    async def get(self, name: str) -> None:
        try:
            found = asset.asset(name)
        except FileNotFoundError:
            raise HTTPError(404) from None
        is_zipped = takes(self.request.headers.get("Accept-Encoding", ""), "gzip")
        body = await asyncio.get_running_loop().run_in_executor(None, asset.zipped, name) if is_zipped else found.body
        self.set_header("Content-Type", asset.TYPES[name])
        self.set_header("Cache-Control", FOR_EVER if self.request.query == f"v={found.digest}" else "no-cache")
        self.set_header("Vary", self.VARY)
        if is_zipped:
            self.set_header("Content-Encoding", "gzip")
        self.finish(body)
