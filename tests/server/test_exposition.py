"""The page: real peers read it, and two ways of rendering never disagree."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.running import FEEDBACK, RESPONSE, RunningServer, ce, free_port, peer

ROWS = [[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]]


@pytest.fixture
def server(serve: Serve) -> RunningServer:
    """A server that has seen every kind of event once."""
    running = serve("--store", "memory://", "--windows", "1h,1d")
    running.post({"data": {"ndarray": ROWS}}, ce(RESPONSE, "1", "r"))
    running.post({"truth": {"data": {"ndarray": [[0, 0, 1], [0, 1, 0]]}}, "reward": 1}, ce(FEEDBACK, "2", "r"))
    running.post({"data": {"ndarray": [12.5]}}, ce(RESPONSE, "3", "price", inferenceservicename="houses"))
    running.post({"truth": {"jsonData": {"price": 14.5}}}, ce(FEEDBACK, "4", "price", inferenceservicename="houses"))
    hostile = 'a"b\\c{}\u00e9 \U0001f600'
    running.post(
        {"response": {"strData": hostile}, "truth": {"strData": hostile}}, ce(FEEDBACK, "5", "s", modelid="text")
    )
    running.post(b"{", ce(FEEDBACK, "6"))
    return running


def test_promtool_accepts_the_page(server: RunningServer) -> None:
    """`promtool check metrics` has nothing to say."""
    checked = subprocess.run(
        [peer("promtool"), "check", "metrics"], input=server.get("/metrics").body, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def _query(port: int, query: str) -> list[Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={query}", timeout=5) as answer:
        return list(json.load(answer)["data"]["result"])


def test_a_real_prometheus_scrapes_it(server: RunningServer, tmp_path: Path) -> None:
    """Prometheus takes every series of the page, with values and labels as they are."""
    program, port = peer("prometheus"), free_port()
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: quality\n  metrics_path: /v1/metrics\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{server.port}']}}]\n"
    )
    with (tmp_path / "prometheus.log").open("wb") as log:
        prometheus = subprocess.Popen(
            [
                program,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if _query(port, "model_accuracy_ratio"):
                    break
            except OSError:
                pass
            time.sleep(0.2)
        (accuracy,) = _query(port, 'model_accuracy_ratio{window="1h",deployment_name="wine",model_name="classifier"}')
        assert float(accuracy["value"][1]) == 0.5
        assert _query(port, "up")[0]["value"][1] == "1"
        (error,) = _query(port, 'model_mean_error{window="1h"}')
        assert float(error["value"][1]) == -2.0
        names = {name for name, _ in server.samples() if name.startswith(("model_", "seldon_"))}
        for name in names:
            assert _query(port, name), name
    finally:
        prometheus.terminate()
        prometheus.wait(30)


def test_openmetrics_and_text_say_the_same(server: RunningServer) -> None:
    """The two formats hold the same samples; OpenMetrics adds since when a counter counts."""
    text, openmetrics = (
        {
            line.replace("#", "\0")
            for line in server.get("/metrics", {"Accept": accept}).body.decode().splitlines()
            if line.startswith(("model_", "seldon_")) and "_created{" not in line
        }
        for accept in ("text/plain", "application/openmetrics-text; version=1.0.0")
    )
    assert text == openmetrics
    assert len(text) > 50


def test_gzip_and_head(server: RunningServer) -> None:
    """The page is compressed on request, and HEAD works wherever GET does."""
    assert server.get("/metrics", {"Accept-Encoding": "gzip"}).headers["Content-Encoding"] == "gzip"
    for path in ("/", "/v1/metrics", "/metrics", "/healthz", "/readyz", "/protocol", "/v1/rejected"):
        assert server.request("HEAD", path).status == 200, path


def test_rejected_events_are_listed_without_their_payload(server: RunningServer) -> None:
    """/v1/rejected tells time, reason and ids."""
    (entry,) = json.loads(server.get("/v1/rejected").body)
    assert entry["reason"] == "malformed_json"
    assert entry["id"] == "6"
    assert entry["time"] > 1.7e9


def test_series_that_are_undefined_are_absent(server: RunningServer) -> None:
    """A precision without a prediction is no sample, not 0 or NaN."""
    assert server.value("model_precision_ratio", window="1h", deployment_name="wine", **{"class": "1"}) is None
    assert server.value("model_recall_ratio", window="1h", deployment_name="wine", **{"class": "1"}) == 0.0


def test_output_statistics_of_numeric_predictions(server: RunningServer) -> None:
    """Mean, extremes and quantiles of logged numbers; bins are off by at most 2.5 %."""
    assert server.value("model_output_mean", window="1h", deployment_name="houses") == 12.5
    for name in ("model_output_min", "model_output_max"):
        assert server.value(name, window="1h", deployment_name="houses") == pytest.approx(12.5, rel=0.025)
