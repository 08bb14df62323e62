"""From a request's body to its response: the order of the steps stands here and nowhere else.

decompress → decode → normalize → queue; then, when the writer has committed: count → respond.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from msgspec.structs import replace

from metrics_server.errors import Reason, Rejected, Unavailable
from metrics_server.http.response import (
    EMPTY,
    JSON,
    Respond,
    Response,
    batch_response,
    refusals,
    rejected_response,
    statuses,
    unavailable_response,
)
from metrics_server.ingest import seldon_ingress as ingress
from metrics_server.ingest.cloudevent import BATCH, Event, decode, media_type
from metrics_server.ingest.decoding import decompressed
from metrics_server.ingest.feedback import is_list, observations_of
from metrics_server.ingest.normalize import EVERYTHING, observation_of
from metrics_server.ingest.payload import grpc_frames
from metrics_server.ingest.reply import Forwarder, Replies
from metrics_server.ingest.request_id import digest_for
from metrics_server.ingest.sender_rules import RulesOf, as_sent
from metrics_server.ingest.slicing import SlicingRules
from metrics_server.ingest.trace import Headers, TraceOf, trace_id_of, untraced
from metrics_server.metrics.labels import FEEDBACK, OTHER, EventKind, Outcome
from metrics_server.pairing.observation import Erasure, Observation
from metrics_server.pairing.writer import Submission, SubmissionResult, Writer
from metrics_server.series.series import Labels
from metrics_server.telemetry import Telemetry

logger = logging.getLogger(__name__)

# Looked up once: an attribute of an enum takes 0.1 µs, and these are asked for several times an event.
ACCEPTED, PENDING = Outcome.ACCEPTED, Outcome.PENDING

KEPT_REJECTIONS = 100
MAX_BATCH_ROWS = 100_000  # after which the rest of a batch is refused

T = TypeVar("T")

# What is answered for a feedback item that was taken.
ITEM_RESPONSES = {
    outcome: Response(200, JSON, json.dumps({"status": outcome}).encode())
    for outcome in (ACCEPTED, Outcome.DUPLICATE, Outcome.ERASED, PENDING)
}
# A browser asks before it sends JSON to another site, and sends anything else unasked.
FEEDBACK_TYPES = frozenset(("", "application/json"))


# An observation and what makes the response when its result is known; or the response, where nothing has to be stored.
_Part: TypeAlias = "tuple[Observation, Callable[[SubmissionResult], Response]] | Response"


class RawPost(NamedTuple):
    """A POST, as it was read.

    Attributes:
        names: the parts of the path that vary: namespace and deployment, or none.
        events: the `ce-` headers as sent, without their prefix, in lower case.
        headers: all of them.
        body: not decompressed.
    """

    names: Sequence[str]
    content_type: str
    encoding: str
    events: Mapping[str, str]
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class Rejections:
    """Keeps the latest refused events: when, why and their ids; never their payloads."""

    def __init__(self) -> None:
        self._latest: deque[dict[str, Any]] = deque(maxlen=KEPT_REJECTIONS)

    def note(self, error: Rejected, event: Event | None, now: float) -> None:
        ids = {} if event is None else {"id": event.id, "source": event.source, "type": event.type}
        if event is not None and "requestid" in event.attributes:
            ids["requestid"] = event.attributes["requestid"]
        clipped = {name: value[:256] for name, value in ids.items() if value}
        self._latest.append({"time": now, "reason": error.reason.label, "detail": error.detail, **clipped})

    def forget(self, request_id: str) -> None:
        """Takes out what is told of a request."""
        for kept in [one for one in self._latest if one.get("requestid") == request_id[:256]]:
            self._latest.remove(kept)

    def latest(self) -> list[dict[str, Any]]:
        """Newest first."""
        return list(reversed(self._latest))


class Ingest:
    """Takes the bodies of event requests, and answers each once its effect is durable."""

    def __init__(
        self,
        writer: Writer,
        telemetry: Telemetry,
        defaults: Labels,
        *,
        max_body_bytes: int,
        slicing: SlicingRules = EVERYTHING,
        rules_of: RulesOf = as_sent,
        replies: Replies | None = None,
        forwarder: Forwarder | None = None,
        look_up: Callable[[Observation, Mapping[str, str]], None] | None = None,
        clock: Callable[[], float] = time.time,
        call_soon: Callable[[Callable[[], None]], object] = lambda callback: callback(),
        trace_of: TraceOf = untraced,
        has_exemplars: bool = False,
    ) -> None:
        """`call_soon` calls back when the event loop has read what has come meanwhile; `trace_of` tells the traces that
        lines of the log name; for exemplars each observation has the trace that it belongs to.
        """
        self._writer = writer
        self._telemetry = telemetry
        self._defaults = defaults
        self._slicing = slicing
        self.rules_of = (
            rules_of  # replaced when the configuration is read again; `as_sent` itself spares each event a look
        )
        self._max_body_bytes = max_body_bytes
        self._replies = replies
        self._forwarder = forwarder
        self._look_up = look_up
        self._clock = clock
        self._call_soon = call_soon
        self._trace_of = trace_of
        self._has_exemplars = has_exemplars
        self._part = self._traced_part if has_exemplars else self._untraced_part
        self._unlogged: dict[str, int] = {}  # feedback that was taken since the last line of the log, by trace
        self.rejections = Rejections()

    def respond_rejected(self, error: Rejected, respond: Respond, kind: EventKind = EventKind.UNKNOWN) -> None:
        """Answers what was refused before it was known of what it tells."""
        respond(self._refusal(error, kind))

    def respond_misdirected(self, posted: RawPost, detail: str, respond: Respond) -> None:
        """Answers events that were posted where none are taken."""
        event_id, source, event_type = (posted.events.get(name, "") for name in ("id", "source", "type"))
        event = Event(EventKind.UNKNOWN, event_id, source, event_type, attributes=posted.events)
        respond(self._refusal(Rejected(Reason.UNKNOWN_ROUTE, detail), EventKind.UNKNOWN, event))

    def respond_unavailable(self, detail: str, respond: Respond, kind: EventKind = EventKind.UNKNOWN) -> None:
        """Answers a request that cannot be taken now."""
        self._telemetry.answered(kind, Outcome.UNAVAILABLE)
        respond(unavailable_response(detail))

    def accept_events(self, posted: RawPost, respond: Respond) -> None:
        """Takes events; `respond` is called once, now or after the commit, in the event loop."""
        events = self._read(
            posted, lambda body: decode(posted.content_type, posted.events, body), respond, EventKind.UNKNOWN
        )
        if events is None:
            return
        if media_type(posted.content_type) == BATCH:
            self._accept_batch(events, respond, posted.headers)
        else:
            self.accept_event(events[0], respond, posted.headers)

    def accept_feedback(self, posted: RawPost, respond: Respond) -> None:
        """Takes feedback in plain JSON, one item or a list of them, and answers each with what became of it."""
        if media_type(posted.content_type) not in FEEDBACK_TYPES:
            self.respond_rejected(
                Rejected(Reason.UNSUPPORTED_FORMAT, "Content-Type must be application/json"),
                respond,
                FEEDBACK,
            )
            return
        found = self._read(
            posted,
            lambda body: (
                is_list(body),
                observations_of(body, self._defaults, self._clock(), self._slicing, self.rules_of),
            ),
            respond,
            FEEDBACK,
        )
        if found is None:
            return
        listed, observations = found
        if self._has_exemplars:
            trace_id = trace_id_of({}, posted.headers)
            observations = [
                one if isinstance(one, Rejected) else replace(one, trace_id=trace_id) for one in observations
            ]
        for observation in observations:
            if not isinstance(observation, Rejected):
                self._announce(observation, {}, posted.headers)
        parts: list[_Part] = [
            self._refusal(observation, FEEDBACK)
            if isinstance(observation, Rejected)
            else (observation, partial(self._respond_to_item, observation))
            for observation in observations
        ]
        self._submit(parts, lambda responses: respond(batch_response(responses, statuses) if listed else responses[0]))

    def accept_seldon_feedback(self, posted: RawPost, respond: Respond) -> None:
        """Takes a feedback as Seldon's ingress does, and answers as it does."""
        try:
            puid = ingress.puid_of(posted.headers)
        except Rejected as error:
            self.respond_rejected(error, respond, FEEDBACK)
            return
        echoed = {ingress.PUID: puid} if puid else {}

        def respond_as_there(response: Response) -> None:
            if response.status == 200:
                response = Response(200, JSON, ingress.REPLY)
            respond(response._replace(headers={**response.headers, **echoed}))

        event = self._read(
            posted,
            lambda body: ingress.feedback_of(posted.names, puid, posted.content_type, body),
            respond_as_there,
            FEEDBACK,
        )
        if event is not None:
            self.accept_event(event, respond_as_there, posted.headers)

    def _read(self, posted: RawPost, read: Callable[[bytes], T], respond: Respond, kind: EventKind) -> T | None:
        """Reads a body; None when it could not be read, which is answered then."""
        try:
            return read(decompressed(posted.body, posted.encoding, self._max_body_bytes))
        except Rejected as error:
            self.respond_rejected(error, respond, kind)
        except Exception:  # a bug of ours must not leave the sender waiting
            trace_id = self._trace_of(posted.events, posted.headers)
            logger.exception("A request could not be read", extra={"trace_id": trace_id})
            self.respond_unavailable("internal error", respond, kind)
        return None

    def accept_event(self, event: Event | Rejected, respond: Respond, headers: Headers = ()) -> None:
        """Takes one decoded event; `respond` is called once, now or after the commit, in the event loop. `headers` are
        those of its request, if it came in one.
        """
        part = self._part(event, self._clock(), headers)
        if isinstance(part, Response):
            respond(part)
            return
        observation, response_of = part
        try:
            self._writer.submit(Submission([observation], lambda results: respond(response_of(results[0]))))
        except Unavailable as error:
            respond(response_of(error))

    def _accept_batch(self, events: Sequence[Event | Rejected], respond: Respond, headers: Headers) -> None:
        now, rows, parts = self._clock(), 0, list[_Part]()
        for event in events:
            if rows > MAX_BATCH_ROWS and isinstance(event, Event):
                detail = f"a batch: more than {MAX_BATCH_ROWS} rows; send several batches"
                event = Rejected(Reason.TOO_MANY_ROWS, detail)  # noqa: PLW2901
            parts.append(part := self._part(event, now, headers))
            rows += 0 if isinstance(part, Response) else len(part[0].rows) + part[0].more_rows
        self._submit(parts, lambda responses: respond(batch_response(responses, refusals)))

    def erase(self, request_id: str, labels: Labels, on_result: Callable[[SubmissionResult], None]) -> None:
        """Takes back everything that is kept of a request, durably before the result is told: ERASED, IGNORED where
        nothing is kept of it, or `Unavailable`.

        Args:
            request_id: any id of it.
            labels: of its deployment, which tells by what rules the id is digested.
            on_result: is called once, in the event loop.
        """
        labels = Labels(*(part or default for part, default in zip(labels, self._defaults, strict=True)))
        digest = digest_for(labels, self.rules_of)(request_id)
        self.rejections.forget(request_id)
        try:
            self._writer.submit(Submission([Erasure(digest, request_id)], lambda results: on_result(results[0])))
        except Unavailable as error:
            on_result(error)

    def _traced_part(self, event: Event | Rejected, now: float, headers: Headers) -> _Part:
        """Does what `_untraced_part` does, and notes the trace."""
        part = self._untraced_part(event, now, headers)
        if isinstance(part, Response) or isinstance(event, Rejected):
            return part
        observation, response_of = part
        return replace(observation, trace_id=trace_id_of(event.attributes, headers)), response_of

    def _untraced_part(self, event: Event | Rejected, now: float, headers: Headers) -> _Part:
        """Normalizes an event, and says how to respond to its result; or makes its response, if that is known."""
        if isinstance(event, Rejected):
            return self._refusal(event, EventKind.UNKNOWN)
        if event.kind is OTHER:
            self._telemetry.answered(OTHER, Outcome.IGNORED)
            return EMPTY
        try:
            if event.content_type and grpc_frames.is_grpc(event.content_type):
                event = grpc_frames.with_plain_messages(event, self._max_body_bytes)
            observation = observation_of(event, self._defaults, now, self._slicing, self.rules_of)
        except Rejected as error:
            return self._refusal(error, event.kind, event)
        except Exception:  # a bug of ours must not leave the sender waiting
            trace_id = self._trace_of(event.attributes, headers)
            logger.exception("An event of kind %s could not be read", event.kind, extra={"trace_id": trace_id})
            return self._respond_to(event, Unavailable("internal error"))
        self._announce(observation, event.attributes, headers)
        return observation, partial(self._respond_to, event, observation=observation)

    def _submit(self, parts: Sequence[_Part], respond: Callable[[list[Response]], None]) -> None:
        """Queues what came together as one submission, and answers all of it together."""
        waiting = [(index, *part) for index, part in enumerate(parts) if not isinstance(part, Response)]
        responses = [part if isinstance(part, Response) else EMPTY for part in parts]

        def on_result(results: Sequence[SubmissionResult]) -> None:
            for (index, _, response_of), result in zip(waiting, results, strict=True):
                responses[index] = response_of(result)
            respond(responses)

        observations = [observation for _, observation, _ in waiting]
        if not observations:
            respond(responses)
            return
        try:
            self._writer.submit(Submission(observations, on_result))
        except Unavailable as error:
            on_result([error] * len(observations))

    def _announce(self, observation: Observation, attributes: Mapping[str, str], headers: Headers) -> None:
        """Counts an event whose time is not believed, and has a feedback logged."""
        if observation.clamped:
            self._telemetry.clamped.inc()
        if observation.kind is FEEDBACK:
            is_first, trace_id = not self._unlogged, self._trace_of(attributes, headers)
            self._unlogged[trace_id] = self._unlogged.get(trace_id, 0) + 1
            if is_first:
                self._call_soon(self._log_feedback)

    def _log_feedback(self) -> None:
        """Logs a line for each feedback: users of the ancestor grep and count them. One record stands for all of a
        trace.
        """
        unlogged, self._unlogged = self._unlogged, {}
        for trace_id, times in unlogged.items():
            logger.info("PROCESSING Feedback Event.", extra={"times": times, "trace_id": trace_id})

    def _respond_to_item(self, observation: Observation, result: SubmissionResult) -> Response:
        if not isinstance(result, str):
            return self._respond_to(Event(kind=FEEDBACK, attributes={"requestid": observation.request_id}), result)
        if result == PENDING and self._look_up is not None:
            self._look_up(observation, {"modelid": observation.labels.model})
        self._telemetry.answered(FEEDBACK, ACCEPTED if result == PENDING else result)
        return ITEM_RESPONSES[result]

    def _respond_to(self, event: Event, result: SubmissionResult, observation: Observation | None = None) -> Response:
        """Counts what became of an event, and says what its sender is to be told."""
        if isinstance(result, Unavailable):
            self._telemetry.answered(event.kind, Outcome.UNAVAILABLE)
            return unavailable_response(str(result))
        if isinstance(result, Rejected):
            return self._refusal(result, event.kind, event)
        if result == PENDING:
            result = ACCEPTED
            if self._look_up is not None and observation is not None:
                # Its prediction may be found elsewhere; the truth is safe here.
                self._look_up(observation, event.attributes)
        self._telemetry.answered(event.kind, result)
        return EMPTY if self._replies is None or event.kind != FEEDBACK else self._reply(event, result)

    def _reply(self, event: Event, outcome: str) -> Response:
        assert self._replies is not None
        headers, body = reply = self._replies.reply_to(event)
        if self._forwarder is not None and outcome == ACCEPTED:
            self._forwarder.send(reply)
        return Response(200, headers, body)

    def _refusal(self, error: Rejected, kind: EventKind, event: Event | None = None) -> Response:
        self._telemetry.answered(kind, Outcome.REJECTED, error.reason)
        self.rejections.note(error, event, self._clock())
        return rejected_response(error)
