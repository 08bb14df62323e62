"""A request for the Tornado Application that answers everything but events."""

from __future__ import annotations

from typing import Any

from tornado.httputil import HTTPInputError
from tornado.web import Application

from metrics_server.errors import Reason
from metrics_server.http.exchange import Exchange
from metrics_server.http.response import error_response


class ApplicationRequest:
    """A request for the Application. None of its routes takes a body, so none is kept."""

    def __init__(self, application: Application, exchange: Exchange) -> None:
        self._exchange = exchange
        self._inner: Any = None
        try:
            self._inner = application.start_request(exchange, exchange)
            self._inner.headers_received(exchange.start_line(), exchange.tornado_headers())
        except HTTPInputError:
            self._inner = None

    def data_received(self, chunk: bytes) -> None:
        return

    def finish(self) -> None:
        if self._inner is None:
            self._exchange.respond(*error_response(400, Reason.MALFORMED_HTTP.label, "not a valid HTTP/1.1 request"))
        else:
            self._inner.finish()

    def on_connection_close(self) -> None:
        if self._inner is not None:
            self._inner.on_connection_close()
