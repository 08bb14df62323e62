"""The picture of a series' trend: its headline in a window."""

from __future__ import annotations

from metrics_server.api import Api
from metrics_server.web.question import Question
from metrics_server.web.sparkline import sparkline


def trend(api: Api, question: Question) -> bytes:
    """SVG."""
    history = api.history(question.parts, question.span, question.patience)
    headline = api.reading(question.parts, {"window": question.window}).headline
    return sparkline(history, headline or "")
