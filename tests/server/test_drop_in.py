"""The ancestor's defects: each test is named after what is true now (the numbers are those of the list we replace)."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict_openmetrics
from prometheus_client.parser import text_string_to_metric_families as strict_text

from tests.conftest import Serve
from tests.support.running import ARGUMENTS, FEEDBACK, REQUEST, RESPONSE, RunningServer, ce

ENVIRONMENT = {
    "SELDON_DEPLOYMENT_ID": "wine",
    "PREDICTIVE_UNIT_ID": "classifier",
    "PREDICTIVE_UNIT_IMAGE": "acme/metrics:3",
    "PREDICTOR_ID": "main",
}
ROW = {"data": {"ndarray": [[0.1, 0.2, 0.7]]}}
TRUTH = {"data": {"ndarray": [[0, 0, 1]]}}
PAIR = {"response": ROW, "truth": TRUTH}


@pytest.fixture
def server(serve: Serve) -> RunningServer:
    """The walkthrough's command line and environment, unchanged."""
    running = serve(*ARGUMENTS, environment=ENVIRONMENT, drop_in=True)
    return running


def test_the_walkthroughs_arguments_start_the_server(server: RunningServer) -> None:
    """Arguments and environment of the ancestor work unchanged; its routes, log line, series and labels are there."""
    assert server.post(PAIR, ce(FEEDBACK, "1", "r")).status == 200
    assert server.get("/protocol").body == b"seldonfeedback.http"
    labels = {
        "class": "CLASS_2",
        "deployment_name": "wine",
        "image_name": "acme/metrics",
        "image_version": "3",
        "method": "io.seldon.serving.feedback.metrics",
        "model_image": "acme/metrics",
        "model_name": "classifier",
        "model_version": "3",
        "predictor_name": "main",
        "predictor_version": "NOT_IMPLEMENTED",
        "seldon_deployment_name": "wine",
        "seldon_deployment_namespace": "shop",
    }
    found = server.samples()
    assert found["seldon_metric_true_positive_total", frozenset(labels.items())] == 1.0
    server.stop()
    assert server.log.read_text().count("PROCESSING Feedback Event.") == 1


def test_a1_every_row_of_a_batch_counts(server: RunningServer) -> None:
    """32 rows are 32 pairs."""
    body = {"response": {"data": {"ndarray": [[0.1, 0.2, 0.7]] * 32}}, "truth": {"data": {"ndarray": [[0, 0, 1]] * 32}}}
    assert server.post(body, ce(FEEDBACK, "1", "r")).status == 200
    assert server.value("model_support", window="1h") == 32
    assert server.value("seldon_metric_true_positive_total") == 32


def test_a2_the_honest_series_know_true_negatives_and_the_old_ones_keep_their_meaning(server: RunningServer) -> None:
    """seldon_metric_true_negative equals the true positives, as dashboards expect; model_ series score properly."""
    for number, truth in enumerate(([0, 0, 1], [1, 0, 0])):
        server.post({"response": ROW, "truth": {"data": {"ndarray": [truth]}}}, ce(FEEDBACK, str(number), f"r{number}"))
    assert server.value("seldon_metric_true_negative_total") == server.value("seldon_metric_true_positive_total") == 1
    assert server.value("model_accuracy_ratio", window="1h") == 0.5
    assert server.value("model_precision_ratio", window="1h", **{"class": "2"}) == 0.5


def test_a3_binary_scores_are_compared_with_a_threshold(serve: Serve) -> None:
    """0.99 is positive; a row of two probabilities is read by its second column."""
    server = serve("--storage_uri", "adserver.cm_models.binary_metrics.BinaryMetrics", "--threshold", "0.9")
    rows = [0.99, 0.85, [0.05, 0.95]]
    server.post({"response": {"data": {"ndarray": rows}}, "truth": {"data": {"ndarray": [1, 1, 1]}}})
    assert server.value("seldon_metric_true_positive_total") == 2
    assert server.value("seldon_metric_false_negative_total") == 1


def test_a4_one_class_has_one_label(serve: Serve) -> None:
    """2, 2.0, [2] and "2" are one class."""
    server = serve("--storage_uri", "adserver.cm_models.multiclass_numeric.MultiClassNumeric")
    for form in ({"ndarray": [2]}, {"tensor": {"shape": [1], "values": [2.0]}}, {"ndarray": [[2]]}, {"ndarray": ["2"]}):
        server.post({"response": {"data": form}, "truth": {"data": {"ndarray": [2]}}})
    assert {dict(k[1])["class"] for k in server.samples() if k[0].startswith("seldon_metric")} == {"CLASS_2"}
    assert server.value("model_support", window="1h") == 4


