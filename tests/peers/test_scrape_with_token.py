"""A real Prometheus reads a server that asks its readers for a token."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Serve
from tests.support.docs_pages import blocks, page
from tests.support.monitoring import Prometheus
from tests.support.running import peer
from tests.support.waiting import until

UP = "up{job='feedback-metrics-server'}"


def _documented() -> Any:
    """The scrape that the page for operators shows."""
    found = (yaml.safe_load(code) for language, code in blocks(page("how-to/operate.md")) if language == "yaml")
    return next(one for one in found if "scrape_configs" in one)


def test_promtool_accepts_the_documented_scrape(tmp_path: Path) -> None:
    """The configuration of docs/how-to/operate.md is one that Prometheus takes."""
    documented = _documented()
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(documented))
    words = [peer("promtool"), "check", "config", "--syntax-only", str(tmp_path / "prometheus.yml")]
    checked = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(("token", "up"), [("s3cret", 1.0), ("wrong", 0.0)])
def test_prometheus_reads_with_the_token(serve: Serve, tmp_path: Path, token: str, up: float) -> None:
    """With the documented `authorization` Prometheus reads the server, and with another token it does not."""
    (tmp_path / "tokens").write_text("older\ns3cret\n")
    (tmp_path / "token").write_text(token)
    server = serve("--store", "memory://", "--read_token_file", str(tmp_path / "tokens"))
    (documented,) = _documented()["scrape_configs"]
    authorization = {**documented["authorization"], "credentials_file": str(tmp_path / "token")}
    prometheus = Prometheus(tmp_path, server.port, job={"authorization": authorization})
    try:
        until(lambda: list(prometheus.values(UP).values()) == [up], 30, "Prometheus does not say so")
    finally:
        prometheus.stop()
