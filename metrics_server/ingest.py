"""From a request's body to its answer: the order of the steps stands here and nowhere else.

decompress → decode → normalise → queue; then, when the writer has committed: count → answer.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from metrics_server import ingress
from metrics_server.answer import EMPTY, JSON, Answer, Answered, batch_answer, refusals, rejected_answer, statuses, unavailable_answer
from metrics_server.body import decompressed
from metrics_server.errors import Reason, Rejected, Unavailable
from metrics_server.event import BATCH, FEEDBACK, OTHER, UNKNOWN, Event, decode, media_type
from metrics_server.group import DUPLICATE, PARKED
from metrics_server.half import EVERYTHING, Half, half_of
from metrics_server.reply import Forwarder, Replies
from metrics_server.selection import Selection
from metrics_server.series import Labels
from metrics_server.statement import halves_of, is_list
from metrics_server.telemetry import ACCEPTED, IGNORED, REJECTED, UNAVAILABLE, Telemetry
from metrics_server.writer import Settled, Submission, Writer

logger = logging.getLogger(__name__)

KEPT_REJECTIONS = 100
MAX_BATCH_ROWS = 100_000  # after which the rest of a batch is refused

T = TypeVar("T")

# What is answered for a statement that was taken.
TAKEN = {outcome: Answer(200, JSON, json.dumps({"status": outcome}).encode()) for outcome in (ACCEPTED, DUPLICATE, PARKED)}
# A browser asks before it sends JSON to another site, and sends anything else unasked.
STATEMENT_TYPES = frozenset(("", "application/json"))


# A half and what gives the answer when its outcome is known; or the answer, where nothing has to be stored.
_Part: TypeAlias = "tuple[Half, Callable[[Settled], Answer]] | Answer"


class Posted(NamedTuple):
    """A POST, as it was read.

    Attributes:
        path: without the query.
        events: the `ce-` headers as sent, without their prefix, in lower case.
        headers: all of them.
        body: not decompressed.
    """

    path: str
    content_type: str
    encoding: str
    events: Mapping[str, str]
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class Rejections:
    """The latest refused events: when, why and their ids; never their payloads."""

    def __init__(self) -> None:
        self._latest: deque[dict[str, Any]] = deque(maxlen=KEPT_REJECTIONS)

    def note(self, error: Rejected, event: Event | None, now: float) -> None:
        ids = {} if event is None else {"id": event.id, "source": event.source, "type": event.type}
        if event is not None and "requestid" in event.attributes:
            ids["requestid"] = event.attributes["requestid"]
        clipped = {name: value[:256] for name, value in ids.items() if value}
        self._latest.append({"time": now, "reason": error.reason.label, "detail": error.detail, **clipped})

    def latest(self) -> list[dict[str, Any]]:
        """Newest first."""
        return list(reversed(self._latest))


class Ingest:
    """Takes the body of an event request and answers it once its effect is durable."""

    def __init__(
        self,
        writer: Writer,
        telemetry: Telemetry,
        defaults: Labels,
        *,
        max_body_bytes: int,
        selection: Selection = EVERYTHING,
        replies: Replies | None = None,
        forwarder: Forwarder | None = None,
        look_up: Callable[[Half, Mapping[str, str]], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._writer = writer
        self._telemetry = telemetry
        self._defaults = defaults
        self._selection = selection
        self._max_body_bytes = max_body_bytes
        self._replies = replies
        self._forwarder = forwarder
        self._look_up = look_up
        self._clock = clock
        self.rejections = Rejections()

    def refuse(self, error: Rejected, answered: Answered, kind: str = UNKNOWN) -> None:
        """Answers what was refused before it was known of what it tells."""
        answered(self._refusal(error, kind))

    def turn_away(self, detail: str, answered: Answered, kind: str = UNKNOWN) -> None:
        """Answers a request that cannot be taken now."""
        self._telemetry.answered(kind, UNAVAILABLE)
        answered(unavailable_answer(detail))

    def take(self, posted: Posted, answered: Answered) -> None:
        """Takes events; `answered` is called once, now or after the commit, in the event loop."""
        events = self._read(posted, lambda body: decode(posted.content_type, posted.events, body), answered, UNKNOWN)
        if events is None:
            return
        if media_type(posted.content_type) == BATCH:
            self._take_batch(events, answered)
        else:
            self.take_event(events[0], answered)

    def take_statements(self, posted: Posted, answered: Answered) -> None:
        """Takes feedback in plain JSON, one object or a list of them, and answers each with what became of it."""
        if media_type(posted.content_type) not in STATEMENT_TYPES:
            self.refuse(Rejected(Reason.UNSUPPORTED_FORMAT, "Content-Type must be application/json"), answered, FEEDBACK)
            return
        found = self._read(
            posted,
            lambda body: (is_list(body), halves_of(body, self._defaults, self._clock(), self._selection)),
            answered,
            FEEDBACK,
        )
        if found is None:
            return
        listed, halves = found
        parts: list[_Part] = [
            self._refusal(half, FEEDBACK) if isinstance(half, Rejected) else (half, partial(self._answer_to_statement, half))
            for half in halves
        ]
        self._submit(parts, lambda answers: answered(batch_answer(answers, statuses) if listed else answers[0]))

    def take_from_ingress(self, posted: Posted, answered: Answered) -> None:
        """Takes a feedback as Seldon's ingress does, and answers as it does."""
        try:
            puid = ingress.puid_of(posted.headers)
        except Rejected as error:
            self.refuse(error, answered, FEEDBACK)
            return
        echoed = {ingress.PUID: puid} if puid else {}

        def answered_as_there(answer: Answer) -> None:
            if answer.status == 200:
                answer = Answer(200, JSON, ingress.REPLY)
            answered(answer._replace(headers={**answer.headers, **echoed}))

        event = self._read(
            posted, lambda body: ingress.feedback_of(posted.path, puid, posted.content_type, body), answered_as_there, FEEDBACK
        )
        if event is not None:
            self.take_event(event, answered_as_there)

    def _read(self, posted: Posted, read: Callable[[bytes], T], answered: Answered, kind: str) -> T | None:
        """What a body says; None when it could not be read, which is answered then."""
        try:
            return read(decompressed(posted.body, posted.encoding, self._max_body_bytes))
        except Rejected as error:
            self.refuse(error, answered, kind)
        except Exception:  # a bug of ours must not leave the sender waiting
            logger.exception("A request could not be read")
            self.turn_away("internal error", answered, kind)
        return None

    def take_event(self, event: Event | Rejected, answered: Answered) -> None:
        """Takes one decoded event; `answered` is called once, now or after the commit, in the event loop."""
        self._submit([self._part(event, self._clock())], lambda answers: answered(answers[0]))

    def _take_batch(self, events: Sequence[Event | Rejected], answered: Answered) -> None:
        now, rows, parts = self._clock(), 0, list[_Part]()
        for event in events:
            if rows > MAX_BATCH_ROWS and isinstance(event, Event):
                event = Rejected(Reason.TOO_MANY_ROWS, f"a batch: more than {MAX_BATCH_ROWS} rows; send several batches")  # noqa: PLW2901
            parts.append(part := self._part(event, now))
            rows += 0 if isinstance(part, Answer) else len(part[0].arrivals)
        self._submit(parts, lambda answers: answered(batch_answer(answers, refusals)))

    def _part(self, event: Event | Rejected, now: float) -> _Part:
        """What an event brings, and how to answer it; or its answer, if that is known."""
        if isinstance(event, Rejected):
            return self._refusal(event, UNKNOWN)
        if event.kind == OTHER:
            self._telemetry.answered(OTHER, IGNORED)
            return EMPTY
        try:
            half = half_of(event, self._defaults, now, self._selection)
        except Rejected as error:
            return self._refusal(error, event.kind, event)
        except Exception:  # a bug of ours must not leave the sender waiting
            logger.exception("An event of kind %s could not be read", event.kind)
            return self._answer_to(event, Unavailable("internal error"))
        return half, partial(self._answer_to, event, half=half)

    def _submit(self, parts: Sequence[_Part], answered: Callable[[list[Answer]], None]) -> None:
        """Queues what came together as one, and answers all of it together."""
        waiting = [(index, *part) for index, part in enumerate(parts) if not isinstance(part, Answer)]
        answers = [part if isinstance(part, Answer) else EMPTY for part in parts]

        def done(outcomes: Sequence[Settled]) -> None:
            for (index, _, answer_to), settled in zip(waiting, outcomes, strict=True):
                answers[index] = answer_to(settled)
            answered(answers)

        halves = [half for _, half, _ in waiting]
        self._announce(halves)
        if not halves:
            answered(answers)
            return
        try:
            self._writer.submit(Submission(halves, done))
        except Unavailable as error:
            done([error] * len(halves))

    def _announce(self, halves: Sequence[Half]) -> None:
        clamped = feedback = 0
        for half in halves:
            clamped += half.clamped
            feedback += half.kind == FEEDBACK
        if clamped:
            self._telemetry.clamped.inc(clamped)
        if feedback:  # a line for each: users of the ancestor grep and count them
            logger.info("PROCESSING Feedback Event.", extra={"times": feedback})

    def _answer_to_statement(self, half: Half, settled: Settled) -> Answer:
        if not isinstance(settled, str):
            return self._answer_to(Event(kind=FEEDBACK, attributes={"requestid": half.request_id}), settled)
        if settled == PARKED and self._look_up is not None:
            self._look_up(half, {"modelid": half.labels.model})
        self._telemetry.answered(FEEDBACK, ACCEPTED if settled == PARKED else settled)
        return TAKEN[settled]

    def _answer_to(self, event: Event, settled: Settled, half: Half | None = None) -> Answer:
        """Counts what became of an event, and says what its sender is to be told."""
        if isinstance(settled, Unavailable):
            self._telemetry.answered(event.kind, UNAVAILABLE)
            return unavailable_answer(str(settled))
        if isinstance(settled, Rejected):
            return self._refusal(settled, event.kind, event)
        if settled == PARKED:
            settled = ACCEPTED
            if self._look_up is not None and half is not None:
                self._look_up(half, event.attributes)  # its prediction may be found elsewhere; the truth is safe here
        self._telemetry.answered(event.kind, settled)
        return EMPTY if self._replies is None or event.kind != FEEDBACK else self._reply(event, settled)

    def _reply(self, event: Event, outcome: str) -> Answer:
        assert self._replies is not None
        headers, body = reply = self._replies.reply_to(event)
        if self._forwarder is not None and outcome == ACCEPTED:
            self._forwarder.send(reply)
        return Answer(200, headers, body)

    def _refusal(self, error: Rejected, kind: str, event: Event | None = None) -> Answer:
        self._telemetry.answered(kind, REJECTED, error.reason)
        self.rejections.note(error, event, self._clock())
        return rejected_answer(error)
