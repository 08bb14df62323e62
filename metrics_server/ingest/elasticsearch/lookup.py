"""Looks up predictions in Elasticsearch, where seldon-request-logger wrote them, for truths that wait for theirs.

Beside the request path: the truth is durable and answered before anything is asked. What is found is taken as the event
of the request log that it once was, so it is paired, made durable and counted once like any other; a miss leaves the
truth waiting.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from string import Formatter
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError

from metrics_server.errors import BadConfiguration
from metrics_server.http.response import Respond, Response
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.elasticsearch.document import (
    FIELDS,
    MISSING,
    Document,
    LookupFailed,
    LookupRequest,
    document_of,
    event_of,
    has_row,
    index_of,
    is_item,
    rows_to_look_up,
)
from metrics_server.metrics.labels import EventKind
from metrics_server.pairing.observation import Observation
from metrics_server.telemetry import OutageLog, Telemetry

logger = logging.getLogger(__name__)

MAX_WAITING = 1000  # look-ups that wait; further truths wait for their prediction without one
WORKERS = 4
TIMEOUT_SECONDS = 5.0
ATTEMPTS = 3  # of a request, when the connection fails or the answer is 5xx
SUBMISSIONS = 5  # of what was found, while the store is down
BACKOFF_SECONDS = 0.2
MAX_ANSWER_BYTES = 8 * 2**20
MAX_ITEMS = 1000  # documents that are asked for one batch
BATCH_SECONDS = 60.0  # to ask for them: a worker is not to be held for ever
PORTS = {"http": 9200, "https": 443}  # where the URI names none, as Elasticsearch's own client had it

Take = Callable[[Event, Respond], None]


class Address(NamedTuple):
    """The address of Elasticsearch, fit for the log, and the header with the credentials, which is not."""

    url: str
    authorization: str


def address_of(uri: str, api_key: str) -> Address:
    """The address in --elasticsearch_uri; an API key is preferred to the user and password in it.

    Raises:
        BadConfiguration: it is none; the message does not repeat it, for it may hold a password.
    """
    wrong = (
        "--elasticsearch_uri: want http://host:9200 or https://user:password@host, reserved characters in the password"
        " as %XX"
    )
    try:
        parts = urlsplit(uri if "://" in uri else f"http://{uri}")
        port = parts.port or PORTS[parts.scheme]
    except (ValueError, LookupError):
        raise BadConfiguration(wrong) from None
    if not parts.hostname or "@" in parts.path + parts.query + parts.fragment:
        raise BadConfiguration(wrong)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(
        f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}",
        _authorization(parts.username, parts.password, api_key.strip()),
    )


def _authorization(user: str | None, password: str | None, api_key: str) -> str:
    if api_key:
        if not (api_key.isascii() and api_key.isprintable()):
            raise BadConfiguration("ELASTICSEARCH_API_KEY: want the encoded key, in printable ASCII")
        return api_key if api_key.startswith(("ApiKey ", "Bearer ")) else f"ApiKey {api_key}"
    if user is None:
        return ""
    credentials = f"{unquote(user)}:{unquote(password or '')}"
    return f"Basic {b64encode(credentials.encode()).decode()}"


def checked_index(template: str) -> str:
    """The template of the index; raises `BadConfiguration` when it cannot be filled in."""
    try:
        fields = [field for _, field, *_ in Formatter().parse(template) if field is not None]
        filled = template.format(**MISSING) if all(field in MISSING for field in fields) else ""
    except (ValueError, LookupError):
        filled = ""
    if not filled:
        raise BadConfiguration(
            f"--elasticsearch_index {template}: want a name, with {{namespace}}, {{service}} and {{endpoint}}"
            f" where needed"
        )
    return template


def tls_of(ca: str) -> ssl.SSLContext | None:
    """Makes what servers are verified with: by the certificates in this file, or, None, by those that the machine
    trusts.
    """
    try:
        return ssl.create_default_context(cafile=ca) if ca else None
    except (OSError, ssl.SSLError) as error:
        raise BadConfiguration(f"--elasticsearch_ca {ca}: {error}") from error


class PredictionLookup:
    """Asks Elasticsearch for the predictions of truths: at most `MAX_WAITING` wait, each is tried a few times, all are
    counted.
    """

    def __init__(self, address: Address, index: str, tls: ssl.SSLContext | None, telemetry: Telemetry) -> None:
        self._address = address
        self._index = index
        self._tls = tls
        self._telemetry = telemetry
        self._queue: asyncio.Queue[LookupRequest] = asyncio.Queue(MAX_WAITING)
        self._open: set[tuple[str, str, int]] = (
            set()
        )  # waiting or being asked for: each node of a graph sends the truth again
        self._tasks: list[asyncio.Task[None]] = []
        self._outages = OutageLog(logger)

    def start(self, take: Take) -> None:
        """Starts asking; `take` takes what is found, as `Ingest.take_event` does."""
        logger.info("Predictions are looked up at %s in the index %s", self._address.url, self._index)
        self._tasks = [asyncio.create_task(self._work(take)) for _ in range(WORKERS)]

    async def stop(self, seconds: float) -> None:
        """Ends when everything that waits has been asked for, at the latest after these seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._queue.join(), seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def look_up(self, observation: Observation, attributes: Mapping[str, str]) -> None:
        """Queues the look-up of what a feedback's truth waits for, or drops it when too many wait. Called for each row
        of a list.

        Args:
            observation: of the feedback.
            attributes: of its event.
        """
        # What was found here must never ask again.
        rows = rows_to_look_up(observation) if observation.kind == EventKind.FEEDBACK else 0
        if not rows:
            return
        index = index_of(self._index, observation.labels, attributes.get("modelid", ""))
        place = (index, observation.request_id, rows)
        if place in self._open:
            return
        if self._queue.full():
            self._telemetry.look_ups["dropped"].inc()
            return
        self._open.add(place)
        self._queue.put_nowait(
            LookupRequest(*place, observation.labels, attributes.get("protocol", ""), observation.time)
        )

    async def _work(self, take: Take) -> None:
        client = AsyncHTTPClient(force_instance=True, max_body_size=MAX_ANSWER_BYTES, max_buffer_size=MAX_ANSWER_BYTES)
        try:
            while True:
                request = await self._queue.get()
                self._telemetry.look_ups[await self._outcome(client, request, take)].inc()
                self._open.discard(request[:3])
                self._queue.task_done()
        finally:
            client.close()

    async def _outcome(self, client: AsyncHTTPClient, request: LookupRequest, take: Take) -> str:
        try:
            event = await self._find(client, request)
            self._outages.note_success("Elasticsearch answers again")
            return "miss" if event is None else await _submitted(event, take)
        except LookupFailed as failure:
            self._outages.note_failure(
                "Elasticsearch at %s does not answer (%s); truths wait for their predictions",
                self._address.url,
                failure,
            )
            return "failed"
        except Exception:  # a bug of ours must not end the worker
            logger.exception("A prediction could not be looked up")
            return "failed"

    async def _find(self, client: AsyncHTTPClient, request: LookupRequest) -> Event | None:
        """The prediction as an event; a batch has a document for each row."""
        whole = await self._get(client, request.index_name, request.request_id)
        if whole is not None:
            return event_of([whole], request)
        if is_item(request.request_id):
            return None
        items: list[Document] = []
        started = time.monotonic()
        while len(items) < min(request.rows, MAX_ITEMS):
            if time.monotonic() - started > BATCH_SECONDS:
                raise LookupFailed(f"{len(items)} of {request.rows} rows within {BATCH_SECONDS:g} s")
            item = await self._get(client, request.index_name, f"{request.request_id}-item-{len(items)}")
            if item is None or not has_row(item):
                break
            items.append(item)
        return event_of(items, request) if items else None

    async def _get(self, client: AsyncHTTPClient, index: str, document_id: str) -> Document | None:
        """The document; None for a miss; raises `LookupFailed`."""
        http_request = self._http_request(
            f"/{quote(index, safe='')}/_doc/{quote(document_id, safe='')}?_source={FIELDS}"
        )
        failure = ""
        for attempt in range(ATTEMPTS):
            await asyncio.sleep(BACKOFF_SECONDS * attempt)
            try:
                response = await client.fetch(http_request, raise_error=False)
            except HTTPTimeoutError as error:
                raise LookupFailed(f"nothing within {TIMEOUT_SECONDS:g} s") from error
            except HTTPStreamClosedError:
                failure = f"the connection was closed, or the answer is larger than {MAX_ANSWER_BYTES} bytes"
            except (HTTPClientError, OSError, ValueError) as error:
                failure = str(error)
            else:
                if response.code < 500:
                    return document_of(response.code, response.body)
                failure = f"HTTP {response.code}"
        raise LookupFailed(failure)

    def _http_request(self, path: str) -> HTTPRequest:
        return HTTPRequest(
            self._address.url + path,
            headers={"Authorization": self._address.authorization} if self._address.authorization else None,
            connect_timeout=TIMEOUT_SECONDS,
            request_timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            decompress_response=False,  # a small answer must not become a large one
            ssl_options=self._tls,
        )


async def _submitted(event: Event, take: Take) -> str:
    """Submits a prediction that was found, and returns its outcome; it is given again while the store is down."""
    for attempt in range(SUBMISSIONS):
        if (response := await _taken(event, take)).status != 503:
            return "found" if response.status == 200 else "failed"
        await asyncio.sleep(BACKOFF_SECONDS * 2**attempt)
    return "failed"


async def _taken(event: Event, take: Take) -> Response:
    future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    take(
        event, lambda response: None if future.done() else future.set_result(response)
    )  # done already: the worker was cancelled
    return await future
