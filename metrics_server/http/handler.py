"""The ordinary routes: small, read-only, each a few lines."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple, cast

from tornado.web import HTTPError, RequestHandler

from metrics_server.errors import BadRequest, Rejected, Unauthorized, Unavailable
from metrics_server.http.access import Access
from metrics_server.http.certificate import ClientNames
from metrics_server.http.exchange import Exchange
from metrics_server.http.response import Response, error_response, unavailable_response

BASIC = 'Basic realm="feedback metrics server", charset="UTF-8"'  # a browser asks its user for a password (RFC 7617)
REASONS = {401: "unauthorized", 404: "not_found", 405: "method_not_allowed"}


def takes(accepted: str, what: str) -> bool:
    """Tells whether a header such as Accept names this, and not as refused."""
    return bool(re.search(rf"{re.escape(what)}(?!\s*;\s*q=0(\.0*)?\s*(,|$))", accepted, re.IGNORECASE))


class Handler(RequestHandler):
    """Answers HEAD like GET, errors in our one shape, and says nothing of the software behind it."""

    ALLOWED = "GET, HEAD"
    IS_GUARDED = False  # who reads it needs a token, where there are any

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        if self.is_secret:
            self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        """Answers who may not read what is guarded."""
        if self.is_secret:
            try:
                self._access.check_reader(self.client_names, self.request.headers.get("Authorization", ""))
            except Rejected as error:
                if isinstance(error, Unauthorized):
                    self.add_header("WWW-Authenticate", error.challenge)
                    self.add_header("WWW-Authenticate", BASIC)  # in a line of its own: browsers read one scheme of each
                self.answer(error_response(error.status, error.reason.label, error.detail))

    @property
    def _access(self) -> Access:
        return self.settings["access"]  # type: ignore[no-any-return]

    @property
    def is_secret(self) -> bool:
        """Tells whether not everybody may read what this answers."""
        return self.request.method in ("GET", "HEAD") and self.is_guarded() and self._access.guards_reading

    @property
    def client_names(self) -> ClientNames:
        """The names in the client's certificate."""
        exchange = cast("Exchange", self.request.connection)
        return exchange.context.client_names

    def is_guarded(self) -> bool:
        """Tells whether this request reads what is guarded."""
        return self.IS_GUARDED

    async def head(self, *arguments: str) -> None:
        if type(self).get is RequestHandler.get:
            raise HTTPError(405)
        result = self.get(*arguments)
        if result is not None:
            await result

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if status_code == 405:
            self.set_header("Allow", self.ALLOWED)
        reason = REASONS.get(status_code, "bad_request" if status_code < 500 else "internal")
        answer = error_response(status_code, reason, self._reason)
        self.set_header("Content-Type", "application/json")
        self.finish(answer.body)

    def answer(self, answer: Response) -> None:
        """Sends an answer that is made already."""
        self.set_status(answer.status)
        for name, value in answer.headers.items():
            self.set_header(name, value)
        self.finish(answer.body)

    def write_json(self, value: Any) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value))


class NotFound(Handler):
    """Any other path."""

    def prepare(self) -> None:
        raise HTTPError(404)


class PostOnly(Handler):
    """A path of the event route: whatever else is asked of it is a 405."""

    ALLOWED = "POST"


Rendered = tuple[bytes, str]  # a body and its content type


class Encoded(NamedTuple):
    """A body as it is sent, and what its headers say of it."""

    body: bytes
    content_type: str
    is_zipped: bool
    etag: str


class RenderedHandler(Handler):
    """A route whose answer takes long to make: that is done beside the event loop, and compressed when the client takes
    gzip.
    """

    VARY = "Accept-Encoding"
    EXECUTOR: Executor | None = None  # that of the event loop

    _etag: str | None = None

    def takes_gzip(self) -> bool:
        """Tells whether the client takes a compressed answer."""
        return takes(self.request.headers.get("Accept-Encoding", ""), "gzip")

    async def respond(self, make: Callable[[], Rendered]) -> None:
        """Answers with what is made, or says why it cannot be."""
        making = partial(encoded, make, zipped=self.takes_gzip())
        await self.send(asyncio.get_running_loop().run_in_executor(self.EXECUTOR, making))

    async def send(self, making: Awaitable[Encoded]) -> None:
        """Answers with what is being made, or says why it cannot be."""
        try:
            made = await making
        except BadRequest as error:
            self.answer(error_response(error.status, error.reason, error.detail))
            return
        except Unavailable as error:
            self.answer(unavailable_response(str(error)))
            return
        self._etag = made.etag
        self.set_header("Content-Type", made.content_type)
        self.set_header("Vary", self.VARY)
        if made.is_zipped:
            self.set_header("Content-Encoding", "gzip")
        self.finish(made.body)

    def compute_etag(self) -> str | None:
        """The one that was made beside the event loop: to digest a page of 15 MB takes 20 ms."""
        return self._etag or super().compute_etag()


def encoded(make: Callable[[], Rendered], *, zipped: bool) -> Encoded:
    """Makes a body and encodes it; what is made of the same is the same, whenever it is made."""
    body, content_type = make()
    if zipped:
        body = gzip.compress(body, compresslevel=1, mtime=0)
    return Encoded(body, content_type, zipped, f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"')
