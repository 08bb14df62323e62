"""The HTTP side of the simulated cluster: the paths of Seldon's ingress, answered as the executors behind it answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from metrics_server.commands.simulation import api_page
from metrics_server.commands.simulation.cluster import Deployment, Failed
from metrics_server.commands.simulation.executor import Call, Executor, failure
from metrics_server.commands.simulation.platform_metrics import PATH

MAX_BODY_BYTES = 8 * 2**20


class JsonHandler(RequestHandler):
    """Errors in Seldon's form; itself the handler of all unknown paths."""

    def prepare(self) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Content-Type", "application/json")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.finish(failure(HTTPStatus(status_code).phrase, HTTPStatus(status_code).name))


class CallHandler(JsonHandler):
    """Predictions and feedback."""

    def initialize(self, cluster: Mapping[str, Deployment], executor: Executor) -> None:
        """Takes the cluster and its executor."""
        self.cluster, self.executor = cluster, executor

    def prepare(self) -> None:
        pass

    def post(self, path: str, method: str) -> None:
        """Passes a call to the executor, which logs the events on its own."""
        deployment = self.cluster.get(path)
        if deployment is None:
            self.set_status(HTTPStatus.NOT_FOUND)
            self.finish(failure(f"no deployment {path}; there are {', '.join(self.cluster)}", "NOT_FOUND"))
            return
        headers = self.request.headers
        is_logged = headers.get("Seldon-Skip-Logging", "").lower() not in ("true", "on", "1")
        call = Call(
            self.request.body,
            headers.get("Seldon-Puid", ""),
            headers.get("Content-Type", "application/json"),
            is_logged,
        )
        respond = self.executor.predict if method == "predictions" else self.executor.feedback
        response = respond(deployment, call)
        self.set_status(response.status)
        self.set_header("Seldon-Puid", response.puid)
        self.finish(response.body)


class ApiPageHandler(JsonHandler):
    """The API of a deployment, for people and as OpenAPI document."""

    def initialize(self, cluster: Mapping[str, Deployment]) -> None:
        """Takes the cluster."""
        self.cluster = cluster

    def prepare(self) -> None:
        pass

    def get(self, path: str, document: str) -> None:
        """Answers with the page, or the document that it links to."""
        deployment = self.cluster.get(path)
        if deployment is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        elif document:
            self.finish(api_page.document(deployment))
        else:
            self.set_header("Content-Type", "text/html; charset=utf-8")
            self.finish(api_page.page(deployment))


class MetricsHandler(JsonHandler):
    """Metrics for Prometheus."""

    def initialize(self, registry: CollectorRegistry) -> None:
        """Takes what is shown."""
        self.registry = registry

    def prepare(self) -> None:
        pass

    def get(self) -> None:
        """Writes all metrics as text."""
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self.registry))


@contextmanager
def wrapper_metrics_served(host: str, port: int, executor: Executor) -> Iterator[None]:
    """Serves the custom metrics of all models, as the wrapper does on a port of its own.

    Raises:
        Failed: the port is taken, or the host is none of this machine.
    """
    row = (PATH, MetricsHandler, {"registry": executor.metrics.wrapper.registry})
    with _listening(Application([row], default_handler_class=JsonHandler), host, port, "--metrics_port"):
        yield


@contextmanager
def served(host: str, port: int, cluster: Mapping[str, Deployment], executor: Executor) -> Iterator[None]:
    """Listens for calls, and for Prometheus as executors do.

    Raises:
        Failed: the port is taken, or the host is none of this machine.
    """
    call = (
        r"/seldon/([^/]+/[^/]+)/api/v(?:0\.1|1\.0)/(predictions|feedback)",
        CallHandler,
        {"cluster": cluster, "executor": executor},
    )
    described = (r"/seldon/([^/]+/[^/]+)/api/v(?:0\.1|1\.0)/doc/(seldon\.json)?", ApiPageHandler, {"cluster": cluster})
    metrics = (PATH, MetricsHandler, {"registry": executor.metrics.executor.registry})
    application = Application([call, described, metrics], default_handler_class=JsonHandler)
    with _listening(application, host, port, "--ingress_port"):
        yield


@contextmanager
def _listening(application: Application, host: str, port: int, option: str) -> Iterator[None]:
    server = HTTPServer(application, max_body_size=MAX_BODY_BYTES)
    try:
        server.listen(port, host)
    except OSError as error:
        raise Failed(
            f"the ingress cannot listen on port {port} of {host}: {error.strerror}; "
            f"choose others with {option} and --ingress_host"
        ) from error
    try:
        yield
    finally:
        server.stop()
