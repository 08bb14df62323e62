"""The list of series: where each stands in every window, for who looks over many of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from metrics_server.api_answer import Value, about, is_of_server, names_of, path_of, value_of
from metrics_server.ledger import LABELS, LOGGED, PAIRS
from metrics_server.readings import Reader
from metrics_server.reward import REWARDS
from metrics_server.series import Series
from metrics_server.sums import Sums


class Standing(msgspec.Struct, kw_only=True):
    """A series in one window; `headline` is the first value of its metric model, null while there is none.

    `support` are labelled pairs, `predictions` rows of the request log, `rewards` feedback with a reward, all by prediction time.
    """

    support: float
    predictions: float
    rewards: float
    headline: Value | None


class Entry(msgspec.Struct, kw_only=True):
    """A series in the list; `labels` are its rows of truth by what became of them, since it was made."""

    namespace: str
    deployment: str
    predictor: str
    model: str
    path: str
    slices: list[str]
    task: str | None
    metric_model: str | None
    created_at: float
    last_prediction_at: float | None
    last_label_at: float | None
    labels: dict[str, float]
    windows: dict[str, Standing]


class Entries(msgspec.Struct, kw_only=True):
    """The series that there are."""

    models: list[Entry]


def headline_of(reader: Reader, series: Series, sums: Sums) -> Value | None:
    """The first value of the metric model, without reading the others."""
    for sample in reader.values(series, sums):
        if sample.name != "support":
            return None if is_of_server(f"model_{sample.name}") else value_of(sample, sums.get(PAIRS, 0.0))
    return None


def standing_of(reader: Reader, series: Series, sums: Sums) -> Standing:
    """A series in one window, from the sums of that."""
    support, predictions, rewards = (sums.get(name, 0.0) for name in (PAIRS, LOGGED, REWARDS))
    return Standing(support=support, predictions=predictions, rewards=rewards, headline=headline_of(reader, series, sums))


def entry_of(reader: Reader, series: Series, slices: Iterable[Series], ever: Sums, windows: Mapping[str, Sums]) -> Entry:
    """A series as it stands in the list."""
    return Entry(
        path=path_of(series.labels),
        slices=names_of(slices),
        labels={name.removeprefix(LABELS): count for name, count in ever.items() if name.startswith(LABELS)},
        windows={window: standing_of(reader, series, sums) for window, sums in windows.items()},
        **about(series),
    )
