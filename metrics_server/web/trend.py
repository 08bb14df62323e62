"""The picture of a series' trend: its headline in a window."""

from __future__ import annotations

from metrics_server.api import Api
from metrics_server.api_answer import Value
from metrics_server.listing import headline_of
from metrics_server.readings import Reader
from metrics_server.series import Series
from metrics_server.sums import Sums
from metrics_server.web.question import Question
from metrics_server.web.sparkline import sparkline

STEPS = 24  # at most: more would show the chance of few labels, on so little space


def trend(api: Api, question: Question) -> bytes:
    """SVG."""
    return sparkline(api.history(question.parts, question.span, question.patience, _headline, STEPS))


def _headline(reader: Reader, series: Series, sums: Sums) -> list[Value]:
    """That value alone: the others of a step take ten times as long."""
    headline = headline_of(reader, series, sums)
    return [] if headline is None else [headline]
