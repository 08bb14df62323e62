"""Charts as data, made from responses of the API. `figure` draws them; the page and notebooks show the same ones."""

from __future__ import annotations

from metrics_server.web.chart.chart import Chart, metric_title
from metrics_server.web.chart.decision import confusion_matrix, reliability, score_histogram, threshold_curve
from metrics_server.web.chart.distribution import class_shares, error_distribution, label_delay
from metrics_server.web.chart.health import SelfSample, commit_times, event_rates
from metrics_server.web.chart.history import MOST_COMPARED, compared_over_time, metric_over_time, output_quantiles

__all__ = [
    "MOST_COMPARED",
    "Chart",
    "SelfSample",
    "class_shares",
    "commit_times",
    "compared_over_time",
    "confusion_matrix",
    "error_distribution",
    "event_rates",
    "label_delay",
    "metric_over_time",
    "metric_title",
    "output_quantiles",
    "reliability",
    "score_histogram",
    "threshold_curve",
]
