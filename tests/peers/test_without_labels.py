"""Models that nobody labels: every dashboard has its choices and shows what is known of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from metrics_server.series.families import MODEL
from tests.support import monitoring
from tests.support.dashboards import BOARDS, OF_SERVER, Prometheus, choices, expressions, filled
from tests.support.running import REQUEST, RESPONSE, RunningServer, ce
from tests.support.waiting import until

# What only labels, rewards, slices, Kafka or alerts that fire have, by what stands in a query.
OF_LABELS = (
    "model_support",
    "model_last_label_timestamp_seconds",
    "model_label_delay_seconds",
    "model_accuracy_ratio",
    "model_mean_absolute_error",
    "model_weighted_absolute_percentage_error_ratio",
    "model_mean_error",
    "model_absolute_error_quantile",
    "model_confusion",
    "model_precision_ratio",
    "model_recall_ratio",
    "model_f1_ratio",
    "model_specificity_ratio",
    "model_roc_auc_ratio",
    "model_average_precision_ratio",
    "model_calibration_error_ratio",
    "model_brier_score",
    "model_log_loss",
    "model_(top_k_accuracy_ratio|ndcg|mean_average_precision|hit_ratio)",
    "model_(exact_match_ratio|mean_reciprocal_rank|rating_mean|reward_mean)",
    "model_labels_total",
    "model_canary_difference",
    "model_reward",
    'slice!=""',
    '__name__="${ratio}_',  # the coverage, which stands for all shares here, has no interval
    "ALERTS{",
    "metrics_server_kafka",
    "metrics_server_shared_store",
    "true_pos",  # what a model says of itself it knows by feedback
)


def _needs_labels(expression: str) -> bool:
    """Whether a query shows what only labels have; what it leaves out by `unless` may be missing."""
    return any(part in expression.partition(" unless ")[0] for part in OF_LABELS)


def _predict(server: RunningServer, round_: int) -> None:
    """A prediction of both predictors of a classifier and of a regressor, with its request."""
    for deployment, output in (("pets", [0.2, 0.8]), ("houses", 100.0 + round_)):
        for predictor in ("main", "canary") if round_ % 2 else ("main",):
            name = f"{deployment}-{predictor}-{round_}"
            labels = {"inferenceservicename": deployment, "endpoint": predictor}
            server.post({"data": {"ndarray": [[1, 2]]}}, ce(REQUEST, f"{name}-q", name, **labels))
            server.post({"data": {"ndarray": [output]}}, ce(RESPONSE, f"{name}-p", name, **labels))


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes a server every second that has predictions alone."""
    folder = tmp_path_factory.mktemp("unlabelled")
    with ExitStack() as opened:
        server = RunningServer(folder, "--store", "memory://")
        opened.callback(server.stop)
        program = monitoring.Prometheus(folder, server.port)
        opened.callback(program.stop)
        scraping = Prometheus(program.url)
        rounds = iter(range(10_000))

        def is_busy() -> bool:
            _predict(server, next(rounds))
            return len(scraping.values("rate(model_predictions_total[10s]) > 0", time=str(time.time() - 2))) == 4

        until(is_busy, 40, "the predictions of four models were not scraped")
        yield scraping


@pytest.mark.parametrize("name", OF_SERVER)
def test_every_panel_that_needs_no_labels_has_data(prometheus: Prometheus, name: str) -> None:
    """Each variable offers something, names of ours and not of rules, and with that each query finds data, but for what
    labels alone have."""
    ways = choices(prometheus, BOARDS[name])
    silent = []
    for place, expression in expressions(BOARDS[name]):
        if _needs_labels(expression):
            continue
        if not any(prometheus.values(query) for query in dict.fromkeys(filled(expression, way) for way in ways)):
            silent.append(f"{place}: {expression}")
    assert not silent
    names = {way[choice] for way in ways for choice in ("metric", "ratio", "amount") if choice in way}
    assert names <= MODEL.keys()


def test_exceptions_are_still_needed(prometheus: Prometheus) -> None:
    """Each is of a query that finds nothing here, but for alerts, which may fire."""
    ways = {name: choices(prometheus, BOARDS[name]) for name in OF_SERVER}
    silent = {
        expression
        for name, those in ways.items()
        for _, expression in expressions(BOARDS[name])
        if _needs_labels(expression) and not any(prometheus.values(filled(expression, way)) for way in those)
    }
    assert all(any(part in expression for expression in silent) for part in OF_LABELS if part != "ALERTS{")


def test_the_canary_is_compared_by_its_predictions(prometheus: Prometheus) -> None:
    """The busier predictor is the baseline, the other the candidate, and they differ in their mean output."""
    (way,) = [
        way
        for way in choices(prometheus, BOARDS["canary"])
        if way["deployment"] == "houses" and way["baseline"] == "main" and way["candidate"] == "canary"
    ]
    assert way["metric"] == "model_output_mean"
    found = dict.fromkeys(("Difference", "Lower end", "Upper end"), 0.0)
    for place, expression in expressions(BOARDS["canary"]):
        if place in found:
            (found[place],) = prometheus.values(filled(expression, way))
    assert found["Lower end"] < found["Difference"] < found["Upper end"]
