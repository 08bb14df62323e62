"""The value of pairs on a real server: where a matrix is declared, the same everywhere, and nowhere else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metrics_server.commands.replay.command import main
from tests.conftest import Serve
from tests.support.docs_pages import blocks, page
from tests.support.numbers import assert_same_text
from tests.support.replay_files import pair_lines, written
from tests.support.running import RunningServer, peer
from tests.support.valued import PAGE, SERIES, VALUES, configured, send_pairs, send_patients, values_of
from tests.support.waiting import until

MEMORY = ("--store", "memory://", "--windows", "1h,1d")
HTML = {"Accept": "text/html"}
GAUGES = {
    "model_value_mean",
    "model_value_mean_lower",
    "model_value_mean_upper",
    "model_value_net",
    "model_best_threshold",
    "model_best_threshold_value",
}
TUMOURS = {"deployment": "tumours", "value_matrix": VALUES}


def _report(server: RunningServer, path: str = SERIES, query: str = "?window=1d") -> Any:
    answer = server.get(f"{path}{query}")
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def _exposed(server: RunningServer, **labels: str) -> dict[str, float]:
    return {
        name: value
        for (name, have), value in server.samples().items()
        if name.startswith(("model_value", "model_best")) and {"window": "1d", **labels}.items() <= dict(have).items()
    }


def test_gauges_api_and_page_tell_the_same(serve: Serve, tmp_path: Path) -> None:
    """Mean, net value and interval are those of the real patients' rows, in the metrics, in the object `value` of the
    window, among its values, and on the page, which warns that the best threshold flatters.
    """
    server = serve(*MEMORY, *configured(tmp_path, TUMOURS))
    rows = send_patients(server)
    exposed, window = _exposed(server), _report(server)["windows"]["1d"]
    assert exposed.keys() == GAUGES
    assert exposed["model_value_mean"] == pytest.approx(rows.mean())
    assert exposed["model_value_net"] == pytest.approx(rows.sum())
    assert exposed["model_value_mean_lower"] < rows.mean() < exposed["model_value_mean_upper"]
    assert exposed["model_best_threshold_value"] >= rows.mean()
    value = window["value"]
    assert {
        "model_value_mean": value["mean"],
        "model_value_mean_lower": value["lower"],
        "model_value_mean_upper": value["upper"],
        "model_value_net": value["net"],
        "model_best_threshold": value["best_threshold"],
        "model_best_threshold_value": value["best_threshold_value"],
    } == exposed
    listed = {one["name"]: one["value"] for one in window["values"]}
    assert listed.items() >= {name: exposed[name] for name in GAUGES if name in listed}.items()
    shown = server.get(f"{PAGE}?window=1d", HTML).body.decode()
    assert f'<data value="{value["mean"]!r}" data-name="model_value_mean"' in shown
    assert f'<data value="{value["best_threshold"]!r}" data-name="model_best_threshold"' in shown
    assert "of few pairs it flatters" in shown


def test_a_deployment_without_a_matrix_has_no_value(serve: Serve, tmp_path: Path) -> None:
    """Neither gauges nor a `value` nor a section of the page."""
    server = serve(*MEMORY, *configured(tmp_path, {**TUMOURS, "deployment": "another"}))
    send_patients(server)
    assert _exposed(server) == {}
    assert "value" not in _report(server)["windows"]["1d"]
    assert 'class="worth"' not in server.get(PAGE, HTML).body.decode()


def test_standard_and_full_show_it(serve: Serve, tmp_path: Path) -> None:
    """Its labels are few; `essential` leaves it to the API."""
    levels = ("essential", "standard", "full")
    entries = [{**TUMOURS, "deployment": level, "expose": level} for level in levels]
    server = serve(*MEMORY, *configured(tmp_path, *entries))
    for level in levels:
        send_patients(server, deployment=level)
        assert _exposed(server, deployment_name=level).keys() == (set() if level == "essential" else GAUGES)
        assert "value" in _report(server, SERIES.replace("tumours", level))["windows"]["1d"]


def test_a_late_label_and_a_correction_move_it(serve: Serve, tmp_path: Path) -> None:
    """The value follows the matrix of confusion: a miss that was none after all is worth what a hit is."""
    server = serve(*MEMORY, *configured(tmp_path, TUMOURS))
    send_pairs(server, [0], [0.9], request_id="r")
    assert _exposed(server)["model_value_net"] == VALUES["false_positive"]
    body = {"request_id": "r", "truth": 1, "namespace": "shop", "deployment": "tumours"}
    assert server.post(body, {"Content-Type": "application/json"}, "/v1/feedback").status == 200
    assert _exposed(server)["model_value_net"] == VALUES["true_positive"]


def test_other_values_are_taken_without_a_restart(serve: Serve, tmp_path: Path) -> None:
    """From the sums that there are, also of pairs that came before, in the metrics and in the API."""
    server = serve(*MEMORY, *configured(tmp_path))
    send_pairs(server, [1, 1, 0, 0], [0.9, 0.1, 0.8, 0.2])
    assert _exposed(server) == {}
    configured(tmp_path, TUMOURS)
    until(lambda: _exposed(server).get("model_value_net") == -55.0, 10, "the matrix was not taken")
    configured(tmp_path, {**TUMOURS, "value_matrix": {"right": 1, "wrong": 0}})
    until(lambda: _exposed(server).get("model_value_net") == 2.0, 10, "the other matrix was not taken")
    assert _report(server)["windows"]["1d"]["value"]["mean"] == 0.5


def test_of_several_classes_by_their_names(serve: Serve, tmp_path: Path) -> None:
    """Each cell counts as declared, others as right or wrong; there is no threshold."""
    matrix = {"right": 1, "wrong": -1, "cells": {"owl": {"cat": -7}}}
    entry = {"deployment": "tumours", "class_names": ["cat", "dog", "owl"], "value_matrix": matrix}
    server = serve(*MEMORY, *configured(tmp_path, entry))
    send_pairs(server, ["owl", "cat", 2, "dog"], [0, "cat", 2, "owl"])
    assert _report(server)["windows"]["1d"]["value"]["net"] == -7 + 1 + 1 - 1
    assert not any("threshold" in name for name in _exposed(server))
    assert "best threshold" not in server.get(PAGE, HTML).body.decode()


def test_canaries_are_compared_by_it(serve: Serve, tmp_path: Path) -> None:
    """The comparison of predictors has the difference of their mean values with its interval, and the history the value
    of each step.
    """
    server = serve(*MEMORY, *configured(tmp_path, TUMOURS))
    send_pairs(server, [1, 0] * 20, [0.9, 0.2] * 20)
    send_pairs(server, [1, 0] * 20, [0.9, 0.8] * 20, predictor="canary")
    (comparison,) = _report(server, "/v1/models/shop/tumours", "?compare=predictor&baseline=main")["comparisons"]
    canary = next(one for one in comparison["predictors"] if one["predictor"] == "canary")
    (difference,) = [one for one in canary["differences"] if one["name"] == "model_value_mean"]
    assert difference["difference"] == (10 - 45) / 2 - 10 / 2
    assert difference["lower"] < difference["difference"] < difference["upper"] < 0
    (point,) = _report(server, query="?step=1h")["points"]
    assert {one["name"]: one["value"] for one in point["values"]}["model_value_mean"] == 5.0


def test_a_replay_tells_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the configuration of the server, from the rows of a file."""
    lines = pair_lines(60, deployment="tumours")
    path = written(tmp_path / "rows.jsonl", lines)
    assert main([str(path), "--format=json", *configured(tmp_path, TUMOURS)]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    told = {one["name"]: one["value"] for one in result["values"]}
    truths, scores = (np.array([line[name] for line in lines]) for name in ("truth", "prediction"))
    assert told["model_value_net"] == pytest.approx(values_of(truths, scores >= 0.5, VALUES).sum())


def test_the_accuracy_stays_the_headline(serve: Serve, tmp_path: Path) -> None:
    """A declared matrix adds values and takes no place of another."""
    server = serve(*MEMORY, *configured(tmp_path, TUMOURS))
    send_patients(server)
    assert _report(server)["headline"] == "model_accuracy_ratio"


def test_the_example_of_the_page_is_what_is_answered(serve: Serve, tmp_path: Path) -> None:
    """The command of the guide prints what stands under it, with the configuration that it shows."""
    found = blocks(page("how-to/value.md"))
    (configuration,) = [code for language, code in found if language == "yaml"]
    (tmp_path / "guide.yaml").write_text(configuration)
    server = serve(*MEMORY, "--config", str(tmp_path / "guide.yaml"))
    send_patients(server)
    at, command = next((at, code) for at, (language, code) in enumerate(found) if "curl" in code)
    line = command.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
    printed = subprocess.run([peer("bash"), "-c", line], capture_output=True, text=True, check=True, timeout=20).stdout
    assert_same_text(printed, found[at + 1][1])
