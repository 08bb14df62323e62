"""What the docs say that a model costs Prometheus is what a scrape has."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.deployments import Deployment, starter
from tests.support.docs_pages import page
from tests.support.manifests import DEPLOY
from tests.support.running import REQUEST, RunningServer

LEVELS = ("essential", "standard", "full")
(TABLE,) = re.findall(r"^\| `expose` \|.*\n(?:\|.*\n)+", page("how-to/operate.md"), re.MULTILINE)


def _scores(classes: int) -> list[tuple[Any, Any]]:
    """Every class is mistaken for every other: no model has more cells."""
    return [
        ([0.9 if one == top else 0.1 / (classes - 1) for one in range(classes)], truth)
        for top in range(classes)
        for truth in range(classes)
    ]


ROWS = {
    "scores of 3 classes": _scores(3),
    "of 10 classes": _scores(10),
    "labels of 10 classes": [(f"c{one}", f"c{other}") for one in range(10) for other in range(10)],
    "numbers": [(one + 0.5, one + 0.25) for one in range(10)],
}


def _told() -> dict[tuple[str, str], int]:
    """The numbers of the table, by level and kind of model."""
    head, _, *lines = [[cell.strip(" `") for cell in line.strip("|\n").split("|")] for line in TABLE.splitlines()]
    return {
        (line[0].partition("`")[0], kind): int(cell)
        for line in lines
        for kind, cell in zip(head[2:], line[2:], strict=True)
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A model of each kind at each level, that is called, predicts and is labelled, with the default windows."""
    folder = tmp_path_factory.mktemp("costs")
    names = {(level, kind): f"{level}-{number}" for level in LEVELS for number, kind in enumerate(ROWS)}
    entries = [{"deployment": name, "expose": level} for (level, _), name in names.items()]
    entries += [{"deployment": name, "expose": "essential"} for name in ("compared", "confused")]
    entries.append({"deployment": "timed", "custom_metrics": ["wait"]})
    (folder / "config.yaml").write_text(json.dumps({"deployments": entries}))
    for running in starter(folder, "--config", str(folder / "config.yaml"), "--store", "memory://"):
        for (_, kind), name in names.items():
            _serve(Deployment(running, name), ROWS[kind])
        for predictor in ("main", "canary"):
            _serve(Deployment(running, "compared"), ROWS["scores of 3 classes"], predictor)
        _serve(Deployment(running, "confused"), [(one, f"c{one}") for one in range(3)])
        timer = {"type": "TIMER", "key": "wait", "value": 20}
        Deployment(running, "timed").predict("rows", [0.2, 0.8], meta={"metrics": [timer]})
        yield running


def _serve(deployment: Deployment, rows: list[tuple[Any, Any]], predictor: str = "main") -> None:
    """All rows are of one request."""
    predictions, truths = zip(*rows, strict=True)
    deployment.send(REQUEST, {"data": {"ndarray": [[1.0] for _ in rows]}}, predictor, endpoint=predictor)
    deployment.predict(predictor, *predictions, endpoint=predictor)
    deployment.truth(predictor, *truths, endpoint=predictor)


def _series(server: RunningServer, deployment: str) -> Counter[str]:
    """How many series of models there are, by predictor; the server has some of its own for a deployment."""
    samples = Deployment(server, deployment).page().samples
    return Counter(one.labels["predictor_name"] for one in samples if not one.name.startswith("metrics_server_"))


def test_the_page_tells_what_each_level_costs(server: RunningServer) -> None:
    """The table of the page has the number of series of each kind of model at each level."""
    counted = {
        (level, kind): _series(server, f"{level}-{number}")["main"]
        for level in LEVELS
        for number, kind in enumerate(ROWS)
    }
    assert counted == _told()


def test_the_page_tells_what_a_comparison_costs(server: RunningServer) -> None:
    """A predictor that is compared with another has as many series more, under the least as well."""
    (told,) = re.findall(r"has (\d+) more series", page("how-to/operate.md"))
    series = _series(server, "compared")
    assert series["canary"] - series["main"] == int(told)


def test_the_page_tells_what_a_timer_costs(server: RunningServer) -> None:
    """A set of tags of a timer that a model returns is a histogram of as many series."""
    (told,) = re.findall(r"\b(\d+)\s+for one of a timer", page("how-to/operate.md"))
    samples = Deployment(server, "timed").page().samples
    assert sum(one.name.startswith("wait_") for one in samples) == int(told)


def test_rules_ask_for_the_least_or_for_classes(server: RunningServer) -> None:
    """What the rules ask of models is there with `essential`, but for the confusion matrix: of predictors compared, of
    numbers, and of indexes whose truths are names."""
    asked = {
        name
        for group in yaml.safe_load((DEPLOY / "rules/models.yaml").read_text())["groups"]
        for rule in group["rules"]
        for name in re.findall(r"\bmodel_\w+(?=\{)", rule["expr"])
    }
    models = ("compared", "essential-3", "confused")
    shown = {sample.name for model in models for sample in Deployment(server, model).page().samples}
    assert asked - shown == {"model_confusion_total", "model_confusion_retracted_total"}
