"""Where the simulator's ingress listens: on this machine alone, or where a container's port can be published."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.running import free_port
from tests.support.waiting import until

SIMULATE = (sys.executable, "-m", "metrics_server", "simulate", "--rate", "0")


@contextmanager
def _simulated(directory: Path, url: str, *options: str) -> Iterator[str]:
    """What the simulator has said by the time that it is ready."""
    said = directory / "said"
    with said.open("wb") as output:
        process = subprocess.Popen([*SIMULATE, "--url", url, *options], stdout=output, stderr=output)
    try:
        until(
            lambda: "Ctrl-C stops" in said.read_text() or process.poll() is not None, 60, "the simulator is not ready"
        )
        yield said.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _is_answered(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 404
    except ConnectionRefusedError:
        return False
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("options", "answered", "shown"),
    [
        ([], {"127.0.0.1"}, "127.0.0.1"),
        pytest.param(["--ingress_host", "127.0.0.2"], {"127.0.0.2"}, "127.0.0.2", marks=pytest.mark.long),
        (["--ingress_host", "0.0.0.0"], {"127.0.0.1", "127.0.0.2"}, "127.0.0.1"),
    ],
    ids=["default", "one", "all"],
)
def test_the_ingress_listens_where_it_is_told(
    serve: Serve, tmp_path: Path, options: list[str], answered: set[str], shown: str
) -> None:
    """It answers at that address and at no other, and shows one that can be called from this machine."""
    server, port = serve("--store", "memory://"), free_port()
    with _simulated(tmp_path, server.url, "--ingress_port", str(port), *options) as said:
        assert f"ingress  http://{shown}:{port}/seldon/" in said, said
        assert {host for host in ("127.0.0.1", "127.0.0.2") if _is_answered(host, port)} == answered


def test_an_address_of_another_machine_is_refused(serve: Serve) -> None:
    """The message names both options, and nothing is started."""
    server = serve("--store", "memory://")
    words = [*SIMULATE, "--url", server.url, "--ingress_host", "192.0.2.1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert re.search(r"cannot listen on port 8003 of 192\.0\.2\.1: .+ --ingress_port and --ingress_host", done.stderr)
