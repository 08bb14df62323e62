"""Predictions looked up in Elasticsearch: a real server process asks a server that answers as Elasticsearch documents
its GET."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.elastic import INDEX, SCORES, Elastic, await_lookups, logged, truth
from tests.support.running import FEEDBACK, RESPONSE, ce, free_port, peer


def test_a_truth_finds_its_prediction(serve: Serve, elastic: Elastic) -> None:
    """A feedback with only a truth is paired with the logged prediction, under its labels and at its time."""
    elastic.documents[INDEX]["r 1/ü"] = logged(SCORES, days_ago=3, **{"Ce-Modelid": "scorer"})
    server = serve("--store", "memory://", "--elasticsearch_uri", elastic.uri)
    assert server.post(truth([0, 0, 1]), ce(FEEDBACK, "1", "r%201/%C3%BC")).status == 200
    await_lookups(server, "found")
    assert (
        server.value("model_support", window="7d", model_name="scorer", predictor_name="main", deployment_name="wine")
        == 1
    )
    assert server.value("model_support", window="1h") is None
    assert server.value("model_accuracy_ratio", window="7d") == 1.0
    assert server.value("metrics_server_received_total", type="response") == 1
    assert server.value("metrics_server_events_total", type="response", outcome="accepted") == 1
    assert elastic.asked == [(f"/{INDEX}/_doc/r 1/ü", None)]


def test_every_row_of_a_batch_is_found(serve: Serve, elastic: Elastic) -> None:
    """The rows of a batch stand in documents of their own, beside one that holds only the feedback; the first gap ends
    them."""
    elastic.documents[INDEX] = {f"b-item-{row}": logged([1 - row / 4, row / 4]) for row in range(4)}
    elastic.documents[INDEX]["b"] = {"feedback": {"reward": 1}, "Ce-Namespace": "shop"}
    elastic.documents[INDEX]["gap-item-0"] = logged([0.9, 0.1])
    elastic.documents[INDEX]["gap-item-2"] = logged([0.9, 0.1])
    server = serve("--store", "memory://", "--elasticsearch_uri", elastic.uri)
    server.post(truth([1, 0], [1, 0], [0, 1], [0, 1]), ce(FEEDBACK, "1", "b"))
    await_lookups(server, "found")
    assert server.value("model_support", window="1h") == 4
    server.post(truth([1, 0], [1, 0], [1, 0]), ce(FEEDBACK, "2", "gap"))
    await_lookups(server, "found", 2)
    assert server.value("model_support", window="1h") == 5
    assert f"/{INDEX}/_doc/gap-item-2" not in dict(elastic.asked)


def test_the_id_of_a_row_is_looked_up_as_it_is(serve: Serve, elastic: Elastic) -> None:
    """A truth for one row of a batch finds that row; nothing is put behind an id that has a row already."""
    elastic.documents[INDEX]["b-item-3"] = logged(SCORES)
    server = serve("--store", "memory://", "--elasticsearch_uri", elastic.uri)
    server.post(truth([0, 0, 1]), ce(FEEDBACK, "1", "b-item-3"))
    await_lookups(server, "found")
    assert server.value("model_support", window="1h") == 1
    server.post(truth([0, 0, 1]), ce(FEEDBACK, "2", "b-item-4"))
    await_lookups(server, "miss")
    assert [path.rpartition("/")[2] for path, _ in elastic.asked] == ["b-item-3", "b-item-4"]


def test_a7_a_prediction_of_0_is_a_prediction(serve: Serve, elastic: Elastic) -> None:
    """A scalar 0 is found and counted."""
    elastic.documents[INDEX]["r"] = logged(0)
    server = serve("--store", "memory://", "--elasticsearch_uri", elastic.uri)
    server.post(truth(0), ce(FEEDBACK, "1", "r"))
    await_lookups(server, "found")
    assert server.value("model_support", window="1h") == 1


def test_a8_a_miss_leaves_the_truth_waiting(serve: Serve, elastic: Elastic) -> None:
    """Unknown documents, documents without a response and unknown indexes: 200, and the pair comes with the
    prediction."""
    elastic.documents[INDEX]["fed back"] = {"feedback": {}, "Ce-Namespace": "shop"}
    server = serve("--store", "memory://", "--elasticsearch_uri", elastic.uri)
    assert server.post(truth([0, 0, 1]), ce(FEEDBACK, "1", "r")).status == 200
    assert server.post(truth([0, 0, 1]), ce(FEEDBACK, "2", "fed%20back")).status == 200
    assert server.post(truth([0, 0, 1]), ce(FEEDBACK, "3", "r3", endpoint="canary")).status == 200
    await_lookups(server, "miss", 3)
    assert server.value("model_support", window="1h") is None
    for number, request_id in enumerate(("r", "fed%20back", "r3")):
        server.post({"data": {"ndarray": [SCORES]}}, ce(RESPONSE, f"p{number}", request_id))
    assert server.value("model_support", window="1h") == 3
    server.stop()
    assert "Elasticsearch" not in server.log.read_text()


def test_found_and_logged_count_once(serve: Serve, elastic: Elastic) -> None:
    """The same prediction by look-up and by HTTP, before or after, and truths from several nodes, are one pair."""
    elastic.documents[INDEX]["r"] = document = logged(SCORES)
    server = serve("--store", "memory://", "--elasticsearch_uri", elastic.uri)
    elastic.gate.clear()
    for node in ("classifier", "router"):
        server.post(truth([0, 0, 1]), ce(FEEDBACK, node, "r", modelid=node))
    elastic.gate.set()
    await_lookups(server, "found")
    for event_id in ("p1", "p2"):
        server.post({"data": {"ndarray": [SCORES]}}, ce(RESPONSE, event_id, "r", time=document["response"]["ce-time"]))
    server.post(truth([0, 0, 1]), ce(FEEDBACK, "again", "r"))
    assert server.value("model_support", window="1h") == 1
    assert server.value("model_predictions_total") == 1
    assert server.value("seldon_metric_true_positive_total") == 1
    assert len(elastic.asked) == 1


def test_nobody_waits_for_elasticsearch(serve: Serve, elastic: Elastic) -> None:
    """Answers and scrapes come while Elasticsearch has not answered; then the pairs do."""
    elastic.documents[INDEX] = {f"r{number}": logged(SCORES) for number in range(20)}
    server = serve("--store", "memory://", "--elasticsearch_uri", elastic.uri)
    elastic.gate.clear()
    for number in range(20):
        assert server.post(truth([0, 0, 1]), ce(FEEDBACK, str(number), f"r{number}")).status == 200
    assert server.value("metrics_server_lookups_total") == 0
    elastic.gate.set()
    await_lookups(server, "found", 20)
    assert server.value("model_support", window="1h") == 20


def test_an_elasticsearch_that_is_down_is_said_once(serve: Serve) -> None:
    """Truths are answered 200 and wait; the losses are counted, the log has one line."""
    server = serve("--store", "memory://", "--elasticsearch_uri", f"http://127.0.0.1:{free_port()}")
    for number in range(3):
        assert server.post(truth([0, 0, 1]), ce(FEEDBACK, str(number), f"r{number}")).status == 200
    await_lookups(server, "failed", 3)
    assert server.post({"data": {"ndarray": [SCORES]}}, ce(RESPONSE, "p", "r0")).status == 200
    assert server.value("model_support", window="1h") == 1
    server.stop()
    assert server.log.read_text().count("does not answer") == 1


@pytest.mark.parametrize(
    ("status", "body", "headers", "requests"),
    [
        (401, b'{"error":{"type":"security_exception"},"status":401}', {}, 1),
        (500, b"{}", {}, 3),
        (302, b"", {"Location": "/elsewhere"}, 1),
        (404, b"<h1>Not Found</h1>", {"Content-Type": "text/html"}, 1),
        (404, b'{"message":"no route"}', {}, 1),
        (200, b"{", {}, 1),
        (200, b'{"found":true,"_source":{"response":7}}', {}, 1),
        (200, b"", {"Content-Length": str(2**30)}, 3),
        (200, b"", {"Content-Encoding": "gzip"}, 1),
    ],
)
def test_what_is_no_answer_is_counted_and_said_until_there_is_one(
    serve: Serve, elastic: Elastic, status: int, body: bytes, headers: dict[str, str], requests: int
) -> None:
    """Errors, redirects, too much and what is not Elasticsearch's are failures; what may pass is tried again, the rest
    is not."""
    elastic.documents[INDEX]["r3"] = logged(SCORES)
    server = serve("--store", "memory://", "--elasticsearch_uri", elastic.uri)
    elastic.answers = (status, body, headers)
    for number in (1, 2):
        assert server.post(truth([0, 0, 1]), ce(FEEDBACK, str(number), f"r{number}")).status == 200
        await_lookups(server, "failed", number)
    assert len(elastic.asked) == 2 * requests
    elastic.answers = None
    server.post(truth([0, 0, 1]), ce(FEEDBACK, "3", "r3"))
    await_lookups(server, "found")
    server.stop()
    log = server.log.read_text()
    assert (log.count("does not answer"), log.count("Elasticsearch answers again")) == (1, 1)
    assert "Traceback" not in log


def _certificate(directory: Path) -> tuple[Path, Path]:
    certificate, key = directory / "elastic.pem", directory / "elastic-key.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([peer("openssl"), *words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def test_c5_a_certificate_of_nobody_known_is_refused(serve: Serve, elastic: Elastic, tmp_path: Path) -> None:
    """TLS is verified: a self-signed certificate is refused, unless --elasticsearch_ca has it; no password goes out
    before."""
    certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    elastic.socket = context.wrap_socket(elastic.socket, server_side=True)
    elastic.documents[INDEX]["r"] = logged(SCORES)
    uri = elastic.uri.replace("http://", "https://reader:pass%40word@")
    options = ("--store", "memory://", "--elasticsearch_uri", uri)
    wary = serve(*options)
    wary.post(truth([0, 0, 1]), ce(FEEDBACK, "1", "r"))
    await_lookups(wary, "failed")
    assert elastic.asked == []
    wary.stop()
    assert wary.log.read_text().count("certificate verify failed") == 1
    trusting = serve(*options, "--elasticsearch_ca", str(certificate))
    trusting.post(truth([0, 0, 1]), ce(FEEDBACK, "1", "r"))
    await_lookups(trusting, "found")
    assert [credentials for _, credentials in elastic.asked] == ["Basic cmVhZGVyOnBhc3NAd29yZA=="]


@pytest.mark.parametrize(
    ("key", "sent"), [("s3cretkey==", "ApiKey s3cretkey=="), ("Bearer s3cretkey\n", "Bearer s3cretkey")]
)
def test_credentials_are_sent_and_never_logged(serve: Serve, elastic: Elastic, key: str, sent: str) -> None:
    """An API key from the environment is preferred to the password in the URI; the log has neither, whatever goes
    wrong."""
    uri = elastic.uri.replace("http://", "http://reader:s3cretword@")
    server = serve("--store", "memory://", "--elasticsearch_uri", uri, environment={"ELASTICSEARCH_API_KEY": key})
    server.post(truth([0, 0, 1]), ce(FEEDBACK, "1", "r"))
    await_lookups(server, "miss")
    assert {credentials for _, credentials in elastic.asked} == {sent}
    elastic.answers = (403, b"{}", {})
    server.post(truth([0, 0, 1]), ce(FEEDBACK, "2", "q"))
    await_lookups(server, "failed")
    server.stop()
    log = server.log.read_text()
    assert f"looked up at {elastic.uri} in" in log
    assert "s3cret" not in log


def test_what_waits_is_asked_for_before_the_end(serve: Serve, elastic: Elastic) -> None:
    """SIGTERM while a look-up is open: the pair is in the state with which the next server starts."""
    elastic.documents[INDEX]["r"] = logged(SCORES)
    server = serve("--elasticsearch_uri", elastic.uri)
    elastic.gate.clear()
    server.post(truth([0, 0, 1]), ce(FEEDBACK, "1", "r"))
    server.process.terminate()
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", server.port)):
                break
    elastic.gate.set()
    assert server.stop() == 0
    assert serve().value("model_support", window="1h") == 1


def test_an_index_of_ones_own(serve: Serve, elastic: Elastic) -> None:
    """--elasticsearch_index names it, with parts of the event or the server's own in it."""
    elastic.documents["kf-shop-iris-main"] = {"r": logged(SCORES)}
    environment = {"SELDON_DEPLOYMENT_ID": "iris"}
    options = (
        "--store",
        "memory://",
        "--elasticsearch_uri",
        elastic.uri,
        "--elasticsearch_index",
        "kf-{namespace}-{service}-{endpoint}",
    )
    server = serve(*options, environment=environment)
    server.post(truth([0, 0, 1]), ce(FEEDBACK, "1", "r", inferenceservicename=""))
    await_lookups(server, "found")
