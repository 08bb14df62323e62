"""A truth under an id that no prediction can have is not pending in silence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from metrics_server.store.sqlite.store import SqliteStore
from tests.conftest import Serve
from tests.support.pages import html
from tests.support.pairing_bench import MAIN, Sent
from tests.support.running import FEEDBACK, ce
from tests.support.waiting import until
from tests.support.writer_bench import WriterBench

TUTORIAL = {"request": {"data": {"ndarray": [[5.1, 3.5, 1.4, 0.2]]}}, "truth": {"data": {"ndarray": [0]}}}


@pytest.fixture
def hours_old(tmp_path: Path) -> Path:
    """A file in which two truths and a prediction have waited for two hours."""
    at, path = time.time() - 7200, tmp_path / "old.db"
    store = SqliteStore(str(path))
    bench = WriterBench(store, at)
    bench.send(
        *(Sent("feedback", request, at, request, MAIN, ("", ""), truth=(1,)) for request in "ab"),
        Sent("response", "p", at, "c", MAIN, ("", ""), (1,)),
    )
    bench.stop()
    store.close()
    return path


def test_the_page_says_what_truths_in_vain_lack(serve: Serve, hours_old: Path) -> None:
    """After an hour the list of models and the page of the server say how many truths wait in vain and what to send
    with them, and a gauge counts them; a new one of that kind is taken, and not told of yet."""
    server = serve("--store", f"sqlite:///{hours_old}")
    assert server.post(TUTORIAL, ce(FEEDBACK, "f1", "id-of-the-feedback-call")).status == 200
    until(lambda: server.value("metrics_server_pending_truths") == 3, 20, "the truth does not wait")
    assert server.value("metrics_server_overdue_truths") == 2
    for path in ("/", "/ui/health"):
        said = html(server, path).text
        assert "2 truths have waited for more than an hour" in said
        assert "header Seldon-Puid or as meta.puid" in said


def test_without_them_the_page_says_nothing(serve: Serve) -> None:
    """A truth that has only just come is no reason for a notice."""
    server = serve("--store", "memory://")
    assert server.post(TUTORIAL, ce(FEEDBACK, "f1", "id-of-the-feedback-call")).status == 200
    until(lambda: server.value("metrics_server_pending_truths") == 1, 20, "the truth does not wait")
    assert "have waited" not in html(server, "/").text
