"""Servers are replaced one by one by those of the next version, which have one field more: both write meanwhile."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import psycopg

from metrics_server.pairing.record import decode_record
from tests.support.postgres import shared_postgres
from tests.support.running import RESPONSE, ROOT, RunningServer, ce
from tests.support.waiting import until

NEXT = (sys.executable, "-P", str(ROOT / "tests/support/next_version.py"))
COLOR = 13  # the place of the new field


def _predict(server: RunningServer, first: int, count: int) -> None:
    for number in range(first, first + count):
        assert server.post({"data": {"ndarray": [1]}}, ce(RESPONSE, f"e{number}", f"r{number}")).status == 200


def _label(server: RunningServer, first: int, count: int, truth: int) -> None:
    rows = [{"request_id": f"r{number}", "truth": truth} for number in range(first, first + count)]
    assert server.post(rows, {"Content-Type": "application/json"}, "/v1/feedback").status == 200


def _colors(url: str) -> set[str | None]:
    """What stands in the new field of all records; None where there is none."""
    with psycopg.connect(url) as connection:
        values = [value for (value,) in connection.execute("SELECT value FROM records WHERE expiry_queue = 1")]
    fields = [msgspec.msgpack.decode(value) for value in values]
    assert all(decode_record(value) for value in values), "an old server reads them all"
    return {record[COLOR] if len(record) > COLOR else None for record in fields}


def test_both_versions_write_and_the_new_field_waits_for_the_last_old_one(tmp_path: Path) -> None:
    """Old and new servers pair what the others have taken. The field is filled in when no old server is left, which
    would drop it; an old server that is started by mistake still works."""
    url = shared_postgres().fresh()
    old = RunningServer(tmp_path, "--store", url)
    _predict(old, 0, 20)
    new = RunningServer(tmp_path, "--store", url, program=NEXT)
    try:
        _label(new, 0, 10, 1)
        _predict(new, 20, 20)
        _label(old, 20, 10, 0)
        _label(old, 10, 10, 1)
        for server in (old, new):
            until(lambda server=server: server.value("model_support", window="1h") == 30, 10, "not all pairs are there")
        assert _colors(url) <= {None, ""}
        old.stop()

        def is_filled() -> bool:
            _label(new, 30, 10, 0)
            return "red" in _colors(url)

        until(is_filled, 20, "the field is never filled in")
        assert new.value("model_support", window="1h") == 40
        assert new.value("model_accuracy_ratio", window="1h") == 0.5
        late = RunningServer(tmp_path, "--store", url)
        try:
            until(lambda: late.value("model_support", window="1h") == 40, 10, "an old server does not read it")
            _label(late, 0, 1, 0)
            until(lambda: new.value("model_accuracy_ratio", window="1h") == 19 / 40, 10, "a correction is lost")
        finally:
            late.stop()
    finally:
        new.stop()
