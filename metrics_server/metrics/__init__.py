"""The algebra of metrics: sums, windows, intervals, and what a metric model is; users' metric models import from
here.

    from metrics_server.metrics import Sample, effective_weight, of_mean
"""

from metrics_server.metrics.confidence import (
    Interval,
    effective_weight,
    of_correlation,
    of_difference,
    of_estimate,
    of_mean,
    of_mean_of_ratios,
    of_ratio,
    of_skewed,
    quotient_variance,
    wilson,
)
from metrics_server.metrics.model import Array, MetricModel, Sample
from metrics_server.metrics.sums import Sums, component

__all__ = [
    "Array",
    "Interval",
    "MetricModel",
    "Sample",
    "Sums",
    "component",
    "effective_weight",
    "of_correlation",
    "of_difference",
    "of_estimate",
    "of_mean",
    "of_mean_of_ratios",
    "of_ratio",
    "of_skewed",
    "quotient_variance",
    "wilson",
]
