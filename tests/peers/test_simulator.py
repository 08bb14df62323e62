"""`metrics-server simulate` as a newcomer meets it: real processes, real curl, and a real server that is asked what it
saw."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from metrics_server.commands.simulation.command import main
from metrics_server.commands.simulation.outcome import outcome_of
from tests.conftest import Serve
from tests.support.running import RESPONSE, ROOT, RunningServer, ce, free_port, peer
from tests.support.waiting import until

pytestmark = pytest.mark.long

IRIS, DIGITS, DIABETES = "multiclass-model/default/classifier", "digits/main/classifier", "diabetes/default/regressor"
EMPTY = '{"data":{"tensor":{"shape":[0]}},"meta":{}}'
FLOWER = b'{"data": {"ndarray": [[1.0, 2.0, 5.0, 6.0]]}}'
POST = 'curl -v -X POST -H "Content-Type: application/json"'
MODEL = "http://localhost:80/seldon/seldon/multiclass-model/api/v1.0"
WALKTHROUGH = [
    (
        f"""{POST} -d '{{"data": {{"ndarray":[[1.0, 2.0, 5.0, 6.0]]}}, "meta": {{ "puid": "hello" }}}}' """
        f"{MODEL}/predictions"
    ),
    (
        f"""{POST} -d '{{"response": {{"data": {{"ndarray": [[0.0006985194531162841,0.003668039039435755,"""
        f"""0.9956334415074478]]}}}}, "truth":{{"data": {{"ndarray": [[0,0,1]]}}}}}}' """
        f"{MODEL}/feedback"
    ),
]


def test_numbers_before_the_first_label() -> None:
    """A page without values of the namespace gives none, not a zero."""
    page = (
        'model_accuracy_ratio{deployment_namespace="other",window="1h"} 0.5\n'
        'metrics_server_events_total{type="request",outcome="accepted"} 7\n'
    )
    assert str(outcome_of(page, "seldon")) == "nothing is labelled yet  labels 0  events 7  repeats 0"


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
        ["--rate", "nan"],
        ["--label_delay", "-1"],
        ["--label_share", "80"],
        ["--repeats", "2"],
        ["--past", "inf"],
        ["--ingress-port", "0"],
        ["--rate", "0", "--count", "5"],
    ],
)
def test_wrong_options_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An option that makes no sense is named, with status 2."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert arguments[-2].removeprefix("--").replace("-", "_") in capsys.readouterr().err.replace("-", "_")


class Simulation:
    """The command, its output in one pipe, and its ports."""

    def __init__(self, process: subprocess.Popen[str], url: str, ingress: int) -> None:
        self.process, self.url, self.ingress = process, url, ingress
        self.greeting = ""
        self.seconds_to_see = 0.0

    def lines_until(self, start: str) -> list[str]:
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line.rstrip())
            if line.startswith(start):
                break
        assert lines
        assert lines[-1].startswith(start), lines
        return lines

    def end(self) -> str:
        output, _ = self.process.communicate(timeout=40)
        return output

    def call(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Mapping[str, str], Any]:
        """Status, headers and JSON of an answer of the ingress."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ingress, timeout=10)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "application/json", **names})
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
        return answer.status, dict(answer.getheaders()), said

    def text(self, path: str) -> str:
        """What the server says there."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.url.rpartition(":")[2]), timeout=10)
        connection.request("GET", path)
        said = connection.getresponse().read().decode()
        connection.close()
        return said

    def get(self, path: str) -> Any:
        return json.loads(self.text(path))

    def labels(self, deployment: str) -> float:
        """All that were ever matched, less what was taken back: a feedback that overtakes the log of its prediction
        counts for the predictor that it went to, and then for the one that served. A window would lose some while a
        test runs.
        """
        page = self.text("/v1/metrics")

        def counted(name: str) -> float:
            line = rf'^{name}{{.*deployment_name="{deployment}".*status="matched"}} (.*)$'
            return sum(map(float, re.findall(line, page, re.MULTILINE)))

        return counted("model_labels_total") - counted("model_labels_retracted_total")