def test_a5_an_event_counts_once_and_for_its_own_deployment(server: RunningServer) -> None:
    """Redelivery, client retry and feedback from several nodes count once; an event names whose it is."""
    for event_id in ("1", "1", "2"):
        assert server.post(PAIR, ce(FEEDBACK, event_id, "r")).status == 200
    assert server.post(PAIR, ce(FEEDBACK, "3", "other", inferenceservicename="iris")).status == 200
    assert server.value("model_support", window="1h", deployment_name="wine") == 1
    assert server.value("model_support", window="1h", deployment_name="iris") == 1
    assert server.value("metrics_server_events_total", type="feedback", outcome="duplicate") == 1
    assert server.post({}, ce("com.example.other", "4")).status == 200
    assert server.value("metrics_server_events_total", type="other", outcome="ignored") == 1


def test_a6_a_dead_reply_url_costs_nothing(server: RunningServer) -> None:
    """The reply goes out beside the request path: the answer is 200, at once, and the event counts once."""
    started = time.monotonic()
    for number in range(20):
        assert server.post(PAIR, ce(FEEDBACK, str(number), f"r{number}")).status == 200
    assert time.monotonic() - started < 5
    assert server.value("model_support", window="1h") == 20


def test_a9_a_correction_replaces_and_a_reward_counts(server: RunningServer) -> None:
    """A later truth takes the place of the first; a reward of 0 is a reward."""
    server.post(PAIR, ce(FEEDBACK, "1", "r", time="2026-03-02T09:15:04Z"))
    server.post({"truth": {"data": {"ndarray": [[1, 0, 0]]}}}, ce(FEEDBACK, "2", "r", time="2026-03-02T10:00:00Z"))
    assert server.value("model_labels_total", status="corrected") == 1
    assert server.value("model_confusion_retracted_total", truth="2", prediction="2") == 1
    assert server.value("model_confusion_total", truth="0", prediction="2") == 1
    assert server.value("seldon_metric_true_positive_total") == 1
    for number, reward in enumerate((0, 1, 0.5)):
        server.post({"reward": reward}, ce(FEEDBACK, f"w{number}", f"w{number}"))
    assert server.value("model_rewards_total") == 3
    assert server.value("model_reward_mean", window="1h") == 0.5


def test_a10_no_client_can_make_series(server: RunningServer) -> None:
    """truth.meta.metrics is not read, and the event counts all the same."""
    bad = {"metrics": [{"key": "injected", "type": "COUNTER", "value": 1}, {"key": "", "type": "NONE"}]}
    assert server.post({"response": ROW, "truth": {**TRUTH, "meta": bad}}, ce(FEEDBACK, "1", "r")).status == 200
    assert not [name for name, _ in server.samples() if "injected" in name]
    assert server.value("model_support", window="1h") == 1


def test_b1_a_poison_event_never_gets_an_answer_that_means_retry(server: RunningServer) -> None:
    """What can never succeed is 4xx, but not 404, 408, 409 or 429."""
    for body in (b"{", b"[]", b'{"truth":{"data":{"ndarray":"x"}},"response":{}}', b'{"truth":7}', b'{"reward":"x"}'):
        status = server.post(body, ce(FEEDBACK, "1", "r")).status
        assert 400 <= status < 500
        assert status not in (404, 408, 409, 429)


def test_b2_request_and_response_events_are_welcome(server: RunningServer) -> None:
    """The logger's mode "all" gives no 400s: both kinds are taken, and predictions are counted."""
    assert server.post({"data": {"ndarray": [[5.1, 3.5]]}}, ce(REQUEST, "1", "r")).status == 200
    assert server.post(ROW, ce(RESPONSE, "2", "r")).status == 200
    assert server.value("model_predictions_total") == 1
    assert server.value("model_predicted_class_total", **{"class": "2"}) == 1
    assert server.post({"truth": TRUTH}, ce(FEEDBACK, "3", "r")).status == 200
    assert server.value("model_support", window="1h") == 1


