"""Answers: what a sender gets for one thing that it sent, and for several that came together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from metrics_server.errors import Rejected, Unauthorized

RETRY_AFTER_SECONDS = 1
JSON = {"Content-Type": "application/json"}


class Response(NamedTuple):
    """An HTTP answer, without the headers that frame it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Respond = Callable[[Response], None]

EMPTY = Response(200, {}, b"")


def error_response(status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The one shape of every error: {"error": {"reason", "detail"}}."""
    body = json.dumps({"error": {"reason": reason, "detail": detail}}).encode()
    return Response(status, {**JSON, **(headers or {})}, body)


def rejected_response(error: Rejected) -> Response:
    """The answer to a sender whose fault it is."""
    extra = {"WWW-Authenticate": error.challenge} if isinstance(error, Unauthorized) else None
    return error_response(error.status, error.reason.label, error.detail, extra)


def unavailable_response(detail: str) -> Response:
    """The answer to a sender that should come again."""
    return error_response(503, "unavailable", detail, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def batch_response(answers: Sequence[Response], listed: Callable[[Sequence[Response]], bytes]) -> Response:
    """The one answer to several things that came together.

    503 if anything has to come again (what was applied is then a repeat); else what `listed` makes of the answers, with
    400 if every one was refused.
    """
    again = next((answer for answer in answers if answer.status == 503), None)
    if again is not None:
        return again
    is_refused = bool(answers) and all(answer.status != 200 for answer in answers)
    body = listed(answers)
    return Response(400 if is_refused else 200, JSON, body) if body else EMPTY


def refusals(answers: Sequence[Response]) -> bytes:
    """Tells what was refused, by index; empty if nothing was."""
    failed = [{"index": index, **_error_in(answer)} for index, answer in enumerate(answers) if answer.status != 200]
    return json.dumps(failed).encode() if failed else b""


def statuses(answers: Sequence[Response]) -> bytes:
    """The status of each, in their order."""
    shown = (
        a.body if a.status == 200 else json.dumps({"status": "rejected", **_error_in(a)}).encode() for a in answers
    )
    return b"[" + b", ".join(shown) + b"]"


def _error_in(answer: Response) -> dict[str, str]:
    return json.loads(answer.body)["error"]  # type: ignore[no-any-return]
