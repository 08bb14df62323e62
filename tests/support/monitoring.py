"""A real Prometheus and a real Alertmanager with the rules and the routing that we ship, in a hurry."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.running import ROOT, free_port, peer
from tests.support.waiting import until

RULES = ROOT / "deploy/rules"
ROUTING = ROOT / "deploy/alertmanager"

# The durations that say how long an alert waits before it is told. Those inside expressions stay as they are.
_WAITS = ("for", "keep_firing_for", "group_wait", "group_interval")


def hurried(document: Any) -> Any:
    """The same rules or routing, with a second in the place of every wait."""
    if isinstance(document, dict):
        return {key: "1s" if key in _WAITS else hurried(value) for key, value in document.items()}
    return [hurried(one) for one in document] if isinstance(document, list) else document


def fetched(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=30
    ) as answer:
        return json.loads(answer.read() or "null")


class Program:
    """A program with a page that says when it is ready, its output in a file."""

    def __init__(self, directory: Path, words: Sequence[str], port: int, ready: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / f"{Path(words[0]).name}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory
            )
        try:
            until(lambda: self._is_ready(ready), 30, f"{words[0]} does not get ready")
        except BaseException:
            self.stop()
            raise

    def _is_ready(self, path: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


class Receiver(Program):
    """What stands in for Slack."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        program = ROOT / "deploy/compose/slack_receiver.py"
        super().__init__(directory, [peer("python3"), str(program), "--port", str(port)], port, "/")

    def attachments(self) -> list[dict[str, str]]:
        return [attachment for message in fetched(f"{self.url}/") for attachment in message["attachments"]]

    def titled(self, title: str) -> dict[str, str] | None:
        """The first message with this title."""
        return next((attachment for attachment in self.attachments() if attachment["title"] == title), None)


class Alertmanager(Program):
    """With our routing to a receiver, or another."""

    def __init__(self, directory: Path, receiver: Receiver, routing: Any = None) -> None:
        port = free_port()
        shutil.copy(ROUTING / "slack.tmpl", directory)
        (directory / "slack_url").write_text(f"{receiver.url}/services/T0/B0/secret")
        routing = routing or yaml.safe_load((ROUTING / "alertmanager.yml").read_text())
        text = yaml.safe_dump(hurried(routing)).replace("/run/secrets/slack_url", str(directory / "slack_url"))
        (directory / "alertmanager.yml").write_text(text)
        words = [
            peer("prometheus-alertmanager"),
            f"--config.file={directory / 'alertmanager.yml'}",
            f"--storage.path={directory / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]
        super().__init__(directory, words, port, "/-/ready")


class Prometheus(Program):
    """Scrapes a server every second, or several, and evaluates our rules every second."""

    def __init__(
        self,
        directory: Path,
        server_port: int,
        alertmanager: Alertmanager | None = None,
        *,
        further_ports: Sequence[int] = (),
        job: Mapping[str, Any] | None = None,
        features: Sequence[str] = (),
    ) -> None:
        """`job` has further settings of the scrape, `features` those that are to be enabled."""
        port = free_port()
        rules = directory / "rules"
        rules.mkdir()
        for name in ("objectives.yaml", "models.yaml", "server.yaml"):
            (rules / name).write_text(yaml.safe_dump(hurried(yaml.safe_load((RULES / name).read_text()))))
        scrape = {
            "job_name": "feedback-metrics-server",
            "metrics_path": "/v1/metrics",
            "static_configs": [{"targets": [f"127.0.0.1:{each}" for each in (server_port, *further_ports)]}],
            **(job or {}),
        }
        told = [{"static_configs": [{"targets": [alertmanager.url.removeprefix("http://")]}]}] if alertmanager else []
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [f"{rules}/*.yaml"],
            "alerting": {"alertmanagers": told},
            "scrape_configs": [scrape],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        words = [
            peer("prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--rules.alert.resend-delay=1s",
            *(f"--enable-feature={feature}" for feature in features),
        ]
        super().__init__(directory, words, port, "/-/ready")

    def values(self, query: str) -> dict[frozenset[tuple[str, str]], float]:
        """An instant vector by its labels, without names."""
        answer = fetched(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        return {
            frozenset((name, value) for name, value in one["metric"].items() if name != "__name__"): float(
                one["value"][1]
            )
            for one in answer["data"]["result"]
        }
