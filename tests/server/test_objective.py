"""Objectives of a real server: declared in the configuration file, told of by page, API and scrape, taken at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metrics_server.errors import BadConfiguration
from metrics_server.settings import load
from tests.conftest import Serve
from tests.support.running import RunningServer
from tests.support.waiting import until

DECLARED = "objectives: [{deployment: pets, metric: model_accuracy_ratio, level: 0.9}]"
SERIES = "/v1/models/-/pets/-/-"


def _feed(server: RunningServer) -> None:
    items = [
        {"deployment": "pets", "prediction": "cat", "truth": "cat"},
        {"deployment": "dogs", "prediction": 1.0, "truth": 2.0},
    ]
    assert server.post(items, {"Content-Type": "application/json"}, "/v1/feedback").status == 200


def _objectives(server: RunningServer) -> dict[str, float]:
    return {
        name: value
        for (name, labels), value in server.samples().items()
        if name.startswith(("model_objective", "model_degrad")) and ("deployment_name", "pets") in labels
    }


def test_an_objective_is_told_of(serve: Serve, tmp_path: Path) -> None:
    """It stands on the page for Prometheus and in the API, and no other deployment has one."""
    (tmp_path / "models.yaml").write_text(DECLARED)
    words = "--store", f"sqlite:///{tmp_path}/state.db", "--config", "models.yaml"
    server = serve(*words)
    _feed(server)
    server.stop()
    server = serve(*words)  # a writer looks at the start, and then once a minute
    until(lambda: bool(_objectives(server)), 20, "the objective is not looked after")
    assert _objectives(server) == {"model_objective": 0.9, "model_degraded": 0.0}
    (told,) = json.loads(server.get(SERIES).body)["objectives"]
    assert told == {
        "metric": "model_accuracy_ratio",
        "level": 0.9,
        "false_alarms_a_year": 0.1,
        "degraded": False,
        "hours": 0,
    }
    assert json.loads(server.get("/v1/models/-/dogs/-/-").body)["objectives"] == []


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("objectives: [{metric: model_accuracy_ratio, level: 90}]", "a number between 0 and 1"),
        ("objectives: [{level: 0.9}]", "metric"),
        ("objectives: [{metric: x, level: 0.9, false_alarms_a_year: 0}]", "a number above 0"),
        ("objectives: 0.9", "a list of objectives"),
    ],
)
def test_an_objective_that_cannot_be_is_refused(tmp_path: Path, written: str, wanted: str) -> None:
    """A level that is no share, or an entry without a metric, is told of with what is wanted."""
    (tmp_path / "models.yaml").write_text(written)
    with pytest.raises(BadConfiguration, match=wanted):
        load(["--config", str(tmp_path / "models.yaml")], {})
