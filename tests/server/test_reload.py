"""A changed configuration file is taken while the server runs, as far as no series and no pair depends on it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from metrics_server.settings import Deployment, Settings, reloaded
from tests.conftest import Serve
from tests.support.pages import JSON
from tests.support.postgres import shared_postgres
from tests.support.running import RunningServer
from tests.support.waiting import until

PAIR = {"namespace": "shop", "deployment": "wine", "truth": "a", "prediction": "a"}
LINE = re.compile(r"^\[(\w) \S+ \S+ metrics_server\.(?:app|http\.watched_files)\] (.*)$", re.MULTILINE)


def _write(directory: Path, **settings: Any) -> Path:
    """Puts a whole file in place of the last."""
    new = directory / "new.yaml"
    new.write_text(json.dumps(settings))
    return new.replace(directory / "config.yaml")


def _said(server: RunningServer) -> list[str]:
    return [f"{level} {message}" for level, message in LINE.findall(server.log.read_text())]


def _await(server: RunningServer, *lines: str) -> None:
    until(lambda: _said(server) == list(lines), 10, f"{lines} was not said")


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> RunningServer:
    """A server that has one pair, of two predictors, and shows all of it."""
    _write(tmp_path, min_support=1, max_series=50)
    server = serve("--store", "memory://", "--config", str(tmp_path / "config.yaml"), "--windows", "1h")
    told = [{**PAIR, "predictor": name} for name in ("main", "canary")]
    assert server.post(told, JSON, "/v1/feedback").status == 200
    assert "model_accuracy_ratio" in server.get("/v1/metrics").body.decode()
    return server


def test_what_is_shown_is_taken_at_once(server: RunningServer, tmp_path: Path) -> None:
    """Settings of what is shown, for all and by deployment, count within moments, in the page that was rendered before
    as well; the log names them."""
    assert "model_precision_ratio" in server.get("/v1/metrics").body.decode()
    entries = [{"deployment": "wine", "expose": "essential", "baseline": "canary"}]
    _write(tmp_path, min_support=1, max_series=50, deployments=entries)
    _await(server, "I Taken from the configuration file: deployments")
    page = server.get("/v1/metrics").body.decode()
    assert "model_accuracy_ratio" in page
    assert "model_precision_ratio" not in page
    answer = json.loads(server.get("/v1/models/shop/wine?compare=predictor").body)
    assert answer["comparisons"][0]["baseline"] == "canary"
    _write(tmp_path, min_support=5, max_series=50, deployments=entries)
    until(lambda: "model_accuracy_ratio{" not in server.get("/v1/metrics").body.decode(), 10, "few pairs are shown")


def test_what_a_series_is_waits_for_a_restart(server: RunningServer, tmp_path: Path) -> None:
    """A setting on which series, pairs or limits depend is named as one that waits, and stays; others of the same file
    are taken."""
    _write(tmp_path, min_support=5, max_series=60, threshold=0.7, slices=["tenant=attribute:tenant"])
    _await(
        server,
        "I Taken from the configuration file: min_support",
        "W Changed in the configuration file, and taken at the next start: threshold, slices, max_series",
    )


def test_the_command_line_still_wins(serve: Serve, tmp_path: Path) -> None:
    """A changed file does not take back what was said on the command line, nor what is not in it."""
    _write(tmp_path, min_support=1)
    server = serve("--store", "memory://", "--config", str(tmp_path / "config.yaml"), "--min_support", "2")
    _write(tmp_path, min_support=7)
    _await(server, "I The configuration file changes nothing")


def test_a_bad_file_changes_nothing(server: RunningServer, tmp_path: Path) -> None:
    """A file that cannot be used is told of once, with why; all stays as it was until it can."""
    path = _write(tmp_path, min_support=0)
    why = "W What a changed file held before stays in use: --min_support 0: want a whole number from 1"
    _await(server, why)
    assert "model_accuracy_ratio" in server.get("/v1/metrics").body.decode()
    path.unlink()
    _write(tmp_path, min_support=5, max_series=50)
    _await(server, why, f"I {path} can be used again", "I Taken from the configuration file: min_support")


def test_a_hangup_asks_for_a_look(server: RunningServer) -> None:
    """SIGHUP has the file read, also when it is as it was, and says what came of it."""
    server.process.send_signal(signal.SIGHUP)
    _await(server, "I The configuration file changes nothing")
    assert server.get("/readyz").status == 200


def test_rules_for_senders_hold_for_the_next_event(server: RunningServer, tmp_path: Path) -> None:
    """`absent_reward` counts for events that come after the change; what was counted stays."""

    def rewards() -> str:
        return "".join(re.findall(r"^model_reward_sum_total.*$", server.get("/v1/metrics").body.decode(), re.MULTILINE))

    def told() -> None:
        body = {"response": {"data": {"ndarray": ["a"]}}, "truth": {"data": {"ndarray": ["a"]}}}
        assert server.post(body, JSON).status == 200

    told()
    assert "model_rewards_total{" not in server.get("/v1/metrics").body.decode()
    _write(tmp_path, min_support=1, max_series=50, absent_reward="zero")
    _await(server, "I Taken from the configuration file: absent_reward")
    told()
    assert "model_rewards_total{" in server.get("/v1/metrics").body.decode()


def test_each_worker_takes_it(tmp_path: Path) -> None:
    """A hangup of the parent reaches every worker, and ends none."""
    _write(tmp_path, min_support=1)
    options = ("--workers", "2", "--config", str(tmp_path / "config.yaml"))
    server = RunningServer(tmp_path, "--store", shared_postgres().fresh(), *options)
    try:
        until(lambda: server.log.read_text().count("Listening on port") == 2, 30, "a worker is not ready")
        server.process.send_signal(signal.SIGHUP)
        _await(server, *["I The configuration file changes nothing"] * 2)
        assert "ended with status" not in server.log.read_text()
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("before", "after", "is_live"),
    [
        ([{"deployment": "a"}], [{"deployment": "a", "expose": "standard"}], True),
        ([{"deployment": "a", "threshold": 0.2}], [{"deployment": "a", "threshold": 0.2, "baseline": "b"}], True),
        ([], [{"deployment": "a", "expose": "standard"}], True),
        ([{"deployment": "a", "expose": "standard"}], [], True),
        ([{"threshold": 0.2}], [{"threshold": 0.3}], False),
        ([], [{"deployment": "a", "predictor_from": ["tag:p"]}], False),
        ([{"threshold": 0.2}], [{"deployment": "a", "expose": "standard"}, {"threshold": 0.2}], False),
    ],
    ids=["shown", "beside", "added", "removed", "scored", "paired", "in front"],
)
def test_entries_are_live_as_far_as_they_show(
    before: list[dict[str, Any]], after: list[dict[str, Any]], is_live: bool
) -> None:
    """An entry may change what it shows, and come or go behind the others; but not what it scores or pairs, nor stand
    in front of an entry that does, as the first that matches counts."""
    running, found = (Settings(deployments=tuple(Deployment(**entry) for entry in one)) for one in (before, after))
    settings, taken, waiting = reloaded(running, found)
    assert (taken, waiting) == ((["deployments"], []) if is_live else ([], ["deployments"]))
    assert settings == (found if is_live else running)


def test_names_of_clients_are_taken_with_their_authority_alone() -> None:
    """--tls_clients is not taken while --tls_client_ca waits: without it, names would let in whoever comes."""
    tls = {"tls_cert": "c", "tls_key": "k"}
    running = Settings(**tls, tls_client_ca="a", tls_clients=("x",))
    assert reloaded(running, Settings(**tls, tls_client_ca="a", tls_clients=("y",))).taken == ["tls_clients"]
    assert reloaded(running, Settings(**tls)).waiting == ["tls_client_ca", "tls_clients"]