@contextmanager
def _simulation(folder: Path, *arguments: str, url: str = "", **environment: str) -> Iterator[Simulation]:
    """It is ended with its server if a test fails before."""
    url, ingress = url or f"http://127.0.0.1:{free_port()}", free_port()
    command = [
        sys.executable,
        "-m",
        "metrics_server",
        "simulate",
        "--url",
        url,
        "--ingress_port",
        str(ingress),
        *arguments,
    ]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        watchdog = threading.Timer(100, process.terminate)  # a read from a silent process would wait for ever
        watchdog.start()
        try:
            yield Simulation(process, url, ingress)
        finally:
            watchdog.cancel()
            process.terminate()


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


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulation]:
    """A cluster that makes no calls of its own, with a server that was told of twelve hours."""
    with _simulation(
        tmp_path_factory.mktemp("shown"), "--serve", "--rate", "0", "--past", "12", "--seed", "1"
    ) as simulation:
        began_at = time.monotonic()
        simulation.greeting = "\n".join(simulation.lines_until("Told"))
        simulation.seconds_to_see = time.monotonic() - began_at
        yield simulation


def _curl(command: str, simulation: Simulation) -> str:
    """What a command of the documentation prints, at the ports of the simulation; it must succeed."""
    peer("curl")
    addressed = re.sub(r"(localhost:80|127\.0\.0\.1:8003)/", f"127.0.0.1:{simulation.ingress}/", command)
    ran = subprocess.run(
        [peer("bash"), "-c", addressed.replace("curl ", "curl --fail ", 1)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_there_is_something_to_see_within_a_minute(shown: Simulation) -> None:
    """From the start of the command to the end of the past it takes less, also on a machine that is busy beside it."""
    assert shown.seconds_to_see < 60
    told = re.search(r"Told ([\d,]+) events of the last 12 hours", shown.greeting)
    assert told
    assert 20_000 < int(told[1].replace(",", "")) < 40_000


def test_the_walkthrough_runs(shown: Simulation) -> None:
    """The commands of the walkthrough run as they are, but for the address; the server counts one pair more."""
    before = shown.labels("multiclass-model")
    prediction, feedback = (_curl(command, shown) for command in WALKTHROUGH)
    said = json.loads(prediction)
    assert said["data"]["names"] == ["t:0", "t:1", "t:2"]
    (row,) = said["data"]["ndarray"]
    assert row.index(max(row)) == 2
    assert said["meta"]["puid"] == "hello"
    assert said["meta"]["requestPath"].keys() == {"classifier"}
    assert feedback == EMPTY
    until(lambda: shown.labels("multiclass-model") == before + 1, 20, "the feedback of the walkthrough was not counted")


def test_the_printed_commands_run(shown: Simulation) -> None:
    """What the command prints to be pasted runs, and its feedback meets its prediction."""
    commands = re.findall(r"^  (curl .*)$", shown.greeting, re.MULTILINE)
    assert len(commands) == 2
    before = shown.labels("multiclass-model")
    for command in commands:
        _curl(command, shown)
    until(lambda: shown.labels("multiclass-model") == before + 1, 20, "the feedback was not joined")


def test_every_option_is_documented() -> None:
    """The page lists the options that the command has."""
    (listed,) = re.findall(
        r"^```console\n(.*?)^```$", (ROOT / "docs/how-to/simulate.md").read_text(), re.DOTALL | re.MULTILINE
    )
    described = subprocess.run(
        [sys.executable, "-m", "metrics_server", "simulate", "--help"], capture_output=True, text=True, check=True
    )
    known = set(re.findall(r"^  (--[a-z_]+)", described.stdout, re.MULTILINE))
    assert set(re.findall(r"^--[a-z_]+", listed, re.MULTILINE)) == known


@pytest.mark.parametrize("page", ["tutorial.md", "how-to/simulate.md"])
def test_the_documented_commands_run(shown: Simulation, page: str) -> None:
    """Every command of the page that goes to the ingress is answered 200."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)
    commands = [
        command
        for block in blocks
        if ":8003" in block
        for command in re.split(r"^(?=curl )", block, flags=re.MULTILINE)
        if command
    ]
    assert len(commands) == 2
    for command in commands:
        _curl(command, shown)


def test_feedback_finds_its_prediction(shown: Simulation) -> None:
    """With the puid of the prediction it is joined, whichever predictor it is balanced to."""
    before = shown.labels("digits")
    for number in range(12):
        puid = f"joined-{number}"
        body = json.dumps({"data": {"ndarray": [[0.0] * 64]}}).encode()
        status, headers, _ = shown.call("/seldon/seldon/digits/api/v1.0/predictions", body, Seldon_Puid=puid)
        assert (status, headers["Seldon-Puid"]) == (200, puid)
        shown.call(
            "/seldon/seldon/digits/api/v0.1/feedback", b'{"truth": {"data": {"ndarray": [3]}}}', Seldon_Puid=puid
        )
    until(lambda: shown.labels("digits") == before + 12, 20, "not all feedback was joined")


def test_other_paths_are_errors_in_the_same_form(shown: Simulation) -> None:
    """An unknown deployment or path is 404, another method 405."""
    ask = "/api/v1.0/predictions"
    for status, answer in (
        (404, shown.call(f"/seldon/seldon/nothing{ask}", FLOWER)),
        (404, shown.call("/", FLOWER)),
        (404, shown.call("/seldon/seldon/multiclass-model/api/v2.0/predictions", FLOWER)),
        (405, shown.call(f"/seldon/seldon/multiclass-model{ask}")),
        (400, shown.call(f"/seldon/seldon/multiclass-model{ask}", b"{")),
    ):
        assert answer[0] == status
        assert answer[2]["status"]["code"] == -1
        assert "Server" not in answer[1]


@pytest.mark.parametrize("word", ["true", "True", "on", "1"])
def test_calls_can_be_kept_out_of_the_log(shown: Simulation, word: str) -> None:
    """With Seldon-Skip-Logging the server does not hear of a call, but of the one after it."""
    path = "/seldon/seldon/multiclass-model/api/v1.0/feedback"
    body = b'{"response": {"data": {"ndarray": [[0.1, 0.2, 0.7]]}}, "truth": {"data": {"ndarray": [2]}}}'
    before = shown.labels("multiclass-model")
    assert shown.call(path, body, Seldon_Skip_Logging=word)[0] == 200
    assert shown.call(path, body)[0] == 200
    until(lambda: shown.labels("multiclass-model") > before, 20, "the second call was not counted")
    assert shown.labels("multiclass-model") == before + 1


def test_the_canary_is_a_quarter_and_worse(shown: Simulation) -> None:
    """It gets a quarter of the calls, and the server says that it is worse, beyond chance."""
    (compared,) = shown.get("/v1/models/seldon/digits?compare=predictor&window=1d")["comparisons"]
    by_name = {one["predictor"]: one for one in compared["predictors"]}
    canary, main_arm = by_name["canary"], by_name["main"]
    assert canary["support"] / (canary["support"] + main_arm["support"]) == pytest.approx(0.25, abs=0.05)
    assert canary["headline"]["upper"] < main_arm["headline"]["lower"]
    assert canary["headline"]["difference_upper"] < 0


def _error(reading: Any) -> dict[str, float]:
    return next(value for value in reading["values"] if value["name"] == "model_mean_absolute_error")


def test_the_drift_is_seen(shown: Simulation) -> None:
    """The error of the regression is higher in the end than in the beginning, beyond chance, and the classifier's is
    not."""
    early = shown.get(f"/v1/models/seldon/{DIABETES}?step=2h")["points"][1]
    late = shown.get(f"/v1/models/seldon/{DIABETES}?window=1h")["windows"]["1h"]
    assert _error(late)["lower"] > _error(early)["upper"]
    points = shown.get(f"/v1/models/seldon/{IRIS}?step=2h")["points"]
    before_the_tests = [value for point in points[:-2] for value in point["values"]]
    assert all(value["upper"] > 0.93 for value in before_the_tests if value["name"] == "model_accuracy_ratio")


def test_labels_are_late_and_some_are_missing(shown: Simulation) -> None:
    """Four fifths of the predictions are labelled, those of the regression later than others."""
    assert shown.get(f"/v1/models/seldon/{DIGITS}?window=1d")["windows"]["1d"]["coverage"] == pytest.approx(
        0.8, abs=0.05
    )
    delays, page = {}, shown.text("/v1/metrics")
    for name in ("sum", "count"):
        for deployment, value in re.findall(
            rf'^model_label_delay_seconds_{name}{{.*deployment_name="([^"]*)".*}} (.*)$', page, re.MULTILINE
        ):
            delays[deployment, name] = float(value)
    means = {name: delays[name, "sum"] / delays[name, "count"] for name, _ in delays}
    assert means["diabetes"] == pytest.approx(30, rel=0.2)
    assert means["multiclass-model"] < 10


def test_locust_finds_no_failure(shown: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The load test runs against the ingress, and its feedback is counted."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    before = shown.labels("multiclass-model")
    options = ["--headless", "--users", "2", "--spawn-rate", "2", "--run-time", "5s", "--only-summary", "--json"]
    ran = subprocess.run(
        [
            peer("locust"),
            "-f",
            str(ROOT / "deploy/load/locustfile.py"),
            "--host",
            f"http://127.0.0.1:{shown.ingress}",
            *options,
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    found = {one["name"]: one for one in json.loads(ran.stdout)}
    assert found.keys() == {"predictions", "feedback"}
    assert all(one["num_failures"] == 0 for one in found.values())
    until(
        lambda: shown.labels("multiclass-model") == before + found["feedback"]["num_requests"],
        20,
        "feedback of the load is missing",
    )


def _logged(server: RunningServer, at: float) -> None:
    """A prediction of each deployment at this time."""
    for number, (deployment, model) in enumerate(
        (("multiclass-model", "classifier"), ("digits", "classifier"), ("diabetes", "regressor"))
    ):
        headers = ce(
            RESPONSE, f"before-{number}", f"before-{number}", namespace="seldon", inferenceservicename=deployment
        )
        headers |= {"Ce-Endpoint": "main", "Ce-Modelid": model, "Ce-Time": datetime.fromtimestamp(at, UTC).isoformat()}
        assert server.post({"data": {"ndarray": [0.5]}}, headers).status == 200


def _told(output: str) -> tuple[int, str]:
    found = re.search(r"Told ([\d,]+) events of the last (.*) in ", output)
    assert found, output
    return int(found[1].replace(",", "")), found[2]


def test_a_restart_tells_the_gap_alone(tmp_path: Path, serve: Serve) -> None:
    """Where the server knows of a prediction half an hour ago, as of a past told in part, what came after its step is
    told.

    A second run tells next to nothing.
    """
    server = serve()
    _logged(server, time.time() - 1800)
    rest = ["--count", "5", "--label_delay", "0.01", "--seed", "1", "--repeats", "0"]
    outputs, predicted = [], []
    for _ in range(2):
        with _simulation(tmp_path, *rest, url=server.url) as simulation:
            outputs.append(simulation.end())
        predicted.append(server.value("model_predictions_total") or 0.0)
    first, second = map(_told, outputs)
    assert 14 <= int(first[1].removesuffix(" minutes")) <= 30
    assert 200 < first[0] < 3000
    assert second[1] == "0 minutes"
    assert second[0] < 20
    assert predicted[1] - predicted[0] <= 5 + second[0]
    answer = server.get(f"/v1/models/seldon/{IRIS}?step=1m&from={time.time() - 6 * 3600}")
    assert min(point["from"] for point in json.loads(answer.body)["points"]) > time.time() - 2000


def test_every_label_is_counted_once(tmp_path: Path, serve: Serve) -> None:
    """Sixty calls with labels, many events delivered twice, end as a support of sixty and status 0."""
    server = serve("--store", "memory://")
    rest = [
        "--past",
        "0",
        "--count",
        "60",
        "--rate",
        "200",
        "--label_delay",
        "0.01",
        "--label_share",
        "1",
        "--repeats",
        "0.3",
    ]
    with _simulation(tmp_path, *rest, url=server.url) as simulation:
        output = simulation.end()
    assert simulation.process.returncode == 0, output
    last = output.splitlines()[-1]
    assert re.fullmatch(
        r"accuracy .*multiclass-model [01]\.\d{3}  mean absolute error diabetes \d+\.\d  "
        r"labels 60  events \d+  repeats \d+",
        last,
    ), output
    assert server.value("model_support", window="1h") == 60
    assert server.value("model_predictions_total") == 60
    assert 20 < (server.value("metrics_server_events_total", outcome="duplicate") or 0) < 90


def test_a_terminated_command_stops_cleanly(tmp_path: Path) -> None:
    """SIGTERM ends simulation and server, soon, with status 0 and without a traceback; --open has opened the page."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    browser.chmod(0o755)
    options = ["--serve", "--open", "--past", "0", "--rate", "50", "--label_delay", "0.1", "--store", "memory://"]
    with _simulation(tmp_path, *options, BROWSER=f"{browser} %s") as simulation:
        lines = simulation.lines_until("accuracy")
        simulation.process.send_signal(signal.SIGTERM)
        rest = simulation.end()
    assert simulation.process.returncode == 0, rest
    assert rest.splitlines()[-1] == "Stopped."
    assert "Traceback" not in rest
    assert "Error" not in rest
    assert not _is_running(_server_of("\n".join(lines)))
    assert (tmp_path / "opened").read_text() == f"{simulation.url}\n"


def test_an_interrupt_stops_the_telling(tmp_path: Path) -> None:
    """Ctrl-C ends it cleanly in the midst of the past too; no browser was opened."""
    options = ["--serve", "--past", "400", "--store", "memory://"]
    with _simulation(tmp_path, *options, BROWSER=f"touch {tmp_path}/opened") as simulation:
        lines = simulation.lines_until("Telling the last 400 hours")
        simulation.process.send_signal(signal.SIGINT)
        rest = simulation.end()
    assert simulation.process.returncode == 0, rest
    assert rest.splitlines()[-1] == "Stopped."
    assert "Traceback" not in rest
    assert not _is_running(_server_of("\n".join(lines)))
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("option", ["--url", "--ingress_port"])
def test_taken_port_is_said(tmp_path: Path, option: str) -> None:
    """Where something listens already, the command says so, names the option, and fails; no server is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        value = f"http://127.0.0.1:{port}" if option == "--url" else str(port)
        with _simulation(tmp_path, "--serve", "--store", "memory://", option, value) as simulation:
            output = simulation.end()
    assert simulation.process.returncode == 1
    last = output.splitlines()[-1]
    assert str(port) in last
    assert option in last
    assert "Traceback" not in output


def test_server_that_cannot_start_is_explained(tmp_path: Path) -> None:
    """When the server ends at its start, its last words are shown, and the command fails."""
    with _simulation(tmp_path, "--serve", "--store", "nosuch://store") as simulation:
        output = simulation.end()
    assert simulation.process.returncode == 1
    assert "the server stopped with status 1" in output
    assert "nosuch" in output
    assert "Traceback" not in output


@contextmanager
def _server(folder: Path, port: int) -> Iterator[None]:
    """A server on the same state each time, ready or not."""
    command = [sys.executable, "-m", "metrics_server", "--http_port", str(port)]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            yield
        finally:
            server.terminate()


def test_nothing_of_our_own_is_lost_without_a_server(tmp_path: Path) -> None:
    """While there is no server, before or amidst the calls, the command says so in one line; all calls and labels get
    there later."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    rest = ["--past", "0", "--count", "330", "--rate", "300", "--label_delay", "0.01", "--label_share", "1"]
    with _simulation(tmp_path, *rest, url=url) as simulation:
        simulation.lines_until(f"Cannot reach {url}")
        with _server(tmp_path, port):
            simulation.lines_until(f"{url} answers again")
            until(lambda: simulation.labels("digits") > 5, 20, "no labels came")
        simulation.lines_until(f"Cannot reach {url}")
        with _server(tmp_path, port):
            output = simulation.end()
            labels = sum(simulation.labels(name) for name in ("multiclass-model", "digits", "diabetes"))
    assert simulation.process.returncode == 0, output
    assert f"{url} answers again." in output
    assert labels == 330
