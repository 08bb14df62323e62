"""What a server must show, kept by plain counting, and what it does show: once by its JSON API, once by its page."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from tests.support.deployments import Page
from tests.support.running import RunningServer

WINDOW = "1h"
Standing = dict[str, Any]
Standings = dict[tuple[str, str], Standing]


class Ledger:
    """Predictions, pairs and rewards by predictor and model."""

    def __init__(self) -> None:
        self.logged: Counter[tuple[str, str]] = Counter()
        self.pairs: dict[tuple[str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
        self.rewards: dict[tuple[str, str], list[float]] = defaultdict(list)

    def log(self, model: str, rows: int = 1, predictor: str = "main") -> None:
        """Rows of the request log."""
        self.logged[predictor, model] += rows

    def pair(self, model: str, truths: Iterable[int], predictions: Iterable[int], predictor: str = "main") -> None:
        """Labelled rows."""
        pairs = zip(map(str, truths), map(str, predictions), strict=True)
        self.pairs[predictor, model].update(pairs)

    def reward(self, model: str, reward: float, predictor: str = "main") -> None:
        self.rewards[predictor, model].append(reward)

    def standings(self) -> Standings:
        """All that must be shown; what is undefined is absent."""
        series = {*self.logged, *self.pairs, *self.rewards}
        return {one: self._standing(one) for one in series}

    def _standing(self, one: tuple[str, str]) -> Standing:
        pairs, rewards = self.pairs.get(one, Counter()), self.rewards.get(one, [])
        right = sum(count for (truth, prediction), count in pairs.items() if truth == prediction)
        return _standing(
            predictions=self.logged[one],
            pairs=dict(pairs),
            rewards=len(rewards),
            accuracy=right / pairs.total() if pairs else None,
            reward_mean=sum(rewards) / len(rewards) if rewards else None,
            coverage=_coverage(pairs.total(), self.logged[one]),
        )


def _coverage(labelled: int, logged: int) -> float | None:
    return labelled / logged if logged and labelled <= logged else None


def _standing(**values: Any) -> Standing:
    """Without what is undefined; fractions to nine digits."""
    return {
        name: round(value, 9) if isinstance(value, float) else value
        for name, value in values.items()
        if value is not None
    }


def by_api(server: RunningServer, deployment: str) -> Standings:
    """What /v1/models and the report of each series say. Series from which all has been taken back are left out."""
    models = json.loads(server.get("/v1/models").body)["models"]
    own = [model for model in models if model["deployment"] == deployment]
    found = {(one["predictor"], one["model"]): _report(server, one) for one in own}
    return {series: standing for series, standing in found.items() if _says(standing)}


def _says(standing: Standing) -> bool:
    return any(standing[name] for name in ("predictions", "pairs", "rewards"))


def _report(server: RunningServer, listed: dict[str, Any]) -> Standing:
    window = json.loads(server.get(listed["path"]).body)["windows"][WINDOW]
    values = {value["name"]: value["value"] for value in window["values"] if not value["labels"]}
    return _standing(
        predictions=int(listed["windows"][WINDOW]["predictions"]),
        pairs=_cells(window.get("confusion")),
        rewards=int(listed["windows"][WINDOW]["rewards"]),
        accuracy=values.get("model_accuracy_ratio"),
        reward_mean=values.get("model_reward_mean"),
        coverage=window.get("coverage"),
    )


def _cells(confusion: dict[str, Any] | None) -> dict[tuple[str, str], int]:
    if confusion is None:
        return {}
    classes = confusion["classes"]
    return {
        (truth, prediction): int(count)
        for truth, row in zip(classes, confusion["counts"], strict=True)
        for prediction, count in zip(classes, row, strict=True)
        if count
    }


def by_page(server: RunningServer, deployment: str) -> Standings:
    """What /v1/metrics says: counters less their `_retracted_total` twins, and gauges of the window."""
    return standings_on(Page(server.get("/v1/metrics").body.decode(), deployment))


def standings_on(page: Page) -> Standings:
    """The same of a page that was read before. Series from which all has been taken back are left out."""
    found = {one: _read(page, predictor_name=one[0], model_name=one[1]) for one in _series(page)}
    return {one: standing for one, standing in found.items() if _says(standing)}


def _series(page: Page) -> set[tuple[str, str]]:
    labels = [sample.labels for sample in page.samples if sample.name.startswith("model_")]
    return {(one["predictor_name"], one["model_name"]) for one in labels}


def net(page: Page, family: str, **labels: str) -> int:
    """A counter less what was taken back of it."""
    return int((page(f"{family}_total", **labels) or 0) - (page(f"{family}_retracted_total", **labels) or 0))


def _read(page: Page, **labels: str) -> Standing:
    cells = {cell: int(count) for cell, count in page.cells(**labels).items()}
    window = {**labels, "window": WINDOW}
    return _standing(
        predictions=net(page, "model_predictions", **labels),
        pairs=cells,
        rewards=net(page, "model_rewards", **labels),
        accuracy=page("model_accuracy_ratio", **window),
        reward_mean=page("model_reward_mean", **window),
        coverage=page("model_label_coverage_ratio", **window),
    )
