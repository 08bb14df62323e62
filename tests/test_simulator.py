"""The demonstration: its events are those of an executor, and the command runs, stops and fails as a newcomer expects."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from metrics_server.event import FEEDBACK, REQUEST, RESPONSE, Event, decode
from metrics_server.executor_event import Message, Origin, Stamp, feedback_event, new_stamp, request_event, response_event
from metrics_server.half import Half, half_of
from metrics_server.series import Labels
from metrics_server.simulated_stream import DATASETS, held_out
from metrics_server.simulator import main, numbers_of

ORIGIN = Origin("shop", "wine", "main", "classifier")
PUID = "5d7c2f9a-7c3e-4e58-a1f1-6c5b8e0d2b44"
TRACE = "00-4b1c9d0e7a6f4c0f9d2b3a5e6f708192-1a2b3c4d5e6f7081-00"
STAMP = Stamp("0b0b6a3e-52a1-4d0e-9c0b-0d8f0f3f7a11", 1772442904120934511, TRACE)
NOW = 1772442905.0
CLASSES, ROW = ["c0", "c1", "c2"], [0.1, 0.2, 0.7]
GOLDEN = {
    "Ce-Specversion": "1.0",
    "Ce-Id": "0b0b6a3e-52a1-4d0e-9c0b-0d8f0f3f7a11",
    "Ce-Type": "io.seldon.serving.inference.response",
    "Ce-Source": "http://:8000/",
    "Ce-Time": "2026-03-02T09:15:04.120934511Z",
    "Ce-Requestid": PUID,
    "Ce-Modelid": "classifier",
    "Ce-Inferenceservicename": "wine",
    "Ce-Namespace": "shop",
    "Ce-Endpoint": "main",
    "Ce-Protocol": "seldon",
    "Ce-Traceparent": TRACE,
    "Traceparent": TRACE,
    "Content-Type": "application/json",
    "User-Agent": "Go-http-client/1.1",
}


def _decoded(message: Message) -> tuple[Event, Half]:
    headers, body = message
    attributes = {name[3:].lower(): value for name, value in headers.items() if name.startswith("Ce-")}
    (event,) = decode(headers["Content-Type"], attributes, body)
    assert isinstance(event, Event)
    return event, half_of(event, Labels("", "", "", ""), NOW)


def _request() -> Message:
    return request_event(ORIGIN, STAMP, PUID, ["alcohol", "ash"], [[13.2, 2.4]])


def _response() -> Message:
    return response_event(ORIGIN, STAMP, PUID, CLASSES, [ROW])


def test_headers_are_the_executors() -> None:
    """An event has the headers that Seldon's executor sends, no more and no fewer."""
    assert _response()[0] == GOLDEN


@pytest.mark.parametrize(
    ("message", "name"),
    [(_request(), "inference.request"), (_response(), "inference.response"), (feedback_event(ORIGIN, STAMP, PUID, [2]), "feedback")],
)
def test_kinds_differ_in_their_type_only(message: Message, name: str) -> None:
    """The three kinds of events have equal headers but for their type."""
    assert message[0] == {**GOLDEN, "Ce-Type": f"io.seldon.serving.{name}"}


def test_bodies_are_seldon_messages() -> None:
    """Request, response and feedback carry the JSON of Seldon's protocol."""
    assert json.loads(_request()[1]) == {"data": {"names": ["alcohol", "ash"], "ndarray": [[13.2, 2.4]]}}
    assert json.loads(_response()[1]) == {"data": {"names": CLASSES, "ndarray": [ROW]}, "meta": {}}
    assert json.loads(feedback_event(ORIGIN, STAMP, PUID, [[0, 0, 1]])[1]) == {"truth": {"data": {"ndarray": [[0, 0, 1]]}}}
    own = json.loads(feedback_event(ORIGIN, STAMP, PUID, [2], [ROW])[1])
    assert own == {"response": {"data": {"ndarray": [ROW]}}, "truth": {"data": {"ndarray": [2]}}}


def test_server_reads_what_is_sent() -> None:
    """The server decodes each event to its kind, labels, time and values."""
    request, _ = _decoded(_request())
    event, response = _decoded(_response())
    assert (request.kind, event.kind) == (REQUEST, RESPONSE)
    assert response.labels == Labels("shop", "wine", "main", "classifier")
    said = response.arrivals[0].said
    assert said is not None
    assert said.value == ROW
    assert event.time == pytest.approx(1772442904.120934, abs=1e-6)


@pytest.mark.parametrize("truth", [[2], [[0, 0, 1]]])
def test_feedback_meets_its_prediction(truth: list[object]) -> None:
    """Feedback has the key of its prediction and its truth, whether an index or one-hot."""
    _, response = _decoded(_response())
    event, feedback = _decoded(feedback_event(ORIGIN, STAMP, PUID, truth))
    assert event.kind == FEEDBACK
    assert feedback.joins
    assert feedback.keys == response.keys
    known = feedback.arrivals[0].known
    assert known is not None
    assert known.value == truth[0]


