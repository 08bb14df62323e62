"""From a wrong label to a message: real server, simulated cluster, real Prometheus, real Alertmanager, and what stands
in for Slack."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from tests.conftest import Serve
from tests.support.monitoring import ROUTING, RULES, Alertmanager, Prometheus, Receiver, fetched
from tests.support.running import ROOT, RunningServer, free_port, peer
from tests.support.waiting import until

WORSE = "ModelCanaryWorse of digits in seldon"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def _receiver(stack: ExitStack, directory: Path) -> tuple[Receiver, Alertmanager]:
    receiver = Receiver(directory)
    stack.callback(receiver.stop)
    alertmanager = Alertmanager(directory, receiver)
    stack.callback(alertmanager.stop)
    return receiver, alertmanager


def test_amtool_accepts_the_routing() -> None:
    """Alertmanager can load the configuration and its template."""
    checked = subprocess.run(
        [peer("amtool"), "check-config", str(ROUTING / "alertmanager.yml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_message_is_readable_and_cannot_shout(stack: ExitStack, tmp_path: Path) -> None:
    """Title, what happened, and the address of what to do; names from events are text, and notify nobody. The milder of
    two alerts stays unsaid."""
    receiver, alertmanager = _receiver(stack, tmp_path)
    labels = {
        "alertname": "ModelAccuracyBelowObjective",
        "deployment_name": "<!channel> & co",
        "predictor_name": "main",
    }
    annotations = {
        "summary": "<!channel> is worse",
        "description": "It is.",
        "runbook_url": "https://wiki.example.com/runbooks#a",
    }
    fetched(
        f"{alertmanager.url}/api/v2/alerts",
        [
            {"labels": labels | {"severity": severity}, "annotations": annotations}
            for severity in ("critical", "warning")
        ],
    )
    (message,) = until(receiver.attachments, 40, "no message")
    assert message["title"] == "Critical: ModelAccuracyBelowObjective of &lt;!channel&gt; &amp; co"
    assert message["color"] == "danger"
    assert message["text"].splitlines() == [
        "*&lt;!channel&gt; is worse*",
        "It is.",
        "What to do: https://wiki.example.com/runbooks#a",
    ]
    states = {one["labels"]["severity"]: one["status"]["state"] for one in fetched(f"{alertmanager.url}/api/v2/alerts")}
    assert states == {"critical": "active", "warning": "suppressed"}


@pytest.mark.parametrize("runbook_url", ["docs/how-to/runbooks.md#modeldown", "#modeldown", None])
def test_a_message_has_no_link_that_leads_nowhere(stack: ExitStack, tmp_path: Path, runbook_url: str | None) -> None:
    """While nobody has said where the runbooks can be opened, the message names the alert to look for."""
    receiver, alertmanager = _receiver(stack, tmp_path)
    annotations = {"summary": "It is down", "description": "It is."} | (
        {"runbook_url": runbook_url} if runbook_url else {}
    )
    alert = {"labels": {"alertname": "ModelDown", "severity": "critical"}, "annotations": annotations}
    fetched(f"{alertmanager.url}/api/v2/alerts", [alert])
    (message,) = until(receiver.attachments, 40, "no message")
    assert message["text"].splitlines() == ["*It is down*", "It is.", "What to do: see ModelDown in the runbooks"]


def test_the_command_of_the_page_sets_the_address(tmp_path: Path) -> None:
    """What the page says makes every alert of the rules lead to the address, and changes nothing else."""
    page = (ROOT / "docs/how-to/alert.md").read_text()
    (command,) = re.findall(r"^sed .*", page, re.MULTILINE)
    shutil.copytree(RULES, tmp_path / "rules")
    subprocess.run([peer("sh"), "-c", command], cwd=tmp_path, check=True, timeout=20)
    for name in ("models.yaml", "server.yaml"):
        before, after = (
            [rule for group in yaml.safe_load((rules / name).read_text())["groups"] for rule in group["rules"]]
            for rules in (RULES, tmp_path / "rules")
        )
        for rule in (rule for rule in before if "alert" in rule):
            address = f"https://wiki.example.com/models/runbooks#{rule['alert'].lower()}"
            rule["annotations"]["runbook_url"] = address
        assert after == before


def _tell(server: RunningServer, predictor: str, right: int, wrong: int, at: float | None = None) -> None:
    """Labels of a predictor, as the simulation's would be: rows of ten classes."""
    row = [1.0] + [0.0] * 9
    said = {
        "prediction": row,
        "namespace": "seldon",
        "deployment": "digits",
        "predictor": predictor,
        "model": "classifier",
        "predicted_at": time.time() if at is None else at,
    }
    statements = [said | {"truth": 0}] * right + [said | {"truth": 1}] * wrong
    assert server.post(statements, {"Content-Type": "application/json"}, "/v1/feedback").status == 200


@contextmanager
def _simulation(server: RunningServer, directory: Path) -> Iterator[None]:
    words = [
        sys.executable,
        "-m",
        "metrics_server",
        "simulate",
        "--url",
        server.url,
        "--ingress_port",
        str(free_port()),
    ]
    words += ["--past", "0", "--rate", "120", "--label_delay", "0.1", "--label_share", "1", "--seed", "1"]
    with (directory / "simulation.log").open("wb") as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


@pytest.mark.long
def test_a_canary_that_turns_bad_is_told_and_then_resolved(serve: Serve, stack: ExitStack, tmp_path: Path) -> None:
    """A canary as good as the main predictor is no news; one that turns bad is, within seconds; one that is good again
    resolves it."""
    server = serve("--store", "memory://")
    _tell(server, "main", right=1, wrong=0)
    _tell(server, "canary", right=1, wrong=0)
    (verdict,) = json.loads(server.get("/v1/models/seldon/digits/verdict").body)["verdicts"]
    _tell(server, "main", right=190, wrong=10, at=verdict["since"] + 1)  # when both were there
    _tell(server, "canary", right=95, wrong=5, at=verdict["since"] + 1)
    receiver, alertmanager = _receiver(stack, tmp_path)
    prometheus = Prometheus(tmp_path, server.port, alertmanager)
    stack.callback(prometheus.stop)
    until(lambda: prometheus.values("model:canary_loss_lower:every_look"), 40, "no interval that holds at every look")
    assert not prometheus.values('ALERTS{alertname="ModelCanaryWorse"}')

    with _simulation(server, tmp_path):  # its canary sees only a part of each digit
        warning = until(lambda: receiver.titled(f"Warning: {WORSE}"), 120, "no warning")
    assert warning["color"] == "warning"
    what, why, to_do = warning["text"].splitlines()
    assert what == "*digits: predictor canary is worse than main*"
    (loss,) = re.findall(
        r"^model_accuracy_ratio is worse by at least ([\d.]+), by the 95 % interval that holds at every look\.$", why
    )
    assert 0 < float(loss) < 1
    assert to_do == "What to do: see ModelCanaryWorse in the runbooks"

    _tell(server, "canary", right=2000, wrong=0)
    resolved = until(lambda: receiver.titled(f"Resolved: {WORSE}"), 120, "it is not resolved")
    assert resolved["text"].strip() == "No longer: digits: predictor canary is worse than main"
    assert resolved["color"] == "good"
