"""The routes of the page: a view makes the context of a request, and a template the response."""

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

from metrics_server.api import parameters
from metrics_server.api.handlers import Root
from metrics_server.api.parameters import Parameter
from metrics_server.api.routes import Route, serves
from metrics_server.api.service import Api
from metrics_server.http.exchange import POLICY
from metrics_server.http.handler import Rendered, RenderedHandler, takes
from metrics_server.http.response import Response
from metrics_server.http.worker_pools import Deadline, PooledHandler, WorkerPool, WorkerPools
from metrics_server.ingest.pipeline import Rejections
from metrics_server.telemetry import Telemetry
from metrics_server.web import asset, links, notices, render
from metrics_server.web.deployment_page import deployment_page
from metrics_server.web.health_page import health_page
from metrics_server.web.model_page import model_page
from metrics_server.web.overview import overview
from metrics_server.web.page_request import PageRequest
from metrics_server.web.self_sampler import SelfSampler, counters_of
from metrics_server.web.trend import trend
from metrics_server.web.ttl_cache import TtlCache

VIEW_SECONDS, MAX_VIEWS = 1.0, 50  # shared by all who open the same page
PICTURE_SECONDS, MAX_PICTURES = 60, 2000
FOR_EVER = "public, max-age=31536000, immutable"
_HOST = re.compile(r"[\w.\-\[\]:]{1,255}")


@dataclass(frozen=True)
class Site:
    """Everything that the pages are made from."""

    api: Api
    telemetry: Telemetry
    sampler: SelfSampler
    rejections: Rejections
    windows: Mapping[str, int]
    wants_token: bool  # of senders
    is_store_up: Callable[[], bool]
    clock: Callable[[], float] = time.time
    views: TtlCache[dict[str, Any]] = field(default_factory=lambda: TtlCache(VIEW_SECONDS, MAX_VIEWS))
    pictures: TtlCache[bytes] = field(default_factory=lambda: TtlCache(PICTURE_SECONDS, MAX_PICTURES))

    def server_notices(self) -> list[notices.Notice]:
        """Returns what deserves a look about all that is sent, and belongs to no series."""
        counters = counters_of(self.telemetry)
        return [
            *notices.of_overdue_truths(counters["metrics_server_overdue_truths", ()]),
            *notices.of_requests(self.api.followed_requests()),
        ]

    def page_request(self, segments: Sequence[str], arguments: Mapping[str, Any], deadline: Deadline) -> PageRequest:
        """Returns a request for a page that is made now."""
        return PageRequest(segments, arguments, self.windows, self.clock(), deadline)


class SiteHandler(PooledHandler):
    """A route that shows something of the site."""

    PARAMETERS: Iterable[Parameter] = ()

    def initialize(self, pools: WorkerPools, site: Site) -> None:  # type: ignore[override] # Tornado gives each its own
        super().initialize(pools)
        self._site = site

    def _page_request(self, segments: Sequence[str], deadline: Deadline) -> PageRequest:
        return self._site.page_request(segments, parameters.read(self.request.query, self.PARAMETERS), deadline)


class Page(SiteHandler):
    """A page: HTML, or with `figures` in the query the figures on it."""

    TEMPLATE = ""

    def prepare(self) -> None:
        self._nonce = secrets.token_urlsafe(16)
        super().prepare()

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    async def get(self, *segments: str) -> None:
        await self.ask(self._pool(), partial(self._rendered, segments))

    def _pool(self) -> WorkerPool:
        return self._pools.pages

    def view(self, page_request: PageRequest) -> dict[str, Any]:
        """Returns the context of the template."""
        raise NotImplementedError

    def _rendered(self, segments: Sequence[str], deadline: Deadline) -> Rendered:
        page_request = self._page_request(segments, deadline)
        key = (self.TEMPLATE, segments, *page_request.query.items())  # the page and its figures are of one view
        context = self._site.views.get(key, lambda: self.view(page_request))
        if "figures" in page_request.arguments:
            return render.figures(context["charts"], page_request.arguments["figures"]), render.JSON
        return self._html(self.TEMPLATE, page_request.now, context)

    def _html(self, template: str, now: float, context: Mapping[str, Any]) -> Rendered:
        self.set_header(POLICY, render.POLICY.format(nonce=self._nonce))
        credentials = " -H 'Authorization: Bearer …'" if self._site.wants_token else ""
        common = {"origin": self._origin(), "credentials": credentials, "is_store_up": self._site.is_store_up()}
        root = links.root_of(self.request.path)
        return render.html(template, root, self._nonce, now, {**common, **context}), render.HTML

    def _origin(self) -> str:
        """Returns the address of the server as the browser has it, to be pasted into a shell."""
        host = self.request.host if _HOST.fullmatch(self.request.host) else "127.0.0.1:8080"
        return f"{self.request.protocol}://{host}"

    def answer(self, response: Response) -> None:
        """Responds with an error as a page, for those who read it in a browser."""
        detail = msgspec.json.decode(response.body)["error"]["detail"]
        body, kind = self._html("error", self._site.clock(), {"status": response.status, "detail": detail})
        super().answer(Response(response.status, {**response.headers, "Content-Type": kind}, body))


