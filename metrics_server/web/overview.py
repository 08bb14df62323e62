"""The overview: all series, the ones with the gravest notices first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from metrics_server.api.schema import SeriesSummary
from metrics_server.api.service import Api
from metrics_server.errors import Reason
from metrics_server.web import links, notices
from metrics_server.web.page_request import PageRequest

PER_PAGE = 100
MISDIRECTED_SECONDS = 3600  # how long it is told that events came to an unknown path


class Row(NamedTuple):
    """A line of the overview."""

    series: SeriesSummary
    notices: list[notices.Notice]
    link: str  # to the page of the series
    trend: str  # to the picture of its trend
    deployment: str  # to the page that compares its predictors, if there are several


def overview(api: Api, page_request: PageRequest, rejections: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the context of the template. `rejections` are the latest refused events, the newest first."""
    window, windows, now = page_request.window, page_request.windows, page_request.now
    wanted, page = page_request.arguments.get("q", ""), page_request.arguments.get("page", 1)
    ranked = notices.ranked(api.series_summaries(), window, windows, now)
    matching = [one for one in ranked if wanted.casefold() in _name(one.series).casefold()]
    on_page = matching[(page - 1) * PER_PAGE : page * PER_PAGE]
    several = _deployments_with_several([one.series for one in ranked])
    return {
        "misdirected": _misdirected(rejections, now),
        "rows": [_row(one, window, now, several) for one in on_page],
        "window": window,
        "windows": list(windows),
        "query": page_request.query,
        "q": wanted,
        "page": page,
        "pages": max(1, -(-len(matching) // PER_PAGE)),
        "matching": len(matching),
        "number_of_series": len(ranked),
        "concerns": [sum(one.worst == severity for one in ranked) for severity in (notices.BAD, notices.WARN)],
    }


def _misdirected(rejections: Iterable[Mapping[str, Any]], now: float) -> Mapping[str, Any] | None:
    """Finds the latest event that came to an unknown path, unless it is long ago."""
    latest = (one for one in rejections if one["reason"] == Reason.UNKNOWN_ROUTE.label)
    return next((one for one in latest if one["time"] > now - MISDIRECTED_SECONDS), None)


def _row(one: notices.Ranked, window: str, now: float, several: set[tuple[str, str]]) -> Row:
    series = one.series
    minute = int(now // 60) * 60  # the picture of a trend is fetched anew every minute
    deployment = (series.namespace, series.deployment)
    return Row(
        series,
        one.notices,
        links.model(series.path, window=window),
        links.trend(series.path, window=window, at=minute),
        links.deployment(*deployment, window=window, model=series.model) if deployment in several else "",
    )


def _name(series: SeriesSummary) -> str:
    return f"{series.namespace}/{series.deployment}/{series.predictor}/{series.model}"


def _deployments_with_several(series: list[SeriesSummary]) -> set[tuple[str, str]]:
    """Returns the deployments with more than one predictor."""
    predictors: dict[tuple[str, str], set[str]] = {}
    for one in series:
        predictors.setdefault((one.namespace, one.deployment), set()).add(one.predictor)
    return {deployment for deployment, names in predictors.items() if len(names) > 1}
