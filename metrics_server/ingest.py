"""From a request's body to its answer: the order of the steps stands here and nowhere else.

decompress → decode → normalise → queue; then, when the writer has committed: count → answer.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from metrics_server.body import decompressed
from metrics_server.errors import Reason, Rejected, Unavailable
from metrics_server.event import BATCH, FEEDBACK, OTHER, UNKNOWN, Event, decode, media_type
from metrics_server.group import PARKED
from metrics_server.half import EVERYTHING, half_of
from metrics_server.reply import Forwarder, Replies
from metrics_server.selection import Selection
from metrics_server.series import Labels
from metrics_server.telemetry import ACCEPTED, IGNORED, REJECTED, UNAVAILABLE, Telemetry
from metrics_server.writer import Settled, Submission, Writer

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1
KEPT_REJECTIONS = 100


class Answer(NamedTuple):
    """An HTTP answer, without the headers that frame it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Answered = Callable[[Answer], None]

EMPTY = Answer(200, {}, b"")


def error_answer(status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> Answer:
    """The one shape of every error: {"error": {"reason", "detail"}}."""
    body = json.dumps({"error": {"reason": reason, "detail": detail}}).encode()
    return Answer(status, {"Content-Type": "application/json", **(headers or {})}, body)


def rejected_answer(error: Rejected) -> Answer:
    """The answer to a sender whose fault it is."""
    extra = {"WWW-Authenticate": "Bearer"} if error.reason is Reason.UNAUTHORIZED else None
    return error_answer(error.status, error.reason.label, error.detail, extra)


def unavailable_answer(detail: str) -> Answer:
    """The answer to a sender that should come again."""
    return error_answer(503, "unavailable", detail, {"Retry-After": str(RETRY_AFTER_SECONDS)})


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
        look_up: Callable[[Event], None] | None = None,
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

    def refuse(self, error: Rejected, answered: Answered) -> None:
        """Answers a request that was refused before its body was looked at."""
        self._reject(error, UNKNOWN, None)
        answered(rejected_answer(error))

    def turn_away(self, detail: str, answered: Answered) -> None:
        """Answers a request that cannot be taken now."""
        self._telemetry.answered(UNKNOWN, UNAVAILABLE)
        answered(unavailable_answer(detail))

    def take(self, content_type: str, encoding: str, headers: Mapping[str, str], body: bytes, answered: Answered) -> None:
        """Takes one request; `answered` is called once, now or after the commit, in the event loop."""
        try:
            events = decode(content_type, headers, decompressed(body, encoding, self._max_body_bytes))
        except Rejected as error:
            self.refuse(error, answered)
            return
        except Exception:  # a bug of ours must not leave the sender waiting
            logger.exception("A request could not be read")
            self.turn_away("internal error", answered)
            return
        if media_type(content_type) == BATCH:
            _Batch(answered).take(events, self.take_event)
        else:
            self.take_event(events[0], answered)

    def take_event(self, event: Event | Rejected, answered: Answered) -> None:
        """Takes one decoded event; `answered` is called once, now or after the commit, in the event loop."""
        if isinstance(event, Rejected):
            self.refuse(event, answered)
            return
        if event.kind == OTHER:
            self._telemetry.answered(OTHER, IGNORED)
            answered(EMPTY)
            return
        try:
            half = half_of(event, self._defaults, self._clock(), self._selection)
        except Rejected as error:
            self._reject(error, event.kind, event)
            answered(rejected_answer(error))
            return
        except Exception:  # a bug of ours must not leave the sender waiting
            logger.exception("An event of kind %s could not be read", event.kind)
            self._settled(event, Unavailable("internal error"), answered)
            return
        if half.clamped:
            self._telemetry.clamped.inc()
        if half.kind == FEEDBACK:
            logger.info("PROCESSING Feedback Event.")  # users of the ancestor grep this line
        try:
            self._writer.submit(Submission(half, lambda settled: self._settled(event, settled, answered)))
        except Unavailable as error:
            self._settled(event, error, answered)

    def _settled(self, event: Event, settled: Settled, answered: Answered) -> None:
        if isinstance(settled, Unavailable):
            self._telemetry.answered(event.kind, UNAVAILABLE)
            answered(unavailable_answer(str(settled)))
        elif isinstance(settled, Rejected):
            self._reject(settled, event.kind, event)
            answered(rejected_answer(settled))
        else:
            if settled == PARKED:
                settled = ACCEPTED
                if self._look_up is not None:
                    self._look_up(event)  # its prediction may be found elsewhere; the truth is safe here
            self._telemetry.answered(event.kind, settled)
            answered(EMPTY if self._replies is None or event.kind != FEEDBACK else self._reply(event, settled))

    def _reply(self, event: Event, outcome: str) -> Answer:
        assert self._replies is not None
        headers, body = reply = self._replies.reply_to(event)
        if self._forwarder is not None and outcome == ACCEPTED:
            self._forwarder.send(reply)
        return Answer(200, headers, body)

    def _reject(self, error: Rejected, kind: str, event: Event | None) -> None:
        self._telemetry.answered(kind, REJECTED, error.reason)
        self.rejections.note(error, event, self._clock())


class _Batch:
    """Gathers the answers of a batch's elements into one."""

    def __init__(self, answered: Answered) -> None:
        self._answered = answered
        self._answers: dict[int, Answer] = {}
        self._expected = 0

    def take(self, events: Sequence[Event | Rejected], one: Callable[[Event | Rejected, Answered], None]) -> None:
        self._expected = len(events)
        if not events:
            self._answered(EMPTY)
        for index, event in enumerate(events):
            one(event, lambda answer, index=index: self._gather(index, answer))  # type: ignore[misc]

    def _gather(self, index: int, answer: Answer) -> None:
        self._answers[index] = answer
        if len(self._answers) == self._expected:
            self._answered(self._combined())

    def _combined(self) -> Answer:
        """503 if anything has to come again (what was applied is then a repeat); else what was refused, by index."""
        failed = {index: answer for index, answer in sorted(self._answers.items()) if answer.status != 200}
        if not failed:
            return EMPTY
        for answer in failed.values():
            if answer.status == 503:
                return answer
        status = 400 if len(failed) == self._expected else 200
        errors = [{"index": index, **json.loads(answer.body)["error"]} for index, answer in failed.items()]
        return Answer(status, {"Content-Type": "application/json"}, json.dumps(errors).encode())
