"""A dump of the shared store, made and restored as the docs say."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.postgres import Postgres
from tests.support.running import RESPONSE, ROOT, RunningServer, ce, peer
from tests.support.waiting import until

PAGE = (ROOT / "docs/how-to/one-machine-or-many.md").read_text()
COMMANDS = re.findall(r"```sh\n(pg_\w+ .*?)\n```", PAGE, re.DOTALL)


def _model_samples(server: RunningServer) -> dict[object, float]:
    return {key: value for key, value in server.samples().items() if key[0].startswith("model_")}


def _post(server: RunningServer, statements: list[dict[str, object]]) -> None:
    assert server.post(statements, {"Content-Type": "application/json"}, "/v1/feedback").status == 200


def test_a_restored_dump_has_all_numbers(tmp_path: Path) -> None:
    """A server on a database that a dump was restored into shows what the servers showed when it was made, though they
    went on; and a truth finds the prediction that waited then."""
    peer("pg_dump")
    dump, restore = COMMANDS
    postgres = Postgres().create()
    postgres.execute("CREATE DATABASE restored")
    places = {"DATABASE": postgres.url(), "RESTORED": postgres.url("restored")}
    environment = {**os.environ, **places, "PATH": f"{postgres.programs}:{os.environ['PATH']}"}

    def run(command: str) -> None:
        subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, check=True, timeout=60)

    servers = [RunningServer(tmp_path, "--store", postgres.url())]
    try:
        _post(servers[0], [{"deployment": "wine", "prediction": n % 3, "truth": n % 2} for n in range(50)])
        assert servers[0].post({"data": {"ndarray": [1]}}, ce(RESPONSE, "e", "waiting")).status == 200
        shown = until(lambda: _model_samples(servers[0]), 10, "no numbers")
        run(dump)
        _post(servers[0], [{"deployment": "wine", "prediction": 0, "truth": 0}])
        run(restore)
        servers.append(RunningServer(tmp_path, "--store", places["RESTORED"]))
        assert _model_samples(servers[1]) == pytest.approx(shown, rel=1e-12)  # to the order in which classes are added
        assert _model_samples(servers[0]) != pytest.approx(shown, rel=1e-12)
        _post(servers[1], [{"request_id": "waiting", "truth": 1}])
        assert servers[1].value("model_labels_total", status="matched", model_name="classifier") == 1
    finally:
        for server in servers:
            server.stop()
        postgres.stop()
