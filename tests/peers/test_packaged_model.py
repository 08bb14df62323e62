"""The model that the page on packaging wraps, in Seldon's real Python wrapper: it keeps its contract, exposes its
metrics, takes feedback, and the metrics server pairs what an executor logs of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Serve
from tests.support.docs_pages import page
from tests.support.peers.environments import programs_of
from tests.support.peers.executor import NAMESPACE, PREDICTOR, Node, executing
from tests.support.peers.programs import Program
from tests.support.running import ROOT, free_port

MODEL = ROOT / "deploy/examples/seldon/iris_classifier"
DOCKERFILE = (MODEL / "Dockerfile").read_text()
ENVIRONMENT = dict(line.split("=") for line in (MODEL / ".s2i/environment").read_text().splitlines())
JSON_TYPE = {"Content-Type": "application/json"}
SETOSA, VIRGINICA = [5.0, 3.4, 1.5, 0.2], [6.6, 3.0, 5.6, 2.0]


class Wrapped(NamedTuple):
    """The running microservice."""

    http: int
    grpc: int
    metrics: int

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/{path}", json.dumps(body).encode(), JSON_TYPE)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples with this name and these labels, 0 without one."""
        return sum(self.values(name, **labels))

    def values(self, name: str, **labels: str) -> list[float]:
        """Samples of the page that Prometheus scrapes, one of each worker process."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/prometheus", timeout=20) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in families for sample in family.samples]
        return [one.value for one in samples if one.name == name and labels.items() <= one.labels.items()]


@pytest.fixture(scope="module")
def seldon() -> Path:
    return programs_of(*(MODEL / "requirements.txt").read_text().split())


@pytest.fixture(scope="module")
def wrapped(seldon: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wrapped]:
    """What the image starts: the files that it has, its environment and its command."""
    directory, model = tmp_path_factory.mktemp("app"), Wrapped(free_port(), free_port(), free_port())
    for name in re.findall(r"^COPY (\S+) \./$", DOCKERFILE, re.MULTILINE):
        shutil.copy(MODEL / name, directory)
    (command,) = re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)
    ports = {"HTTP": model.http, "GRPC": model.grpc, "METRICS": model.metrics}
    told = {f"PREDICTIVE_UNIT_{name}_SERVICE_PORT": str(port) for name, port in ports.items()}
    program = Program(
        directory / "log",
        ["sh", "-c", command],
        PATH=f"{seldon}:/usr/bin:/bin",
        PREDICTIVE_UNIT_ID="classifier",
        PREDICTIVE_UNIT_IMAGE="iris-classifier:1.0.0",
        PREDICTIVE_UNIT_METRICS_ENDPOINT="/prometheus",  # as Seldon's operator sets it
        **told,
        **ENVIRONMENT,
    )
    try:
        program.await_answer(f"http://127.0.0.1:{model.http}/health/ping")
        program.await_answer(f"http://127.0.0.1:{model.metrics}/prometheus")
        yield model
    finally:
        program.stop()


def test_docker_and_s2i_make_the_same() -> None:
    """The environment of the Dockerfile is that of s2i, but for what the wrapper no longer reads."""
    (line,) = re.findall(r"^ENV (MODEL_NAME.+)$", DOCKERFILE, re.MULTILINE)
    assert dict(word.split("=") for word in line.split()) | {"API_TYPE": "REST"} == ENVIRONMENT


@pytest.mark.parametrize(
    "form", [[], ["--tensor"], ["--grpc"], ["--endpoint", "send-feedback"]], ids=lambda form: "".join(form) or "ndarray"
)
def test_the_contract_is_kept(seldon: Path, wrapped: Wrapped, form: list[str]) -> None:
    """seldon-core-tester makes rows of the contract; each comes back as a row of probabilities, and feedback about
    them is taken."""
    before = wrapped.value("iris_predictions_total")
    port = wrapped.grpc if "--grpc" in form else wrapped.http
    words = [seldon / "seldon-core-tester", MODEL / "contract.json", "127.0.0.1", str(port), "-n", "4", "-b", "3", "-p"]
    done = subprocess.run([*words, *form], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("RECEIVED RESPONSE") == 4
    assert "FAILURE" not in done.stdout
    assert wrapped.value("iris_predictions_total") == before + 12
    if "send-feedback" in form:
        assert wrapped.value("seldon_api_model_feedback_reward_total", method="feedback") >= 4


def test_what_breaks_the_contract_is_refused(wrapped: Wrapped) -> None:
    """Rows that are too narrow are answered 400 with what was wanted, and counted nowhere."""
    before = wrapped.value("iris_predictions_total")
    with pytest.raises(urllib.error.HTTPError) as refused:
        wrapped.post("predict", {"data": {"ndarray": [[5.0, 3.4, 1.5]]}})
    with refused.value as answer:
        assert answer.code == 400
        assert json.load(answer)["status"]["info"] == "want rows of 4 numbers, got the shape [1, 3]"
    assert wrapped.value("iris_predictions_total") == before


def test_metrics_of_its_own(wrapped: Wrapped) -> None:
    """Counters by class add up, the gauge is the latest, milliseconds of the timer become a histogram of seconds; all
    stand in the answer too, with the names of the columns."""
    before = {name: wrapped.value("iris_predictions_total", species=name) for name in ("setosa", "virginica")}
    timed = wrapped.value("iris_predict_seconds_count")
    answer = wrapped.post("predict", {"data": {"ndarray": [SETOSA, SETOSA, VIRGINICA]}})
    assert answer["data"]["names"] == ["setosa", "versicolor", "virginica"]
    told = {one["key"]: one["value"] for one in answer["meta"]["metrics"]}
    assert told.keys() == {"iris_predictions", "iris_last_confidence", "iris_predict_seconds"}
    assert wrapped.value("iris_predictions_total", species="setosa") == before["setosa"] + 2
    assert wrapped.value("iris_predictions_total", species="virginica", model_name="classifier") == (
        before["virginica"] + 1
    )
    assert wrapped.value("iris_predict_seconds_count") == timed + 1
    assert 0 < wrapped.value("iris_predict_seconds_sum") < 10
    assert 0.9 < told["iris_last_confidence"] <= 1
    assert told["iris_last_confidence"] in wrapped.values("iris_last_confidence", method="predict")


@pytest.mark.parametrize("truth", [[0, 0], [[1, 0, 0], [1, 0, 0]]], ids=["indexes", "one-hot"])
def test_feedback_to_the_model(wrapped: Wrapped, truth: Any) -> None:
    """With request and truth the model counts what was right and what was wrong; a reward alone counts neither."""
    before = [wrapped.value("iris_feedback_total", outcome=name) for name in ("right", "wrong")]
    request = {"data": {"ndarray": [SETOSA, VIRGINICA]}}
    wrapped.post("send-feedback", {"request": request, "truth": {"data": {"ndarray": truth}}, "reward": 1})
    wrapped.post("send-feedback", {"reward": 1})
    after = [wrapped.value("iris_feedback_total", outcome=name, method="feedback") for name in ("right", "wrong")]
    assert after == [before[0] + 1, before[1] + 1]


def test_the_server_pairs_what_the_executor_logs(wrapped: Wrapped, serve: Serve) -> None:
    """Predictions of the packaged model and feedback by their Seldon-Puid become pairs of its name, and an accuracy."""
    server = serve("--store", "memory://")
    with executing() as executor:
        executor.graphs["iris"] = Node("classifier", f"http://127.0.0.1:{wrapped.http}")
        for number, (row, truth) in enumerate([(SETOSA, 0), (VIRGINICA, 2), (VIRGINICA, 1), (SETOSA, 0)]):
            puid = f"flower-{number}"
            executor.predict("iris", puid, json.dumps({"data": {"ndarray": [row]}}).encode())
            executor.feedback("iris", puid, json.dumps({"truth": {"data": {"ndarray": [truth]}}}).encode())
        for event in executor.take():
            assert server.post(event.body, event.headers()).status == 200
    labels = {
        "deployment_namespace": NAMESPACE,
        "deployment_name": "iris",
        "predictor_name": PREDICTOR,
        "model_name": "classifier",
    }
    assert server.value("model_labels_total", status="matched", **labels) == 4
    assert server.value("model_accuracy_ratio", window="1h", **labels) == 0.75


def test_the_server_counts_and_times_as_the_wrapper_does(wrapped: Wrapped, serve: Serve) -> None:
    """Of the same calls the counters by class, the seconds of the timer and the gauge are on the server what the
    wrapper says, though it is told twice of each."""
    server = serve("--store", "memory://", "--custom_metrics", "*")
    added = [("iris_predictions_total", {"species": name}) for name in ("setosa", "virginica")]
    added += [(f"iris_predict_seconds_{part}", {}) for part in ("count", "sum")]
    before = [wrapped.value(name, **labels) for name, labels in added]
    with executing() as executor:
        executor.graphs["iris"] = Node("classifier", f"http://127.0.0.1:{wrapped.http}")
        for number, rows in enumerate(([SETOSA], [VIRGINICA, SETOSA], [VIRGINICA])):
            executor.predict("iris", f"call-{number}", json.dumps({"data": {"ndarray": rows}}).encode())
        for event in executor.take():
            headers = event.headers()
            for _ in range(2):
                assert server.post(event.body, headers).status == 200
    grown = [wrapped.value(name, **labels) - old for (name, labels), old in zip(added, before, strict=True)]
    assert grown[:3] == [2, 2, 3]
    assert [server.value(name, model_name="classifier", **labels) for name, labels in added] == pytest.approx(grown)
    assert server.value("iris_last_confidence") in wrapped.values("iris_last_confidence", method="predict")


def test_the_page_shows_the_files_as_they_are() -> None:
    """Dockerfile, s2i's environment and the contract in the page are those of the example, or parts of them."""
    text = page("how-to/package-a-model.md")
    for name in ("Dockerfile", ".s2i/environment", "contract.json"):
        for line in (MODEL / name).read_text().splitlines():
            assert line in text, line
