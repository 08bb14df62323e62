"""The server as its users start it, and as the tests start it: one and the same."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import pytest

from tests.conftest import Serve
from tests.support.running import PROGRAM, ROOT

PAIR = {"response": {"data": {"ndarray": [1]}}, "truth": {"data": {"ndarray": [1]}}}

each = pytest.mark.parametrize("program", [PROGRAM, ()], ids=["the program", "forked"])


@each
def test_a_start_and_a_stop(serve: Serve, program: Sequence[str]) -> None:
    """It reads its environment and a model beside it, answers and counts, and after SIGTERM ends with 0 and a whole
    log."""
    environment = {"METRICS_SERVER_WINDOWS": "2h", "PYTHONPATH": str(ROOT / "docs/examples")}
    options = ("--store", "sqlite:///state.db", "--storage_uri", "missed_cost.MissedCost")
    server = serve(*options, program=program, environment=environment)
    assert server.post(PAIR).status == 200
    assert server.value("model_mean_cost", window="2h") == 0
    assert (server.log.parent / "state.db").exists()
    assert server.stop() == 0
    lines = server.log.read_text().splitlines()
    assert "Listening on port" in lines[1]
    assert lines[-1].endswith("metrics_server] Stopped")


@each
def test_a_kill(serve: Serve, program: Sequence[str]) -> None:
    """What a signal ends has the status of the signal."""
    server = serve("--store", "memory://", program=program)
    assert server.process.poll() is None
    server.process.kill()
    assert server.process.wait(20) == server.process.returncode == -signal.SIGKILL


@each
def test_a_start_that_fails(serve: Serve, program: Sequence[str]) -> None:
    """It ends with its status, and says why in its log."""
    with pytest.raises(AssertionError, match="ended with 1:\n(.*\n)*metrics-server: .*sqlite://x"):
        serve("--store", "sqlite://x", program=program)
