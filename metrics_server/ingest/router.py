"""Which request goes where: events to ingest, by the shortest way; everything else to the ordinary Tornado
Application.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

from tornado.web import Application

from metrics_server.errors import Reason, Rejected
from metrics_server.http.access import Access
from metrics_server.http.application import ApplicationRequest
from metrics_server.http.exchange import Exchange, RawHeaders, Receiver
from metrics_server.http.response import Respond, Response
from metrics_server.ingest.pipeline import Ingest, RawPost

MAX_HEADER_BYTES = 16 * 2**10
MAX_SHOWN_PATH = 200  # characters of an unknown path that are told

Accept: TypeAlias = Callable[[Ingest, RawPost, Respond], None]
# How far above the limit a body is still read, and thrown away: a sender cut off while it sends never sees the answer.
DISCARDED_FACTOR = 16

_USED = frozenset(("content-type", "content-encoding", "content-length", "authorization", "sec-fetch-site"))

# Header names as sent -> (name in lower case without its prefix, whether it is an attribute of an event). Senders write
# a few dozen names over and over; the bound keeps hostile ones out.
_NAMES: dict[bytes, tuple[str, bool]] = {}
_MAX_NAMES = 1000


def _name_of(raw: bytes) -> tuple[str, bool]:
    name = raw.decode("latin-1").lower()
    known = (name[3:], True) if name.startswith("ce-") else (name, False)
    if len(_NAMES) < _MAX_NAMES:
        _NAMES[raw] = known
    return known


def _sorted(headers: RawHeaders) -> tuple[dict[str, str], dict[str, str]]:
    """Takes the attributes of an event out of headers, and those others that are used.

    Raises:
        Rejected: one of them was sent twice.
    """
    events: dict[str, str] = {}
    others: dict[str, str] = {}
    for raw, value in headers:
        known = _NAMES.get(raw)
        name, is_event = known if known is not None else _name_of(raw)
        if is_event:
            if name in events:
                raise Rejected(Reason.DUPLICATE_HEADER, f"ce-{name[:64]} was sent twice")
            events[name] = value.decode("latin-1")
        elif name in _USED:
            if name in others:
                raise Rejected(Reason.DUPLICATE_HEADER, f"{name} was sent twice")
            others[name] = value.decode("latin-1")
    return events, others


class Gate:
    """What all event requests of this server share: the limits, who may send, and how much is being received."""

    def __init__(self, ingest: Ingest, *, max_body_bytes: int, max_bodies_bytes: int, access: Access) -> None:
        self.ingest = ingest
        self.access = access
        self.is_guarded = access.guards_sending  # asked of every event
        self.max_body_bytes = max_body_bytes
        self.max_bodies_bytes = max_bodies_bytes
        self.held_bytes = 0
        self.open_requests = 0

    @contextmanager
    def open_request(self) -> Iterator[None]:
        """Counts a request as open for as long as it lasts."""
        self.open_requests += 1
        try:
            yield
        finally:
            self.open_requests -= 1


class Router:
    """Gives every request its receiver.

    Args:
        gate: of all event requests.
        application: takes everything but events.
        accepts: who takes what is posted, by the path, a regular expression.
        served: the paths of all routes, as regular expressions.
        events_prefix: a path at which, and below which, events are taken like at /; "" for none.
    """

    def __init__(
        self,
        gate: Gate,
        application: Application,
        accepts: Mapping[str, Accept],
        served: Iterable[str],
        events_prefix: str = "",
    ) -> None:
        self._gate = gate
        self._application = application
        self._served = re.compile("|".join(served))
        self._prefix = events_prefix
        patterns = [(re.compile(pattern), accept) for pattern, accept in accepts.items()]
        # Nearly all events go to a path without a name in it, which is found without trying one pattern after another.
        self._by_path = {_unescaped(one.pattern): accept for one, accept in patterns if not one.groups}
        self._by_pattern = [(one, accept) for one, accept in patterns if one.groups]

    def route(self, exchange: Exchange) -> Receiver:
        path, _, query = exchange.target.partition("?")
        if exchange.method == "POST":
            if (accept := self._by_path.get(path)) is not None:
                return EventRequest(self._gate, exchange, (), query, accept)
            for pattern, accept in self._by_pattern:
                if match := pattern.fullmatch(path):
                    return EventRequest(self._gate, exchange, match.groups(), query, accept)
            if (found := self._accept_elsewhere(path, exchange.headers)) is not None:
                return EventRequest(self._gate, exchange, (), query, found)
        return ApplicationRequest(self._application, exchange)

    def _accept_elsewhere(self, path: str, headers: RawHeaders) -> Accept | None:
        """Finds who takes what is posted to a path that is none of events; None where it is no event, or a route."""
        if self._served.fullmatch(path):
            return None
        if self._prefix and (path == self._prefix or path.startswith(f"{self._prefix}/")):
            return Ingest.accept_events
        return partial(_refuse_misdirected, self._where(path)) if _holds_event(headers) else None

    def _where(self, path: str) -> str:
        """Tells who posts events to an unknown path where they are taken."""
        taken = f"/, at {self._prefix} and below it" if self._prefix else "/"
        return (
            f"no events are taken at {path[:MAX_SHOWN_PATH]}, but at {taken}: "
            "send them there, or name the beginning of this path by --events_prefix"
        )

    def refused(self, exchange: Exchange, error: Rejected) -> None:
        """Answers something that never became a request."""
        self._gate.ingest.respond_rejected(error, lambda answer: exchange.respond(*answer))


def _holds_event(headers: RawHeaders) -> bool:
    """Tells whether these are the headers of a CloudEvent in any mode."""
    return any(
        name.lower().startswith(b"ce-")
        or (name.lower() == b"content-type" and value.lstrip().lower().startswith(b"application/cloudevents"))
        for name, value in headers
    )


def _refuse_misdirected(detail: str, ingest: Ingest, posted: RawPost, respond: Respond) -> None:
    ingest.respond_misdirected(posted, detail, respond)


def _unescaped(pattern: str) -> str:
    """Undoes `re.escape`."""
    return re.sub(r"\\(.)", r"\1", pattern)


class EventRequest:
    """One POST of events: reads it within the limits, hands it to ingest, writes the answer when it comes."""

    __slots__ = (
        "_accept",
        "_body",
        "_declared",
        "_encoding",
        "_events",
        "_exchange",
        "_full",
        "_gate",
        "_held_bytes",
        "_is_open",
        "_length",
        "_names",
        "_type",
    )

    def __init__(self, gate: Gate, exchange: Exchange, names: Sequence[str], query: str, accept: Accept) -> None:
        self._gate = gate
        self._exchange = exchange
        self._names = names
        self._accept = accept
        self._body: list[bytes] = []
        self._length = self._declared = self._held_bytes = 0
        self._type = self._encoding = ""
        self._full = False
        self._is_open = True
        gate.open_requests += 1
        try:
            self._events = self._read_headers(query)
        except Rejected as error:
            self._refuse(error)

    def _read_headers(self, query: str) -> dict[str, str]:
        """The ce- headers without their prefix; of the others those that matter are kept."""
        events, others = _sorted(self._exchange.headers)
        if self._exchange.head_bytes > MAX_HEADER_BYTES:
            raise Rejected(Reason.HEADERS_TOO_LARGE, f"the headers are larger than {MAX_HEADER_BYTES} bytes")
        if self._gate.is_guarded:
            client = self._exchange.context.client_names
            self._gate.access.check_sender(client, others.get("authorization", ""), query)
        if others.get("sec-fetch-site") == "cross-site":  # only browsers say so; they send text to any site unasked
            raise Rejected(
                Reason.CROSS_SITE, "pages of other sites may not send events through their visitors' browsers"
            )
        self._type = others.get("content-type", "")
        self._encoding = others.get("content-encoding", "")
        self._declared = int(others.get("content-length", "0"))  # digits: the parser has checked it
        if self._declared > self._gate.max_body_bytes:
            raise self._too_large()
        return events

    def _too_large(self) -> Rejected:
        return Rejected(Reason.BODY_TOO_LARGE, f"the body is larger than {self._gate.max_body_bytes} bytes")

    def _refuse(self, error: Rejected) -> None:
        """Answers at once a sender that waits for our word before it sends the body, or whose body would not be read to
        its end; others when the body has gone by.
        """
        self._exchange.refusal = error
        if self._exchange.expects_continue or self._is_beyond_discarding(self._declared):
            self._answer_error()

    def _is_beyond_discarding(self, length: int) -> bool:
        return length > DISCARDED_FACTOR * self._gate.max_body_bytes

    def _answer_error(self) -> None:
        if self._exchange.refusal is not None and self._is_open:
            self._gate.ingest.respond_rejected(self._exchange.refusal, self._answer)

    def data_received(self, chunk: bytes) -> None:
        self._length += len(chunk)
        if self._exchange.refusal is not None or self._full:
            if self._is_beyond_discarding(self._length):
                self._answer_error()
            return
        self._gate.held_bytes += len(chunk)
        self._held_bytes += len(chunk)
        self._body.append(chunk)
        if self._length > self._gate.max_body_bytes:
            self._drop_body()
            self._exchange.refusal = self._too_large()
        elif self._gate.held_bytes > self._gate.max_bodies_bytes:
            self._drop_body()
            self._full = True

    def _drop_body(self) -> None:
        self._gate.held_bytes -= self._held_bytes
        self._held_bytes = 0
        self._body = []

    def finish(self) -> None:
        ingest = self._gate.ingest
        if self._exchange.refusal is not None:
            self._answer_error()
        elif self._full:
            ingest.respond_unavailable(
                "too many bodies are being received, the limit of --max_bodies_bytes", self._answer
            )
        else:
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._body = []  # still counted as held: until it is answered, what was read from it waits in the queue
            self._accept(
                ingest,
                RawPost(self._names, self._type, self._encoding, self._events, self._exchange.headers, body),
                self._answer,
            )

    def _answer(self, answer: Response) -> None:
        """Writes the answer, unless the sender has gone; what it sent counts all the same."""
        self._close()
        self._exchange.respond(*answer)

    def on_connection_close(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._gate.open_requests -= 1
            self._drop_body()
