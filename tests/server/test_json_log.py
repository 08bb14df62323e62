"""The log as JSON: one object a line, with the trace of what a line is about."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import Counter
from typing import Any

import pytest

from metrics_server.__main__ import JsonFormatter
from tests.conftest import Serve
from tests.support.pages import JSON
from tests.support.running import FEEDBACK, RunningServer, ce
from tests.support.waiting import until

TRACE, OTHER = "0af7651916cd43dd8448eb211c80319c", "4b1c9d0e7a6f4c0f9d2b3a5e6f708192"
PAIR = {"response": {"data": {"ndarray": [1]}}, "truth": {"data": {"ndarray": [1]}}}
PROCESSING = "PROCESSING Feedback Event."


def _traceparent(trace_id: str) -> str:
    return f"00-{trace_id}-b7ad6b7169203331-01"


def _lines(server: RunningServer) -> list[dict[str, Any]]:
    """The whole lines of the log, each of which has to be an object."""
    return [json.loads(line) for line in server.log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _feedback(server: RunningServer, count: int) -> Counter[str]:
    """The lines of feedback by trace, when so many are there."""

    def found() -> list[str]:
        return [line.get("trace_id", "") for line in _lines(server) if line["message"] == PROCESSING]

    until(lambda: len(found()) >= count, 10, "not all feedback is logged")
    return Counter(found())


def test_every_line_is_an_object(serve: Serve) -> None:
    """From the start to the end, each line has a time in UTC, a level, a logger and a message, and nothing else."""
    server = serve("--store", "memory://", "--log_format", "json")
    server.process.terminate()
    server.process.wait(20)
    lines = _lines(server)
    assert [line["message"] for line in lines][-2:] == ["Stopping", "Stopped"]
    for line in lines:
        assert list(line) == ["time", "level", "logger", "message"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["level"] == "INFO"
        assert line["logger"].startswith("metrics_server")


def test_a_line_of_feedback_names_its_trace(serve: Serve) -> None:
    """There is a line for each feedback, with the trace of the event, or else that of its request; events of a batch
    have each their own."""
    server = serve("--store", "memory://", "--log_format", "json")
    own = {"Traceparent": _traceparent(OTHER)}
    assert server.post(PAIR, ce(FEEDBACK, "1", traceparent=_traceparent(TRACE)) | own).status == 200
    assert server.post(PAIR, ce(FEEDBACK, "2") | own).status == 200
    assert server.post(PAIR, ce(FEEDBACK, "3")).status == 200
    assert server.post([{"truth": 1, "prediction": 1}] * 3, JSON | own, "/v1/feedback").status == 200
    assert server.post(PAIR, JSON | own, "/api/v1.0/feedback").status == 200
    structured = [
        {"specversion": "1.0", "id": name, "source": "/", "type": FEEDBACK, "data": PAIR} | more
        for name, more in (("4", {"traceparent": _traceparent(TRACE)}), ("5", {}))
    ]
    batch = {"Content-Type": "application/cloudevents-batch+json"}
    assert server.post(structured, batch).status == 200
    assert _feedback(server, 9) == {TRACE: 2, OTHER: 5, "": 2}


def test_text_stays_as_it_was(serve: Serve) -> None:
    """Without the option lines are text, one for each feedback, and name no trace."""
    server = serve("--store", "memory://")
    for name in ("1", "2"):
        assert server.post(PAIR, ce(FEEDBACK, name, traceparent=_traceparent(TRACE))).status == 200
    until(lambda: server.log.read_text().count(PROCESSING) == 2, 10, "not all feedback is logged")
    text = server.log.read_text()
    assert TRACE not in text
    form = re.compile(
        r"\[I \d{4}-\d\d-\d\d \d\d:\d\d:\d\d metrics_server.ingest.pipeline\] PROCESSING Feedback Event\."
    )
    assert len([line for line in text.splitlines() if form.fullmatch(line)]) == 2


def test_what_is_raised_is_in_its_line() -> None:
    """A traceback, and a text of several lines, or of observations of characters, are one line all the same."""
    try:
        raise ValueError("a\nb")
    except ValueError:
        raised = sys.exc_info()
    record = logging.LogRecord("metrics_server", logging.ERROR, "", 0, "It failed: %s", ("\ud800\n",), raised)
    record.created = 1_772_442_904.12
    text = JsonFormatter().format(record)
    assert "\n" not in text
    told = json.loads(text)
    assert told["time"] == "2026-03-02T09:15:04.120Z"
    assert told["message"] == "It failed: \ud800\n"
    assert told["exception"].endswith("ValueError: a\nb")


@pytest.mark.parametrize("form", ["xml", "JSON"])
def test_another_form_is_refused(serve: Serve, form: str) -> None:
    """A form that is not known stops the start, which names those that are."""
    with pytest.raises(AssertionError, match=f"--log_format {form}: want text or json"):
        serve("--store", "memory://", "--log_format", form)
