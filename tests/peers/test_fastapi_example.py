"""The model server in FastAPI beside a metrics server that is away, comes back, or stays away: no call waits for it,
and no prediction is lost for want of a second try."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.peers.environments import programs_of
from tests.support.running import ROOT, RunningServer, free_port
from tests.support.waiting import until

EXAMPLE = ROOT / "deploy/examples/fastapi"
IRIS = {"deployment_namespace": "examples", "deployment_name": "iris"}
# More answers than the queue holds, for a server that is not there.
OVERFLOW = """
import prediction_log
prediction_log.MAX_WAITING = 2
log = prediction_log.PredictionLog("http://127.0.0.1:1")
for number in range(20):
    log.tell(str(number), [[0.1, 0.9]])
print(prediction_log.UNTOLD._value.get())
"""


@pytest.fixture(scope="module")
def programs() -> Path:
    return programs_of(*(EXAMPLE / "requirements.txt").read_text().split())


@contextmanager
def _serving(programs: Path, log: Path, feedback_url: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    words = [programs / "uvicorn", "--app-dir", EXAMPLE, "model_server:app", "--port", str(port)]
    environment = {**os.environ, "FEEDBACK_URL": feedback_url, "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        until(lambda: "startup complete" in log.read_text() or process.poll() is not None, 60, "it does not start")
        until(lambda: "running on" in log.read_text() or process.poll() is not None, 60, "it does not listen")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(20)


def _predict(url: str) -> str:
    """The id of an answer, which comes although nobody takes what is told of it."""
    body = json.dumps({"rows": [[5.9, 3.0, 5.1, 1.8]]}).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["request_id"])


def _told(server: RunningServer) -> float | None:
    return server.value("model_predictions_total", **IRIS)


def test_a_server_that_comes_late_gets_all(programs: Path, serve: Serve, tmp_path: Path) -> None:
    """Calls are answered while nobody listens, and their predictions are told once somebody does, each once."""
    port = free_port()
    with _serving(programs, tmp_path / "log", f"http://127.0.0.1:{port}") as (_, url):
        identities = {_predict(url) for _ in range(5)}
        assert len(identities) == 5
        server = serve("--store", "memory://", port=port)
        until(lambda: _told(server) == 5, 30, "predictions are missing")
        truths = [
            {"namespace": "examples", "deployment": "iris", "request_id": identity, "row": 0, "truth": 2}
            for identity in identities
        ]
        server.post(truths, {"Content-Type": "application/json"}, "/v1/feedback")
        assert server.value("model_labels_total", status="matched", **IRIS) == 5


@pytest.mark.long
def test_a_stop_tells_what_waits(programs: Path, serve: Serve, tmp_path: Path) -> None:
    """After SIGTERM the process tells the predictions that it has answered, and then ends. The server stands still
    until then, so that they do wait."""
    server = serve("--store", "memory://")
    with _serving(programs, tmp_path / "log", server.url) as (process, url):
        server.process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(20):
                _predict(url)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2)
        finally:
            server.process.send_signal(signal.SIGCONT)
        process.wait(30)
    assert _told(server) == 20


def test_what_cannot_wait_is_counted(programs: Path) -> None:
    """Beyond the bound of the queue a prediction is counted as untold, and the call goes on."""
    words = [programs / "python", "-c", OVERFLOW]
    done = subprocess.run(words, cwd=EXAMPLE, capture_output=True, text=True, timeout=60, check=True)
    assert 17 <= float(done.stdout) <= 18  # one may be under way
