"""The algebra of metrics, and what a metric model is made of: all that a metric model of your own imports stands here.

A model turns labelled predictions into `Sums` and sums into `Sample`s (see `MetricModel`), and may say in `families`
what its samples mean (`GaugeSpec`, `CounterSpec`). The functions from `wilson` to `of_difference` make 95 % intervals,
a `LogHistogram` reads quantiles, and a `SequentialEstimate` is what a value tells to be looked at again and again.
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
)
from metrics_server.metrics.sums import ROUNDING, SEPARATOR, Sums, component

__all__ = [
    "NEARLY_ZERO",
    "OTHER_CLASSES",
    "ROUNDING",
    "SEPARATOR",
    "VOCABULARIES_DIFFER",
    "AncestorCounting",
    "Array",
    "AsymptoticEstimate",
    "CounterSpec",
    "Counting",
    "Families",
    "GaugeSpec",
    "Interval",
    "LogHistogram",
    "MetricModel",
    "Moments",
    "Sample",
    "Sequential",
    "SequentialEstimate",
    "ShareEstimate",
    "Sums",
    "Tabular",
    "bin_counts",
    "bin_rows",
    "component",
    "effective_weight",
    "mean_estimate",
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
