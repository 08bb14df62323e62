"""Groups: the slices of a dimension beside the one that is declared as their reference, in one window and one look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from msgspec import UNSET, UnsetType

from metrics_server.api.schema import Group, GroupRate, GroupReport
from metrics_server.metrics.components import LOGGED, PAIRS
from metrics_server.metrics.confidence import wilson_interval
from metrics_server.metrics.group import SELECTION, Disparity, Rate, disparities
from metrics_server.metrics.prediction_stats import CLASS
from metrics_server.metrics.sums import Sums
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels, Series
from metrics_server.series.totals import Totals

_Key: TypeAlias = "tuple[str, tuple[tuple[str, str], ...]]"  # name and labels of a rate
_Rates: TypeAlias = "dict[_Key, Rate]"


class GroupReports:
    """Compares the groups of series. It holds no state, and may be used by any thread."""

    def __init__(
        self,
        registry: SeriesRegistry,
        totals: Totals,
        evaluator: Evaluator,
        references_of: Callable[[Labels], Mapping[str, str]],
    ) -> None:
        """`references_of` tells of the series with these labels, by dimension, the value that is the reference."""
        self._registry = registry
        self._totals = totals
        self._evaluator = evaluator
        self.references_of = references_of

    @property
    def min_support(self) -> float:
        """On how many pairs a rate must rest to be shown."""
        return self._evaluator.min_support

    def slices_of(self, series: Series, dimension: str) -> dict[str, Series]:
        """Finds the slices that are the groups of a dimension, by its value."""
        prefix = f"{dimension}="
        slices = ((each.identity.slice, each) for each in self._registry.slices_of(series.labels))
        return {name.removeprefix(prefix): each for name, each in slices if name.startswith(prefix)}

    def reports(self, series: Series, window: str, dimension: str | None = None) -> list[GroupReport]:
        """Compares the groups of a series in a window, by each declared dimension or by one of them."""
        references = self.references_of(series.labels)
        return [
            self._report(series, window, each, reference)
            for each, reference in references.items()
            if dimension in (None, each)
        ]

    def _report(self, series: Series, window: str, dimension: str, reference: str) -> GroupReport:
        slices = self.slices_of(series, dimension)
        sums = {value: self._totals.series_totals(each.id).windows[window] for value, each in slices.items()}
        sums = {value: each for value, each in sums.items() if each.get(PAIRS) or each.get(LOGGED)}
        series = self._registry.latest(series)
        # The classes are those of the series, which are the same for all groups.
        rates = {
            value: {_key(rate): rate for rate in self._evaluator.rates(series, each)} for value, each in sums.items()
        }
        if is_logged := all(_classified(each) >= each.get(PAIRS, 0.0) for each in sums.values()):
            rates = _selected_of_all(rates, sums)
        return GroupReport(
            predictor=series.labels.predictor,
            model=series.labels.model,
            dimension=dimension,
            reference=reference,
            selection_of="predictions" if is_logged else "labelled",
            groups=_groups(sums, {value: self._supported(each) for value, each in rates.items()}, reference),
        )

    def _supported(self, rates: _Rates) -> _Rates:
        """Those that rest on enough pairs to be shown."""
        least = self.min_support - 1e-9  # sums of weights may be off by a rounding error
        return {key: rate for key, rate in rates.items() if rate.trials >= least}


def _classified(sums: Sums) -> float:
    """Counts the logged predictions that are a class."""
    return sum(count for name, count in sums.items() if name.startswith(CLASS))


def _selected_of_all(rates: Mapping[str, _Rates], sums: Mapping[str, Sums]) -> dict[str, _Rates]:
    """The same with selection rates of all logged predictions: labels may come for those alone that were selected."""
    selections = {key: rate for by_key in rates.values() for key, rate in by_key.items() if rate.name == SELECTION}
    found = {}
    for value, by_key in rates.items():
        trials = _classified(sums[value])
        of_all = {
            key: rate._replace(successes=sums[value].get(CLASS + rate.labels["class"], 0.0), trials=trials)
            for key, rate in selections.items()
            if trials > 0
        }
        found[value] = {**by_key, **of_all}
    return found


def _key(rate: Rate) -> _Key:
    return rate.name, tuple(sorted(rate.labels.items()))


def _groups(sums: Mapping[str, Sums], rates: Mapping[str, _Rates], reference: str) -> list[Group]:
    """The groups, the reference first."""
    ordered = sorted(sums, key=lambda value: (value != reference, value))
    keys = dict.fromkeys(key for value in ordered for key in rates[value])
    compared = {
        key: _compared(key, [value for value in ordered if value != reference], rates, reference) for key in keys
    }
    return [
        _group(value, sums[value], rates[value], {key: compared[key].get(value) for key in keys}) for value in ordered
    ]


def _compared(key: _Key, others: Iterable[str], rates: Mapping[str, _Rates], reference: str) -> dict[str, Disparity]:
    """How a rate of each group differs from that of the reference, by group; of none that is undefined."""
    if (of_reference := rates.get(reference, {}).get(key)) is None:
        return {}
    having = [value for value in others if key in rates[value]]
    return dict(zip(having, disparities([rates[value][key] for value in having], of_reference), strict=True))


def _group(value: str, sums: Sums, rates: _Rates, compared: Mapping[_Key, Disparity | None]) -> Group:
    support, logged = sums.get(PAIRS, 0.0), sums.get(LOGGED, 0.0)
    return Group(
        group=value,
        predictions=logged,
        support=support,
        coverage=support / logged if logged > 0 and support <= logged else UNSET,
        rates=[_group_rate(rate, compared[key]) for key, rate in rates.items()],
    )


def _group_rate(rate: Rate, found: Disparity | None) -> GroupRate:
    lower, upper = wilson_interval(rate.successes, rate.trials)
    made = GroupRate(
        name=rate.name, labels=dict(rate.labels), value=rate.value, lower=lower, upper=upper, support=rate.trials
    )
    if found is None:
        return made
    made.difference, (made.difference_lower, made.difference_upper) = found.difference, found.difference_interval
    made.ratio, made.ratio_lower, made.ratio_upper = (_set(each) for each in (found.ratio, *found.ratio_interval))
    made.p_value, made.holm_p_value = found.p_value, found.holm_p_value
    return made


def _set(value: float | None) -> float | UnsetType:
    return UNSET if value is None else value
