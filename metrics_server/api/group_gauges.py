"""The comparison of groups as gauges, for a server that is asked to expose it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import UNSET

from metrics_server.api.gauges import Gauge
from metrics_server.api.groups import GroupReports
from metrics_server.api.schema import Group, GroupReport
from metrics_server.series.families import series_labels
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels, Series
from metrics_server.series.totals import Totals

_FIELDS = {
    "model_group_difference": "difference",
    "model_group_difference_lower": "difference_lower",
    "model_group_difference_upper": "difference_upper",
    "model_group_ratio": "ratio",
    "model_group_ratio_lower": "ratio_lower",
    "model_group_ratio_upper": "ratio_upper",
    "model_group_holm_p_value": "holm_p_value",
}


class GroupGauges:
    """Reads the gauges of all groups. Those of a series are kept until the sums of any of its groups change."""

    def __init__(self, registry: SeriesRegistry, totals: Totals, reports: GroupReports, windows: Sequence[str]) -> None:
        self._registry = registry
        self._totals = totals
        self._reports = reports
        self._windows = windows
        self._kept: dict[int, tuple[object, list[Gauge]]] = {}

    def read(self) -> Iterator[Gauge]:
        """Yields them, series by series."""
        kept = {
            series.id: self._of_series(series)
            for series in self._registry.parents()
            if self._reports.references_of(series.labels)
        }
        self._kept = kept
        for _, gauges in kept.values():
            yield from gauges

    def _of_series(self, series: Series) -> tuple[object, list[Gauge]]:
        version = self._version(series)  # before the sums: at worst they are read once more
        kept = self._kept.get(series.id)
        if kept is not None and kept[0] == version:
            return kept
        reports = ((window, each) for window in self._windows for each in self._reports.reports(series, window))
        return version, [gauge for window, report in reports for gauge in _gauges(series.labels, window, report)]

    def _version(self, series: Series) -> object:
        references = self._reports.references_of(series.labels)
        slices = [each.id for name in references for each in self._reports.slices_of(series, name).values()]
        return (
            sorted(references.items()),
            self._reports.min_support,
            [(each, self._totals.version(each)) for each in slices],
        )


def _gauges(labels: Labels, window: str, report: GroupReport) -> Iterator[Gauge]:
    of_report = {
        **series_labels(labels),
        "reference": f"{report.dimension}={report.reference}",
        "window": window,
    }
    for group in report.groups:
        yield from _gauges_of({**of_report, "slice": f"{report.dimension}={group.group}"}, group)


def _gauges_of(labels: Mapping[str, str], group: Group) -> Iterator[Gauge]:
    for rate in group.rates:
        for name, field in _FIELDS.items():
            if (value := getattr(rate, field)) is not UNSET:
                yield Gauge(name, {**labels, "rate": rate.name, **rate.labels}, value)