def _envelope(number: int, **data: Any) -> dict[str, Any]:
    names = {
        "requestid": f"m{number}",
        "namespace": "shop",
        "inferenceservicename": "wine",
        "endpoint": "main",
        "modelid": "classifier",
    }
    return {"specversion": "1.0", "id": str(number), "source": "/l", "type": FEEDBACK, "subject": None, **names, **data}


def test_b3_every_content_mode_and_form_of_truth_is_read(server: RunningServer) -> None:
    """Structured, batched, base64 and gzip; tensors, tftensors, jsonData, strData, binData."""
    structured = {"Content-Type": "application/cloudevents+json; charset=utf-8", "Ce-Id": "is ignored here"}
    batched = {"Content-Type": "application/cloudevents-batch+json"}
    encoded = base64.b64encode(json.dumps(PAIR).encode()).decode()
    assert server.post(_envelope(1, data=PAIR), structured).status == 200
    assert server.post(_envelope(2, data_base64=encoded, datacontenttype="application/json"), structured).status == 200
    assert server.post(_envelope(3, data=json.dumps(PAIR), datacontenttype="text/plain"), structured).status == 200
    assert (
        server.post([_envelope(4, data=PAIR), _envelope(5, data=PAIR), _envelope(4, data=PAIR)], batched).status == 200
    )
    assert server.post(gzip.compress(json.dumps(PAIR).encode()), ce(FEEDBACK, "6", "m6")).status == 200
    assert server.post(PAIR).status == 200
    assert server.value("model_support", window="1h") == 7
    content = base64.b64encode(b"\0\0\0\0\0\0\0\0\0\0\x80\x3f").decode()
    truths: list[dict[str, Any]] = [
        {"data": {"tensor": {"shape": [1, 3], "values": [0, 0, 1]}}},
        {"data": {"tensor": {"shape": [1], "values": [2]}}},
        {
            "data": {
                "tftensor": {
                    "dtype": "DT_FLOAT",
                    "tensorShape": {"dim": [{"size": "1"}, {"size": "3"}]},
                    "floatVal": [0, 0, 1],
                }
            }
        },
        {
            "data": {
                "tftensor": {"dtype": 1, "tensor_shape": {"dim": [{"size": 1}, {"size": 3}]}, "tensor_content": content}
            }
        },
        {"data": {"tftensor": {"dtype": "DT_INT64", "tensorShape": {"dim": [{"size": "1"}]}, "int64Val": ["2"]}}},
        {"data": {"ndarray": [2]}},
        {"data": {"ndarray": [0, 0, 1]}},
        {"jsonData": {"class": 2}},
        {"jsonData": [[0, 0, 1]]},
        {"strData": "2"},
        {"binData": base64.b64encode(b"2").decode()},
    ]
    for number, truth in enumerate(truths):
        answer = server.post({"response": ROW, "truth": truth}, ce(FEEDBACK, f"t{number}", f"t{number}"))
        assert answer.status == 200, (truth, answer.body)
    assert server.value("model_confusion_total", truth="2", prediction="2") == 7 + len(truths)
    assert server.value("model_accuracy_ratio", window="1h", deployment_namespace="shop") == 1.0


def test_b4_the_reply_is_a_valid_event_that_cannot_loop(server: RunningServer) -> None:
    """An id of its own, the same on redelivery; the configured type and source; only the extensions that say whose it
    is."""
    first, again = (server.post(PAIR, ce(FEEDBACK, "1", "r", knativearrivaltime="x")) for _ in range(2))
    replies = [from_binary_event(HTTPMessage(dict(a.headers.items()), a.body)) for a in (first, again)]  # type: ignore[attr-defined]
    assert replies[0].get_id() == replies[1].get_id() != "1"
    assert replies[0].get_type() == "io.seldon.serving.feedback.metrics"
    assert replies[0].get_source() == "io.seldon.serving.feedback"
    assert replies[0].get_extension("requestid") == "r"
    assert replies[0].get_extension("knativearrivaltime") is None
    assert server.post(ROW, ce(RESPONSE, "2", "r")).body == b""


def test_b4_without_a_configured_type_and_source_the_answer_is_empty(serve: Serve) -> None:
    """A broker takes an empty 200 for delivered; a body that is no event it takes for a failure."""
    server = serve("--store", "memory://")
    answer = server.post(PAIR, ce(FEEDBACK, "1", "r"))
    assert (answer.status, answer.body, answer.headers.get("ce-id")) == (200, b"", None)


