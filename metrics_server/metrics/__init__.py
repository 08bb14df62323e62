"""The algebra of metrics, and what a metric model is made of: all that a metric model of your own imports stands here.

A model turns labelled predictions into `Sums` and sums into `Sample`s (see `MetricModel`), and may say in `families`
what its samples mean (`GaugeSpec`, `CounterSpec`). The functions named `…_interval` make 95 % intervals, a
`LogHistogram` reads quantiles, a `SequentialEstimate` is what a value tells to be looked at again and again, a `Rate`
is what groups are compared by, and a `Cell` what pairs are given a value by.
"""

from metrics_server.metrics.confidence import (
    Interval,
    RatioMean,
    correlation_interval,
    difference_interval,
    effective_weight,
    estimate_interval,
    mean_interval,
    quotient_variance,
    ratio_interval,
    ratio_means,
    skewed_mean_interval,
    wilson_interval,
)
from metrics_server.metrics.group import SELECTION, Rate, Rated
from metrics_server.metrics.log_histogram import NEARLY_ZERO, LogHistogram, Moments, bin_counts, bin_rows
from metrics_server.metrics.model import (
    OTHER_CLASSES,
    VOCABULARIES_DIFFER,
    AncestorCounting,
    Array,
    CounterSpec,
    Counting,
    Families,
    GaugeSpec,
    MetricModel,
    Sample,
    Tabular,
)
from metrics_server.metrics.sequential.estimate import (
    AsymptoticEstimate,
    Sequential,
    SequentialEstimate,
    ShareEstimate,
    mean_estimate,
    share_estimate,
    unseen_variance,
)
from metrics_server.metrics.sums import ROUNDING, SEPARATOR, Sums, component
from metrics_server.metrics.value import Cell, Cut, Valued

__all__ = [
    "NEARLY_ZERO",
    "OTHER_CLASSES",
    "ROUNDING",
    "SELECTION",
    "SEPARATOR",
    "VOCABULARIES_DIFFER",
    "AncestorCounting",
    "Array",
    "AsymptoticEstimate",
    "Cell",
    "CounterSpec",
    "Counting",
    "Cut",
    "Families",
    "GaugeSpec",
    "Interval",
    "LogHistogram",
    "MetricModel",
    "Moments",
    "Rate",
    "Rated",
    "RatioMean",
    "Sample",
    "Sequential",
    "SequentialEstimate",
    "ShareEstimate",
    "Sums",
    "Tabular",
    "Valued",
    "bin_counts",
    "bin_rows",
    "component",
    "correlation_interval",
    "difference_interval",
    "effective_weight",
    "estimate_interval",
    "mean_estimate",
    "mean_interval",
    "quotient_variance",
    "ratio_interval",
    "ratio_means",
    "share_estimate",
    "skewed_mean_interval",
    "unseen_variance",
    "wilson_interval",
]
