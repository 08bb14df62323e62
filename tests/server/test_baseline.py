"""The baseline of a comparison: the declared predictor, or else the one that was seen first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.page_html import Html
from tests.support.running import RESPONSE, RunningServer, ce

COMPARED = "/v1/models/shop/houses?compare=predictor"
DECLARED = "deployments: [{namespace: shop, deployment: houses, baseline: blue}]"


def _predict(server: RunningServer, deployment: str, output: Any, *predictors: str) -> None:
    """One unlabelled prediction of each predictor, all in one request, so that they are one batch of the writer."""
    events = []
    for number, predictor in enumerate(predictors):
        name = f"{deployment}-{predictor}-{number}"
        headers = ce(RESPONSE, name, name, inferenceservicename=deployment, endpoint=predictor)
        attributes = {key.removeprefix("Ce-").lower(): text for key, text in headers.items() if key.startswith("Ce-")}
        events.append({**attributes, "data": {"data": {"ndarray": [output]}}})
    answer = server.post(events, {"Content-Type": "application/cloudevents-batch+json"})
    assert answer.status == 200, answer.body


def _compared(server: RunningServer) -> Any:
    (comparison,) = json.loads(server.get(COMPARED).body)["comparisons"]
    return comparison


def _baselines(server: RunningServer) -> set[str]:
    """What the comparison, the list of series and the page take for the baseline."""
    listed = json.loads(server.get("/v1/models/shop/houses").body)["models"]
    page = server.get("/ui/deployments/shop/houses", {"Accept": "text/html"}).body.decode()
    on_page = [name for name in ("blue", "green", "red") if f'<option value="{name}" selected' in page]
    return {_compared(server)["baseline"], *on_page, *(series["baseline"] for series in listed)}


def test_the_first_that_was_seen_is_the_baseline(serve: Serve, tmp_path: Path) -> None:
    """Neither the name nor the labels decide, also of predictors that came in one batch, and it stays so over a
    restart."""
    server = serve("--store", f"sqlite:///{tmp_path}/state.db")
    _predict(server, "houses", 1.0, "red", "green", "blue", "blue")
    assert _baselines(server) == {"red"}
    server.stop()
    assert _baselines(serve("--store", f"sqlite:///{tmp_path}/state.db")) == {"red"}


def test_the_declared_predictor_is_the_baseline(serve: Serve, tmp_path: Path) -> None:
    """It is as soon as it is seen; until then the first that was seen."""
    (tmp_path / "models.yaml").write_text(DECLARED)
    server = serve("--store", "memory://", "--config", "models.yaml")
    _predict(server, "houses", 1.0, "red")
    assert _compared(server)["baseline"] == "red"
    _predict(server, "houses", 1.0, "green", "blue")
    assert _baselines(server) == {"blue"}


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ([0.2, 0.8], 'data-name="model_predicted_class_ratio"'),
        (250.0, "Output mean of the predictors"),
    ],
    ids=["classes", "numbers"],
)
def test_predictors_without_labels_are_compared_by_what_they_predict(serve: Serve, output: Any, told: str) -> None:
    """Classes by their shares, numbers by their mean over time."""
    server = serve("--store", "memory://")
    for _ in range(2):
        _predict(server, "houses", output, "red", "green")
    page = server.get("/ui/deployments/shop/houses", {"Accept": "text/html"}).body.decode()
    assert told in page


def test_the_overview_counts_what_nobody_labels(serve: Serve) -> None:
    """In the place of a quality that nobody knows it has the number of predictions."""
    server = serve("--store", "memory://")
    _predict(server, "houses", 1.0, "red", "green", "red")
    text = Html(server.get("/", {"Accept": "text/html"}).body.decode()).text
    assert "1, unlabelled" in text
    assert "2, unlabelled" in text