def test_b5_handshake_token_and_limits(serve: Serve, tmp_path: Path) -> None:
    """Web hook handshake, bearer token and size limit are there."""
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    server = serve("--store", "memory://", "--token_file", str(token), "--max_body_bytes", "1000")
    shake = server.request(
        "OPTIONS", "/", headers={"WebHook-Request-Origin": "a.example", "WebHook-Request-Rate": "600"}
    )
    assert shake.status == 204
    assert shake.headers["WebHook-Allowed-Origin"] == "a.example"
    assert shake.headers["WebHook-Allowed-Rate"] == "600"
    assert server.post(PAIR).status == 401
    assert server.post(PAIR, {"Authorization": "Bearer s3cret"}).status == 200
    assert server.post(PAIR, path="/?access_token=s3cret").status == 200
    assert server.post(b" " * 2000, {"Authorization": "Bearer s3cret"}).status == 413


def test_c1_a_sink_that_stalls_holds_nobody_up(serve: Serve) -> None:
    """With a reply_url that accepts and never answers, events and scrapes are answered at once, and losses are
    counted."""
    with socket.create_server(("127.0.0.1", 0)) as sink:
        url = f"http://127.0.0.1:{sink.getsockname()[1]}"
        options = ("--event_type", "reply", "--event_source", "/s", "--reply_url", url)
        server = serve("--store", "memory://", *options)
        started = time.monotonic()
        for number in range(50):
            assert server.post(PAIR, ce(FEEDBACK, str(number), f"r{number}")).status == 200
        assert server.value("model_support", window="1h") == 50
        assert time.monotonic() - started < 15


def test_c2_a_model_that_cannot_be_loaded_stops_the_start(serve: Serve) -> None:
    """A wrong --storage_uri is one clear line at the start, not an error for each event."""
    with pytest.raises(AssertionError, match=r"storage_uri no\.such\.Model"):
        serve("--store", "memory://", "--storage_uri", "no.such.Model")


def test_c3_a_restart_shows_the_same_numbers(serve: Serve) -> None:
    """The state is in the file: stopped and started again, the page's model series are the same."""
    pages = []
    for _ in range(2):
        server = serve()
        server.post(PAIR, ce(FEEDBACK, "1", "r"))
        pages.append({k: v for k, v in server.samples().items() if k[0].startswith(("model_", "seldon_"))})
        assert server.stop() == 0
    assert pages[0] == pages[1]
    assert pages[0]


def test_c4_c6_the_page_passes_the_strict_parsers_and_names_no_process(server: RunningServer) -> None:
    """One HELP and TYPE a family in both formats, real help texts, no worker_id."""
    server.post(PAIR, ce(FEEDBACK, "1", "r"))
    text = server.get("/v1/metrics")
    families = list(strict_text(text.body.decode()))
    assert len({family.name for family in families}) == len(families)
    assert all(len(family.documentation) > 10 for family in families)
    openmetrics = server.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert list(strict_openmetrics(openmetrics.body.decode()))
    assert b"worker_id" not in text.body


def test_c5_a_pickle_is_refused_unless_allowed(serve: Serve, tmp_path: Path) -> None:
    """Nothing that can run code is loaded without the operator's word."""
    with pytest.raises(AssertionError, match="--allow_pickle"):
        serve("--store", "memory://", "--storage_uri", str(tmp_path / "model"))


def test_c7_a_manifest_that_names_elasticsearch_starts(serve: Serve) -> None:
    """Whether or not there is one, and the log says where predictions are looked up, for any environment of the request
    logger."""
    index = "inference-log-prod-seldon-{namespace}-{service}-{endpoint}"
    server = serve("--elasticsearch_uri", "http://elastic.invalid:9200", "--elasticsearch_index", index, drop_in=True)
    server.stop()
    assert f"looked up at http://elastic.invalid:9200 in the index {index}" in server.log.read_text()


def test_c8_payloads_are_not_logged(server: RunningServer) -> None:
    """Neither truth nor response appear in the log, also when refused."""
    server.post({"response": {"strData": "patient-77"}, "truth": {"strData": "patient-78"}}, ce(FEEDBACK, "1", "r"))
    server.post(
        {"response": {"strData": "patient-79"}, "truth": {"data": {"ndarray": ["patient-80", "x"]}}},
        ce(FEEDBACK, "2", "r"),
    )
    server.stop()
    assert "patient" not in server.log.read_text()
