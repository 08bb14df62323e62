"""The overview: all series, those that need attention first."""

from __future__ import annotations

from typing import Any, NamedTuple

from metrics_server.api.schema import SeriesSummary
from metrics_server.api.service import Api
from metrics_server.web import links, notices
from metrics_server.web.page_request import PageRequest

PER_PAGE = 100


class Row(NamedTuple):
    """A line of the overview."""

    entry: SeriesSummary
    notices: list[notices.Notice]
    link: str  # to the page of the series
    trend: str  # to the picture of its trend
    deployment: str  # to the page that compares its predictors, if there are several


def overview(api: Api, page_request: PageRequest) -> dict[str, Any]:
    """What the template shows."""
    window, windows, now, found = page_request.window, page_request.windows, page_request.now, page_request.found
    wanted, page = found.get("q", ""), found.get("page", 1)
    ranked = notices.ranked(api.entries(), window, windows, now)
    matching = [one for one in ranked if wanted.casefold() in _text(one.entry).casefold()]
    shown = matching[(page - 1) * PER_PAGE : page * PER_PAGE]
    several = _deployments_with_several([one.entry for one in ranked])
    return {
        "rows": [_row(one, window, now, several) for one in shown],
        "window": window,
        "windows": list(windows),
        "asked": page_request.asked,
        "q": wanted,
        "page": page,
        "pages": max(1, -(-len(matching) // PER_PAGE)),
        "matching": len(matching),
        "number_of_series": len(ranked),
        "concerns": [sum(one.worst == severity for one in ranked) for severity in (notices.BAD, notices.WARN)],
    }


def _row(one: notices.Ranked, window: str, now: float, several: set[tuple[str, str]]) -> Row:
    entry = one.entry
    minute = int(now // 60) * 60  # the picture of a trend is fetched anew every minute
    deployment = (entry.namespace, entry.deployment)
    return Row(
        entry,
        one.notices,
        links.model(entry.path, window=window),
        links.trend(entry.path, window=window, at=minute),
        links.deployment(*deployment, window=window, model=entry.model) if deployment in several else "",
    )


def _text(entry: SeriesSummary) -> str:
    return f"{entry.namespace}/{entry.deployment}/{entry.predictor}/{entry.model}"


def _deployments_with_several(entries: list[SeriesSummary]) -> set[tuple[str, str]]:
    """Those with more than one predictor."""
    predictors: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        predictors.setdefault((entry.namespace, entry.deployment), set()).add(entry.predictor)
    return {deployment for deployment, names in predictors.items() if len(names) > 1}
