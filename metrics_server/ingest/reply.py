"""Makes reply events, the answers to feedback events, and sends them to --reply_url beside the request path."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote

from cloudevents.core.bindings.http import to_binary_event
from cloudevents.core.v1.event import CloudEvent
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from metrics_server.ingest.cloudevent import Event
from metrics_server.telemetry import OutageLog, Telemetry

logger = logging.getLogger(__name__)

COPIED = ("modelid", "inferenceservicename", "namespace", "endpoint")
# Printable ASCII, which CloudEvents leaves as it is in a header, but for space, double quote and percent.
_UNQUOTED = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"

MAX_WAITING = 1000  # replies held for --reply_url; a dead one must not fill the memory
SENDERS = 4
TIMEOUT_SECONDS = 5.0
ATTEMPTS = 3

Reply = tuple[Mapping[str, str], bytes]


class Replies:
    """Makes the reply event of a feedback event, the same for every redelivery of one that has an id."""

    def __init__(self, event_type: str, event_source: str) -> None:
        self._type = event_type
        self._source = event_source

    def reply_to(self, event: Event) -> Reply:
        """Headers and body of the reply in binary mode. Its id follows from the event's, so that a broker can
        deduplicate.

        A feedback without an id counts whenever it is sent, so each of them has a reply of its own.
        """
        identity = f"{event.source}\n{event.type}\n{event.id}"
        reply_id = str(uuid.uuid5(uuid.NAMESPACE_URL, identity) if event.id else uuid.uuid4())
        get = event.attributes.get
        headers, body = _template(self._type, self._source, *(get(name) or "" for name in COPIED))
        headers = {"ce-id": reply_id, **headers}
        if request_id := get("requestid"):
            headers["ce-requestid"] = quote(request_id, safe=_UNQUOTED)
        return headers, body


@lru_cache(1024)
def _template(event_type: str, source: str, *copied: str) -> Reply:
    """A reply without its id and request id. Made by the SDK once for each model: it takes 20 µs, a fifth of all that
    is done.
    """
    extensions = {name: value for name, value in zip(COPIED, copied, strict=True) if value}
    attributes = {
        "specversion": "1.0",
        "id": "-",
        "source": source,
        "type": event_type,
        "datacontenttype": "application/json",
    }
    message = to_binary_event(CloudEvent({**attributes, **extensions}, {}))
    # The SDK adds the time of now; a redelivery is to be answered by the same event.
    return {name: value for name, value in message.headers.items() if name not in ("ce-id", "ce-time")}, message.body


class Forwarder:
    """Sends replies to --reply_url: at most `MAX_WAITING` wait, each is tried three times, losses are counted."""

    def __init__(self, url: str, telemetry: Telemetry) -> None:
        self._url = url
        self._telemetry = telemetry
        self._queue: asyncio.Queue[Reply] = asyncio.Queue(MAX_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self._unsent = 0  # waiting or being sent
        self._is_stopped = False
        self._outages = OutageLog(logger)

    def start(self) -> None:
        """Starts to send."""
        self._tasks = [asyncio.create_task(self._send_all()) for _ in range(SENDERS)]

    def stop(self) -> None:
        """Gives up the replies that wait or are being sent: they are counted as dropped."""
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        if self._unsent:
            self._telemetry.replies["dropped"].inc(self._unsent)
            logger.warning("%d replies to --reply_url %s were not sent before the end", self._unsent, self._url)

    def send(self, reply: Reply) -> None:
        """Queues a reply, or drops it when too many wait, or after `stop`."""
        if self._is_stopped or self._queue.full():
            self._telemetry.replies["dropped"].inc()
        else:
            self._unsent += 1
            self._queue.put_nowait(reply)

    async def _send_all(self) -> None:
        client = AsyncHTTPClient()
        while True:
            outcome = await self._send(client, await self._queue.get())
            self._unsent -= 1
            self._telemetry.replies[outcome].inc()

    async def _send(self, client: AsyncHTTPClient, reply: Reply) -> str:
        """Sends a reply, up to `ATTEMPTS` times; returns one of `REPLY_OUTCOMES`."""
        request = self._request(reply)
        for attempt in range(ATTEMPTS):
            failure = await _failure_of(client, request)
            if failure is None:
                self._outages.note_success("--reply_url takes replies again")
                return "delivered"
            if _is_refusal(failure):
                break
            await asyncio.sleep(0.2 * 2**attempt)
        self._outages.note_failure(
            "--reply_url %s does not take replies (%s); events are counted all the same", self._url, failure
        )
        return "refused" if _is_refusal(failure) else "failed"

    def _request(self, reply: Reply) -> HTTPRequest:
        headers, body = reply
        return HTTPRequest(
            self._url,
            method="POST",
            headers=dict(headers),
            body=body,
            request_timeout=TIMEOUT_SECONDS,
            connect_timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
        )


async def _failure_of(client: AsyncHTTPClient, request: HTTPRequest) -> Exception | None:
    try:
        await client.fetch(request)
    except (HTTPClientError, OSError, ValueError) as error:
        return error
    return None


def _is_refusal(failure: Exception | None) -> bool:
    """Says whether a receiver answered that it does not want the reply, which no second attempt changes."""
    return isinstance(failure, HTTPClientError) and failure.code < 500