def test_stamps_are_fresh_uuids() -> None:
    """Each stamp has an id of its own, a UUIDv4, and equal random numbers give equal stamps."""
    random = Random(1)
    first, second = new_stamp(random, 5), new_stamp(random, 5)
    assert UUID(first.event_id).version == 4
    assert first.event_id != second.event_id
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", first.traceparent)
    assert new_stamp(Random(1), 5) == first


@pytest.mark.parametrize("dataset", DATASETS)
def test_classifier_is_good_but_not_perfect(dataset: str) -> None:
    """Each data set gives a stream in which some predictions are wrong and most are right."""
    held = held_out(dataset)
    right = [row.index(max(row)) == truth for row, truth in zip(held.probabilities, held.truths, strict=True)]
    assert 0.8 < sum(right) / len(right) < 0.98
    assert {len(row) for row in held.probabilities} == {len(held.classes)}
    assert {len(row) for row in held.rows} == {len(held.features)}


def test_numbers_before_the_first_label() -> None:
    """A page without the deployment's gauges gives no accuracy, not a zero."""
    page = (
        'model_accuracy_ratio{deployment_name="other",window="1h"} 0.5\nmetrics_server_events_total{type="request",outcome="accepted"} 7\n'
    )
    numbers = numbers_of(page, "wine")
    assert (numbers.events, numbers.support, numbers.accuracy) == (7, 0, None)
    assert "no accuracy" in str(numbers)


def test_missing_scikit_learn_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without scikit-learn the command says what to install, and fails."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main([]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "metrics-server simulate: the simulation needs scikit-learn: pip install scikit-learn (the extra demo)"
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "127.0.0.1:8080"],
        ["--url", "http://127.0.0.1:99999"],
        ["--serve", "--url", "http://example.org:8080"],
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--label_delay", "-1"],
        ["--label_share", "80"],
    ],
)
def test_wrong_options_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An option that makes no sense is named, with status 2."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert arguments[-2] in capsys.readouterr().err


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def _simulation(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command, its output in one pipe; it is ended with its server if a test fails before."""
    command = [sys.executable, "-m", "metrics_server", "simulate", *arguments]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        watchdog = threading.Timer(60, process.terminate)  # a read from a silent process would wait for ever
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.terminate()


def _lines_until(process: subprocess.Popen[str], start: str) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith(start):
            break
    assert lines
    assert lines[-1].startswith(start), lines
    return lines


def _server_of(output: str) -> int:
    found = re.search(r"Server process (\d+)", output)
    assert found, output
    return int(found[1])


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_label_is_counted_once(tmp_path: Path) -> None:
    """Sixty requests with labels, some delivered twice, end as a support of sixty and status 0, with the server gone."""
    url = f"http://127.0.0.1:{_free_port()}"
    rest = ["--rate", "200", "--label_delay", "0.05", "--label_share", "1", "--store", "memory://", "--url", url]
    with _simulation(tmp_path, "--serve", "--count", "60", *rest) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert re.fullmatch(r"accuracy 0\.\d{3} \(95 %: 0\.\d{3} to [01]\.\d{3}\)  support 60  labels 60  .*", output.splitlines()[-1]), output
    assert f"{url}/v1/metrics | grep model_accuracy_ratio" in output
    assert not _is_running(_server_of(output))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_cleanly_when_told(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end simulation and server, soon, with status 0 and without a traceback."""
    url = f"http://127.0.0.1:{_free_port()}"
    with _simulation(tmp_path, "--serve", "--rate", "50", "--label_delay", "0.1", "--store", "memory://", "--url", url) as process:
        lines = _lines_until(process, "accuracy")
        process.send_signal(number)
        rest, _ = process.communicate(timeout=15)
    assert process.returncode == 0, rest
    assert rest.splitlines()[-1] == "Stopped."
    assert "Traceback" not in rest
    assert "Error" not in rest
    assert not _is_running(_server_of("\n".join(lines)))


def test_taken_port_is_said(tmp_path: Path) -> None:
    """Where something listens already, the command says so and fails."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _simulation(tmp_path, "--serve", "--url", f"http://127.0.0.1:{port}", "--store", "memory://") as process:
            output, _ = process.communicate()
    assert process.returncode == 1
    assert f"port {port} is taken" in output
    assert "Traceback" not in output


def test_server_that_cannot_start_is_explained(tmp_path: Path) -> None:
    """When the server ends at its start, its last words are shown, and the command fails."""
    url = f"http://127.0.0.1:{_free_port()}"
    with _simulation(tmp_path, "--serve", "--url", url, "--store", "nosuch://store") as process:
        output, _ = process.communicate()
    assert process.returncode == 1
    assert "the server stopped with status 1" in output
    assert "nosuch" in output
    assert "Traceback" not in output


def test_unreachable_server_is_tried_again(tmp_path: Path) -> None:
    """Without a server the command says so in one line and goes on trying, until it is stopped."""
    url = f"http://127.0.0.1:{_free_port()}"
    with _simulation(tmp_path, "--rate", "50", "--url", url) as process:
        _lines_until(process, f"Cannot reach {url}")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=15)
    assert process.returncode == 0
    assert rest.splitlines() == ["Stopped."]