@serves(Route.OVERVIEW_PAGE)
class Overview(Page):
    """All series."""

    TEMPLATE = "overview"
    PARAMETERS = parameters.OVERVIEW_PAGE

    def _pool(self) -> WorkerPool:
        return self._pools.readings

    def view(self, page_request: PageRequest) -> dict[str, Any]:
        found = overview(self._site.api, page_request, self._site.rejections.latest())
        return {**found, "server_notices": self._site.server_notices()}


@serves(Route.ROOT)
class Front(Overview, Root):
    """`/`: the overview for a browser, a line of text for other clients; OPTIONS is the web hook handshake."""

    VARY = "Accept, Accept-Encoding"

    def is_guarded(self) -> bool:
        """The line of text is open: probes ask for it."""
        return super().is_guarded() and self._is_for_browser()

    def _is_for_browser(self) -> bool:
        return takes(self.request.headers.get("Accept", ""), "text/html")

    async def get(self, *segments: str) -> None:  # type: ignore[override] # that of Root is not async
        if self._is_for_browser():
            await super().get(*segments)
        else:
            self.set_header("Vary", self.VARY)
            Root.get(self)


@serves(Route.MODEL_PAGE)
class Model(Page):
    """One series."""

    TEMPLATE = "model"
    PARAMETERS = parameters.MODEL_PAGE

    def view(self, page_request: PageRequest) -> dict[str, Any]:
        return model_page(self._site.api, page_request)


@serves(Route.DEPLOYMENT_PAGE)
class Deployment(Page):
    """The predictors of a deployment."""

    TEMPLATE = "deployment"
    PARAMETERS = parameters.DEPLOYMENT_PAGE

    def view(self, page_request: PageRequest) -> dict[str, Any]:
        return deployment_page(self._site.api, page_request)


@serves(Route.HEALTH_PAGE)
class Health(Page):
    """The server itself."""

    TEMPLATE = "health"
    PARAMETERS = parameters.HEALTH_PAGE

    def _pool(self) -> WorkerPool:
        return self._pools.readings

    def view(self, page_request: PageRequest) -> dict[str, Any]:
        site = self._site
        context = health_page(site.telemetry, site.sampler, site.rejections.latest(), page_request.now)
        return {**context, "server_notices": site.server_notices()}


@serves(Route.TREND)
class Trend(SiteHandler):
    """The picture of a series' trend."""

    PARAMETERS = parameters.TREND

    async def get(self, *segments: str) -> None:
        await self.ask(self._pools.pictures, partial(self._rendered, segments))

    def _rendered(self, segments: Sequence[str], deadline: Deadline) -> Rendered:
        page_request = self._page_request(segments, deadline)
        key = (segments, self.request.query)
        picture = self._site.pictures.get(key, lambda: trend(self._site.api, page_request))
        if not self.is_secret:  # and it is no error
            self.set_header("Cache-Control", f"private, max-age={PICTURE_SECONDS}")
        return picture, "image/svg+xml"


@serves(Route.STATIC)
class Static(RenderedHandler):
    """Files of the page. Their addresses hold their digest, so a browser may keep them."""

    async def get(self, name: str) -> None:
        try:
            file = asset.asset(name)
        except FileNotFoundError:
            raise HTTPError(404) from None
        is_zipped = takes(self.request.headers.get("Accept-Encoding", ""), "gzip")
        body = await asyncio.get_running_loop().run_in_executor(None, asset.zipped, name) if is_zipped else file.body
        self.set_header("Content-Type", asset.TYPES[name])
        self.set_header("Cache-Control", FOR_EVER if self.request.query == f"v={file.digest}" else "no-cache")
        self.set_header("Vary", self.VARY)
        if is_zipped:
            self.set_header("Content-Encoding", "gzip")
        self.finish(body)
