"""What the image is made of: its bill of materials, and what pip-audit says of it, asked at a service of the test."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.image.audit import told
from deploy.image.sbom import EXTRAS
from metrics_server import __version__
from tests.support.running import ROOT, free_port

IMAGE = ROOT / "deploy/image"


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bill") / "new" / "sbom.cdx.json"
    subprocess.run([sys.executable, IMAGE / "sbom.py", path], check=True, timeout=60)
    return path


def test_the_bill_keeps_the_specification(bill: Path) -> None:
    """It is valid by the JSON Schema of CycloneDX 1.6."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill.read_text()) is None


def test_the_bill_lists_what_is_locked(bill: Path) -> None:
    """Every pin of the server's image stands there once, with its hashes and no address, below this package."""
    told = json.loads(bill.read_text())
    lock = (IMAGE / "requirements.txt").read_text()
    pins = [line.split(" ")[0] for line in lock.splitlines() if "==" in line]
    assert sorted(f"{one['name']}=={one['version']}" for one in told["components"]) == sorted(pins)
    assert bill.read_text().count('"content"') == lock.count("--hash=sha256:")
    assert "://" not in bill.read_text().replace("http://cyclonedx.org", "")
    assert told["metadata"]["component"]["version"] == __version__
    (own,) = [one["dependsOn"] for one in told["dependencies"] if one["ref"].startswith("pkg:pypi/feedback-")]
    assert {"tornado", "psycopg", "bokeh"} <= {ref.removeprefix("pkg:pypi/").split("@")[0] for ref in own}


def test_the_same_locks_give_the_same_bill(bill: Path, tmp_path: Path) -> None:
    """A bill that is written again is the same to the last byte."""
    subprocess.run([sys.executable, IMAGE / "sbom.py", tmp_path / "again.json"], check=True, timeout=60)
    assert (tmp_path / "again.json").read_bytes() == bill.read_bytes()


class _Advisories(BaseHTTPRequestHandler):
    """A service in the form of OSV that knows of one vulnerability, in tornado."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
        events = [{"introduced": "0"}, {"fixed": "999.1"}]
        affected = {
            "package": {"ecosystem": "PyPI", "name": "tornado"},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
        }
        known: dict[str, Any] = {"id": "PYSEC-1-1", "modified": "2026-01-01T00:00:00Z", "affected": [affected]}
        body = json.dumps({"vulns": [known]} if asked == self.server.vulnerable else {}).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Advisories)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _audit(port: int) -> tuple[int, str]:
    words = ["--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{port}/v1/query"]
    command = [sys.executable, IMAGE / "audit.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout


def test_a_vulnerable_version_fails(service: ThreadingHTTPServer) -> None:
    """A locked version that the service knows to be vulnerable is named, with what mends it, and fails."""
    service.vulnerable = "tornado"  # type: ignore[attr-defined]
    status, said = _audit(service.server_port)
    assert status == 1
    assert "audit: tornado " in said
    assert ": PYSEC-1-1, mended in 999.1" in said


def test_versions_without_a_known_fault_pass(service: ThreadingHTTPServer) -> None:
    """A service that knows of nothing passes, and what was asked about is counted."""
    service.vulnerable = ""  # type: ignore[attr-defined]
    status, said = _audit(service.server_port)
    assert status == 0
    assert "packages, none of them known to be vulnerable" in said


def test_a_service_that_cannot_be_asked_fails_nothing() -> None:
    """Without the service nothing is known, which is said and is no failure."""
    status, said = _audit(free_port())
    assert status == 0
    assert said.startswith("audit: the service could not be asked, so that nothing is known of vulnerabilities")


def test_packages_that_were_passed_over_are_counted() -> None:
    """A package that the service does not know is no good news."""
    found = [{"name": "a", "skip_reason": "not found"}, {"name": "b", "version": "1", "vulns": []}]
    assert told(found) == ([], 1)


def test_the_bill_is_of_the_extras_that_are_locked() -> None:
    """The bill's extras are those that lock.sh locks."""
    script = (IMAGE / "lock.sh").read_text()
    (server,) = [line for line in script.splitlines() if line.startswith("server=")]
    assert re.findall(r"--extra (\w+)", server) == list(EXTRAS)
