"""The picture of a series' trend: its headline in a window."""

from __future__ import annotations

from metrics_server.api.responses import headline_of
from metrics_server.api.schema import MetricValue
from metrics_server.api.service import Api
from metrics_server.metrics.sums import Sums
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.series import Series
from metrics_server.web.page_request import PageRequest
from metrics_server.web.sparkline import sparkline

STEPS = 24  # at most: more would show the chance of few labels, on so little space


def trend(api: Api, page_request: PageRequest) -> bytes:
    """Draws the headline of a series in a window as SVG."""
    return sparkline(api.history(page_request.segments, page_request.span, page_request.deadline, _headline, STEPS))


def _headline(evaluator: Evaluator, series: Series, sums: Sums) -> list[MetricValue]:
    """Computes the headline alone: the other values of a step take ten times as long."""
    headline = headline_of(evaluator, series, sums)
    return [] if headline is None else [headline]
