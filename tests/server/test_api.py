"""The JSON API over HTTP: readings, history, comparison, retirement; and what it refuses."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import math
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from metrics_server.metrics.window import DAY, HOUR, QUARTER
from tests.conftest import Serve
from tests.support.endless_store import WINE, Endless, pairs
from tests.support.live_server import LiveServer, live_server
from tests.support.numbers import assert_same_text
from tests.support.running import FEEDBACK, RESPONSE, ROOT, Answer, RunningServer, ce, peer

TOKEN = "s3cret"
OWNER = {"Authorization": f"Bearer {TOKEN}"}
# What the page leaves to the API: the intervals of values that are one of many.
MANY = {"class", "value"}


@pytest.fixture
def server(serve: Serve) -> RunningServer:
    return serve("--store", "memory://", "--windows", "1h,1d", "--slices", "tenant=attribute:tenant")


@pytest.fixture
def owned(serve: Serve, tmp_path: Path) -> RunningServer:
    """A server with a token and its state in a file."""
    (tmp_path / "token").write_text(TOKEN)
    return serve("--token_file", str(tmp_path / "token"), "--slices", "tenant=attribute:tenant")


def got(server: RunningServer, path: str) -> Any:
    answer = server.get(path)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    return json.loads(answer.body)


def refused(answer: Answer, status: int, reason: str) -> str:
    """The detail of an error in our one shape."""
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    error = json.loads(answer.body)["error"]
    assert set(error) == {"reason", "detail"}
    assert error["reason"] == reason
    return str(error["detail"])


def tell(server: RunningServer, *statements: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
    """Plain feedback about shop/wine/main/classifier, unless it says something else."""
    names = {"namespace": "shop", "deployment": "wine", "predictor": "main", "model": "classifier"}
    body = [{**names, **statement} for statement in statements]
    answer = server.post(body, {"Content-Type": "application/json", **(headers or {})}, "/v1/feedback")
    assert answer.status == 200, answer.body
    assert all(row["status"] == "accepted" for row in json.loads(answer.body)), answer.body


def log(
    server: RunningServer, request_id: str, *rows: Any, headers: Mapping[str, str] | None = None, **extensions: str
) -> None:
    sent = ce(RESPONSE, f"log-{request_id}-{extensions}", request_id, **extensions) | dict(headers or {})
    assert server.post({"data": {"ndarray": list(rows)}}, sent).status == 200


def support(server: RunningServer, path: str = WINE, window: str = "1h") -> float:
    return float(got(server, path)["windows"][window]["support"])


def by_name(values: list[dict[str, Any]]) -> dict[tuple[str, frozenset[tuple[str, str]]], dict[str, Any]]:
    found = {(value["name"], frozenset(value["labels"].items())): value for value in values}
    assert len(found) == len(values)
    return found


# Readings


def _fill(server: RunningServer) -> None:
    """Every task, a slice, rewards and outputs."""
    for number in range(12):
        row = [0.7, 0.2, 0.1] if number % 3 else [0.1, 0.3, 0.6]
        log(server, f"r{number}", row, tenant="b 7" if number % 2 else "a/b")
        if number < 9:
            server.post(
                {"truth": {"data": {"ndarray": [number % 2]}}, "reward": number % 2},
                ce(FEEDBACK, f"f{number}", f"r{number}"),
            )
    tell(server, *({"truth": 10.0 + n, "prediction": 9.5 + 1.1 * n, "model": "price"} for n in range(8)))
    tell(server, *({"truth": n % 2, "prediction": round(0.13 * n % 1, 3), "model": "fraud"} for n in range(20)))
    log(server, "open", 3.5, modelid="unlabelled")


def _gauges(server: RunningServer) -> dict[tuple[str, str, str, str, str, str, str], dict[Any, float]]:
    """The values of windows on the page, by series, slice and window."""
    names = ("deployment_namespace", "deployment_name", "predictor_name", "model_name", "slice", "window")
    found: dict[Any, dict[Any, float]] = {}
    for (name, pairs_), value in server.samples().items():
        labels = dict(pairs_)
        if "window" in labels:
            key = tuple(labels.pop(part, "") for part in names)
            found.setdefault(key, {})[name, frozenset(labels.items())] = value
    return found


def test_values_are_those_of_the_page(server: RunningServer) -> None:
    """For every series, slice and window the API has the names, labels, values and intervals of /v1/metrics, no more
    and no less."""
    _fill(server)
    page = _gauges(server)
    seen = set()
    for entry in got(server, "/v1/models")["models"]:
        for part in ("", *entry["slices"]):
            reading = got(server, entry["path"] + (f"?slice={quote(part)}" if part else ""))
            for window, shown in reading["windows"].items():
                key = (entry["namespace"], entry["deployment"], entry["predictor"], entry["model"], part, window)
                values: dict[Any, float] = {}
                for value in shown["values"]:
                    labels = frozenset(value["labels"].items())
                    values[value["name"], labels] = value["value"]
                    if "lower" in value and not MANY & value["labels"].keys():
                        values[f"{value['name']}_lower", labels] = value["lower"]
                        values[f"{value['name']}_upper", labels] = value["upper"]
                assert values == page.get(key, {}), key
                assert shown["support"] == values.get(("model_support", frozenset()), 0.0)
                assert shown.get("coverage") == values.get(("model_label_coverage_ratio", frozenset()))
                seen.add(key)
    assert seen >= page.keys()
    assert len(seen) == 12, "four models and two slices in two windows"


def test_values_of_classes_have_intervals(server: RunningServer) -> None:
    """What the page leaves out for its length is here: the interval and the support of each class's values."""
    tell(server, *pairs(8, 2))
    values = by_name(got(server, WINE)["windows"]["1h"]["values"])
    recall = values["model_recall_ratio", frozenset({("class", "cat")})]
    assert recall["value"] == 0.8
    assert recall["support"] == 10
    assert (recall["lower"], recall["upper"]) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4)), (
        "Wilson, 8 of 10"
    )


def test_the_list_tells_what_there_is(server: RunningServer) -> None:
    """It names each series with its path, slices, task, metric model and standing by window; what is not known before a
    pair is null."""
    _fill(server)
    models = {entry["model"]: entry for entry in got(server, "/v1/models")["models"]}
    assert set(models) == {"classifier", "price", "fraud", "unlabelled"}
    wine = models["classifier"]
    assert (wine["path"], wine["slices"], wine["task"]) == (WINE, ["tenant=a/b", "tenant=b 7"], "one_hot")
    assert wine["metric_model"] == "cm_models.multiclass_one_hot.MulticlassOneHot"
    assert abs(wine["created_at"] - time.time()) < 60
    assert wine["created_at"] <= wine["last_label_at"] <= wine["last_prediction_at"] <= time.time(), (
        "the last three rows have no label"
    )
    reading = got(server, WINE)["windows"]
    for window, standing in wine["windows"].items():
        assert standing["headline"] == reading[window]["values"][1]
        assert standing["headline"]["name"] == "model_accuracy_ratio"
        assert standing["support"] == reading[window]["support"]
        assert standing["support"] / standing["predictions"] == reading[window]["coverage"]
    assert list(wine["windows"]) == ["1h", "1d"]
    assert wine["labels"] == {"matched": wine["windows"]["1d"]["support"]}
    assert models["price"]["windows"]["1h"]["headline"]["name"] == "model_mean_absolute_error"
    assert models["price"]["last_prediction_at"] is None
    unlabelled = models["unlabelled"]
    assert [unlabelled[name] for name in ("task", "metric_model", "last_label_at")] == [None] * 3
    assert unlabelled["windows"]["1h"]["headline"] is None


def test_the_list_of_a_deployment(server: RunningServer) -> None:
    """It holds the series of that namespace and deployment only; of one that is not there, none."""
    tell(server, *pairs(1, 0), *pairs(1, 0, deployment="beer"), *pairs(1, 0, namespace="home"))
    assert [entry["path"] for entry in got(server, "/v1/models/shop/wine")["models"]] == [WINE]
    assert got(server, "/v1/models/shop/cider") == {"models": [], "requests": []}


def test_a_reading_tells_of_its_series(server: RunningServer) -> None:
    """Labels, task, parameters, times and the span of each window stand beside the values."""
    _fill(server)
    reading = got(server, f"{WINE.removesuffix('classifier')}price")
    assert [reading[name] for name in ("namespace", "deployment", "predictor", "model", "task")] == [
        "shop",
        "wine",
        "main",
        "price",
        "regression",
    ]
    assert reading["headline"] == "model_mean_absolute_error"
    assert reading["parameters"]["pivot"] == 10.0
    assert "slice" not in reading
    assert "confusion" not in reading["windows"]["1h"]
    assert "coverage" not in reading["windows"]["1h"]
    for window, seconds in (("1h", HOUR), ("1d", DAY)):
        shown = reading["windows"][window]
        assert abs(shown["to"] - time.time()) < 60
        assert seconds <= shown["to"] - shown["from"] < seconds + QUARTER
    assert sorted(got(server, WINE)["parameters"]["classes"]) == ["0", "1", "2"]


def test_the_delay_of_labels_is_that_of_the_page(server: RunningServer) -> None:
    """Bounds, counts and sum are those of the histogram, of a slice its own; without a label of the request log there
    are none."""
    now = time.time()
    for number, seconds in enumerate([0.0, 5.0, 5.0, 2 * HOUR, 31 * DAY]):
        log(
            server,
            f"r{number}",
            "cat",
            tenant="b" if number % 2 else "a",
            time=datetime.fromtimestamp(now - seconds, UTC).isoformat(),
        )
        tell(server, {"truth": "cat", "request_id": f"r{number}", "labelled_at": now})
    tell(server, {"truth": "cat", "prediction": "cat", "model": "self-contained"})
    samples = server.samples()
    for path, part, count in (
        (WINE, "", 5),
        (f"{WINE}?slice=tenant%3Da", "tenant=a", 3),
        (f"{WINE}?slice=tenant%3Db", "tenant=b", 2),
    ):
        shown = got(server, path)["label_delay"]
        page = {
            (name.removeprefix("model_label_delay_seconds_"), dict(labels).get("le")): value
            for (name, labels), value in samples.items()
            if name.startswith("model_label_delay_seconds_")
            and dict(labels).get("slice", "") == part
            and not name.endswith("_created")
        }
        assert {("bucket", f"{bound:g}"): found for bound, found in shown["buckets"]} == {
            (kind, f"{float(bound):g}"): value for (kind, bound), value in page.items() if bound not in {None, "+Inf"}
        }
        assert (shown["count"], shown["sum"]) == (page["count", None], page["sum", None])
        assert shown["count"] == page["bucket", "+Inf"] == count
        assert [bound for bound, _ in shown["buckets"]] == sorted(bound for bound, _ in shown["buckets"])
    assert got(server, WINE)["label_delay"]["sum"] == pytest.approx(2 * HOUR + 31 * DAY + 10, abs=0.1)
    assert "label_delay" not in got(server, WINE.replace("classifier", "self-contained"))


def test_the_table_of_errors(server: RunningServer) -> None:
    """A regression's table has the pairs by their error, prediction minus truth, with its sign."""
    tell(server, *({"truth": 10.5, "prediction": 10.5 + error, "model": "price"} for error in (-3.0, 0.0, 0.5, 0.5)))
    rows = got(server, f"{WINE.removesuffix('classifier')}price?tables=true")["windows"]["1h"]["tables"]["errors"]
    assert [row["pairs"] for row in rows] == [1, 1, 2]
    assert [row["lower"] < error < row["upper"] for row, error in zip(rows, (-3.0, 0.0, 0.5), strict=True)] == [
        True
    ] * 3


def test_the_confusion_matrix(server: RunningServer) -> None:
    """Its rows are truths, its columns predictions; its sum is the support; it follows a correction."""
    log(server, "r", "cat")
    tell(server, {"truth": "dog", "request_id": "r", "labelled_at": 1}, *pairs(3, 2))
    confusion = got(server, WINE)["windows"]["1h"]["confusion"]
    assert confusion == {"classes": ["cat", "dog"], "counts": [[3, 2], [1, 0]]}
    tell(server, {"truth": "cat", "request_id": "r", "labelled_at": 2})
    assert got(server, WINE)["windows"]["1h"]["confusion"]["counts"] == [[4, 2], [0, 0]]


def test_a_large_matrix_ends_at_thirty_classes(server: RunningServer) -> None:
    """Classes beyond the thirtieth are one row and one column, the last, and no pair is lost."""
    tell(server, *({"truth": f"c{n}", "prediction": f"c{(n * 7) % 40}"} for n in range(40)))
    confusion = got(server, WINE)["windows"]["1h"]["confusion"]
    assert len(confusion["classes"]) == 31
    assert confusion["classes"][-1] == "__other__"
    assert sum(map(sum, confusion["counts"])) == 40


def test_tables_come_when_asked_for(server: RunningServer) -> None:
    """Without tables=true there are none; with it, the thresholds agree with the scores that were sent."""
    scores = [(0, 0.1), (0, 0.4), (1, 0.35), (1, 0.8)]
    tell(server, *({"truth": truth, "prediction": score} for truth, score in scores))
    assert "tables" not in got(server, WINE)["windows"]["1h"]
    assert "tables" not in got(server, f"{WINE}?tables=false")["windows"]["1h"]
    tables = got(server, f"{WINE}?tables=true")["windows"]["1h"]["tables"]
    assert set(tables) == {"reliability", "discrimination", "thresholds"}
    for row in tables["thresholds"]:
        kept = [(truth, score >= row["threshold"]) for truth, score in scores]
        assert (row["tp"], row["fp"]) == (kept.count((1, True)), kept.count((0, True)))
        assert "cost" not in row


def test_the_cost_at_a_threshold(server: RunningServer) -> None:
    """Each threshold gets the mean cost of a pair, from the costs of the two errors; both are needed, and the
    tables."""
    tell(server, *({"truth": truth, "prediction": score} for truth, score in ((0, 0.1), (0, 0.4), (1, 0.35), (1, 0.8))))
    rows = got(server, f"{WINE}?tables=true&cost_false_positive=1&cost_false_negative=10&window=1h")["windows"]["1h"][
        "tables"
    ]["thresholds"]
    assert len(rows) > 2
    assert [row["cost"] for row in rows] == [(row["fp"] + 10 * row["fn"]) / 4 for row in rows]
    best = min(rows, key=lambda row: row["cost"])
    assert (best["tp"], best["fp"], best["cost"]) == (2, 1, 0.25)
    for asked in ("tables=true&cost_false_positive=1", "cost_false_positive=1&cost_false_negative=1"):
        assert "cost_false_negative" in refused(server.get(f"{WINE}?{asked}"), 400, "bad_request")


def test_one_window(server: RunningServer) -> None:
    """?window= leaves the others out, and one that is not configured is refused with those that are."""
    tell(server, *pairs(1, 0))
    assert list(got(server, WINE)["windows"]) == ["1h", "1d"]
    assert list(got(server, f"{WINE}?window=1d")["windows"]) == ["1d"]
    assert "1h, 1d" in refused(server.get(f"{WINE}?window=2d"), 400, "bad_request")


def test_one_slice(server: RunningServer) -> None:
    """?slice= reads that slice alone, and one that is not there is a 404."""
    _fill(server)
    reading = got(server, f"{WINE}?slice=tenant%3Db+7")
    assert reading["slice"] == "tenant=b 7"
    assert reading["windows"]["1h"]["support"] == 4
    assert got(server, f"{WINE}?slice=tenant=a%2Fb")["windows"]["1h"]["support"] == 5
    refused(server.get(f"{WINE}?slice=tenant=c"), 404, "not_found")
    refused(server.get(f"{WINE}?slice="), 404, "not_found")


ODD = [
    ("", "", "", ""),
    ("-", "--", "a-", "-a"),
    ("a/b", "a%2Fb", "a b", "a+b"),
    ("Ä", "日本", "?x=1", "#f"),
    ("..", ".", "%", "&="),
    ("a", "b", "", "d"),
]


def test_every_label_can_be_reached(server: RunningServer) -> None:
    """Whatever stands in a label, the path in the list leads to its series and to no other."""
    for weight, labels in enumerate(ODD, 1):
        names = dict(zip(("namespace", "deployment", "predictor", "model"), labels, strict=True))
        tell(server, *pairs(weight, 0, **names))
    found = {entry["path"]: entry for entry in got(server, "/v1/models")["models"]}
    assert len(found) == len(ODD)
    for path, entry in found.items():
        labels = tuple(entry[name] for name in ("namespace", "deployment", "predictor", "model"))
        reading = got(server, path)
        assert tuple(reading[name] for name in ("namespace", "deployment", "predictor", "model")) == labels
        assert reading["windows"]["1h"]["support"] == ODD.index(labels) + 1
    assert "/v1/models/-/-/-/-" in found
    assert "/v1/models/--/---/a-/-a" in found
    assert "/v1/models/a%2Fb/a%252Fb/a%20b/a%2Bb" in found


# History


def _sent(server: RunningServer, at: float, right: int, wrong: int) -> None:
    tell(server, *({**pair, "predicted_at": at, "labelled_at": at + 1} for pair in pairs(right, wrong)))


def test_history_is_what_was_sent(server: RunningServer) -> None:
    """Each step that holds anything has the pairs that were predicted in it, and the values that are read from them."""
    now = time.time() // QUARTER * QUARTER
    for ago, right, wrong in ((2 * QUARTER, 3, 1), (2 * QUARTER - 60, 1, 1), (5 * QUARTER, 0, 2), (9 * QUARTER, 4, 0)):
        _sent(server, now - ago, right, wrong)
    history = got(server, f"{WINE}?from={now - 2 * HOUR}&to={now}&step=15m")
    assert (history["from"], history["to"], history["step"]) == (now - 2 * HOUR, now, QUARTER)
    points = {point["from"]: point for point in history["points"]}
    assert {at: point["support"] for at, point in points.items()} == {now - 5 * QUARTER: 2, now - 2 * QUARTER: 6}
    assert all(point["to"] == at + QUARTER for at, point in points.items())
    accuracy = by_name(points[now - 2 * QUARTER]["values"])["model_accuracy_ratio", frozenset()]
    assert accuracy["value"] == pytest.approx(4 / 6)
    assert accuracy["lower"] < 4 / 6 < accuracy["upper"]
    whole = got(server, f"{WINE}?from={now - 3 * HOUR}&to={now}&step=3h")["points"]
    assert sum(point["support"] for point in whole) == 12
    minutes = got(server, f"{WINE}?from={now - 2 * HOUR}&to={now}&step=1m")["points"]
    assert [point["from"] for point in minutes] == [now - 5 * QUARTER, now - 2 * QUARTER, now - 2 * QUARTER + 60]


def test_a_late_label_repairs_the_past(server: RunningServer) -> None:
    """A label that comes now for a prediction of then changes the point of then, and so does its correction."""
    at = time.time() // HOUR * HOUR - 26 * HOUR + 100
    asked = f"{WINE}?from={at - 200}&to={at + 200}&step=15m"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    log(server, "r", "cat", headers={"Ce-Time": stamp})
    (before,) = got(server, asked)["points"]
    assert (before["support"], by_name(before["values"]).keys() & {("model_accuracy_ratio", frozenset())}) == (0, set())
    for truth, accuracy in (("cat", 1.0), ("dog", 0.0)):
        tell(server, {"truth": truth, "request_id": "r"})
        (point,) = got(server, asked)["points"]
        assert point["from"] == at - 100
        assert point["support"] == 1
        assert by_name(point["values"])["model_accuracy_ratio", frozenset()]["value"] == accuracy
    assert support(server) == 0
    assert got(server, f"{WINE}?from={stamp}&step=1h")["points"] == [{**point, "to": point["from"] + HOUR}]


def test_history_of_a_slice(server: RunningServer) -> None:
    """The history of a slice holds its own pairs only."""
    _fill(server)
    (point,) = got(server, f"{WINE}?slice=tenant=b%207&step=7d")["points"]
    assert point["support"] == 4


def test_a_step_finer_than_what_is_kept_is_refused(server: RunningServer) -> None:
    """The refusal names the finest step there is; that one is taken, and without one the server chooses."""
    tell(server, *pairs(1, 0))
    now = time.time()
    for age, fine, finest in ((5 * HOUR, "30s", "1m"), (DAY, "10m", "15m"), (30 * DAY, "1h", "1d")):
        since = f"{WINE}?from={now - age}"
        assert f" {finest}," in refused(server.get(f"{since}&step={fine}"), 400, "bad_request")
        assert got(server, f"{since}&step={finest}")["points"]
        chosen = got(server, since)
        assert chosen["points"]
        assert (chosen["to"] - chosen["from"]) / chosen["step"] <= 102
    day = got(server, f"{WINE}?to={now}")
    assert (day["step"], day["points"]) == (QUARTER, got(server, f"{WINE}?from={now - DAY}&step=15m")["points"])


def test_history_without_its_file_is_unavailable(owned: RunningServer, tmp_path: Path) -> None:
    """While the file cannot be read, the history is a 503 that says when to come again; the windows are read from
    memory all the same."""
    tell(owned, *pairs(1, 0), headers=OWNER)
    hidden = tmp_path / "metrics-server.db"
    hidden.rename(tmp_path / "elsewhere")
    answer = owned.get(f"{WINE}?step=1h")
    refused(answer, 503, "unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert support(owned) == 1
    (tmp_path / "elsewhere").rename(hidden)
    assert got(owned, f"{WINE}?step=1h")["points"]


def test_nobody_reads_for_who_has_gone() -> None:
    """When the connection breaks, the reading ends."""

    async def run() -> None:
        endless = Endless()
        await endless.start()
        _, writer = await asyncio.open_connection("127.0.0.1", endless.port)
        writer.write(f"GET {WINE}?step=1h HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await endless.begun()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        assert await endless.ended()
        await endless.server.stop()

    asyncio.run(run())


# Comparison


def _canary(server: RunningServer) -> None:
    """Newcombe's example of two proportions (1998, table II a): 56 of 70 against 48 of 80."""
    tell(server, *pairs(48, 32), *pairs(56, 14, predictor="canary"))


def test_a_canary_beside_the_main_predictor(server: RunningServer) -> None:
    """Each predictor has its values, and the difference of the headline from the larger one, with its interval as
    published."""
    _canary(server)
    (comparison,) = got(server, "/v1/models/shop/wine?compare=predictor&window=1d")["comparisons"]
    assert [comparison[name] for name in ("model", "window", "headline", "baseline")] == [
        "classifier",
        "1d",
        "model_accuracy_ratio",
        "main",
    ]
    canary, main = comparison["predictors"]
    assert (canary["predictor"], canary["support"], main["predictor"], main["support"]) == ("canary", 70, "main", 80)
    assert main["headline"]["value"] == 0.6
    assert main["differences"] == []
    assert "difference" not in main["headline"]
    assert main["values"] == got(server, WINE)["windows"]["1d"]["values"]
    shown = canary["headline"]
    assert (shown["name"], shown["value"], shown["difference"]) == ("model_accuracy_ratio", 0.8, pytest.approx(0.2))
    assert (shown["difference_lower"], shown["difference_upper"]) == (
        pytest.approx(0.0524, abs=5e-5),
        pytest.approx(0.3339, abs=5e-5),
    )
    ours, theirs = by_name(canary["values"]), by_name(main["values"])
    both = {key for key in ours.keys() & theirs.keys() if "lower" in ours[key] and "lower" in theirs[key]}
    differences = by_name(canary["differences"])
    assert differences.keys() == both
    assert len(both) > 5
    for key, found in differences.items():
        assert found["difference"] == ours[key]["value"] - theirs[key]["value"]
        assert found["lower"] <= found["difference"] <= found["upper"]


def test_the_baseline_can_be_named(server: RunningServer) -> None:
    """The difference is that from the baseline, the other way round when the canary is it; a predictor that is not
    there is a 404."""
    _canary(server)
    (comparison,) = got(server, "/v1/models/shop/wine?compare=predictor&baseline=canary")["comparisons"]
    assert (comparison["baseline"], comparison["window"]) == ("canary", "1h")
    canary, main = comparison["predictors"]
    assert "difference" not in canary["headline"]
    assert main["headline"]["difference"] == pytest.approx(-0.2)
    assert main["headline"]["difference_upper"] == pytest.approx(-0.0524, abs=5e-5)
    refused(server.get("/v1/models/shop/wine?compare=predictor&baseline=blue"), 404, "not_found")


def test_models_are_compared_each_by_itself(server: RunningServer) -> None:
    """Each model of a deployment is a comparison of its own; ?model= leaves the others out."""
    _canary(server)
    tell(server, *pairs(1, 1, model="other"))
    asked = "/v1/models/shop/wine?compare=predictor"
    assert [comparison["model"] for comparison in got(server, asked)["comparisons"]] == ["classifier", "other"]
    (other,) = got(server, f"{asked}&model=other")["comparisons"]
    assert [row["predictor"] for row in other["predictors"]] == ["main"]
    assert got(server, f"{asked}&model=none") == got(server, "/v1/models/a/b?compare=predictor") == {"comparisons": []}


def test_predictors_of_different_tasks(server: RunningServer) -> None:
    """Of a classification and a regression no values are compared, and the one that lacks the headline has none."""
    tell(server, *pairs(5, 5), *({"truth": 1.5 + n, "prediction": 2.5, "predictor": "new"} for n in range(4)))
    (comparison,) = got(server, "/v1/models/shop/wine?compare=predictor")["comparisons"]
    main, new = comparison["predictors"]
    assert comparison["headline"] == main["headline"]["name"] == "model_accuracy_ratio"
    assert (new["headline"], new["differences"]) == (None, [])
    assert new["support"] == 4


# Retirement


def test_retiring_needs_the_token(server: RunningServer, owned: RunningServer) -> None:
    """Without a token of the server it is 403, without the right one in the request 401; nothing has gone."""
    tell(server, *pairs(1, 0))
    assert "--token_file" in refused(server.request("DELETE", WINE), 403, "forbidden")
    assert "--token_file" in refused(server.request("DELETE", WINE, headers=OWNER), 403, "forbidden")
    tell(owned, *pairs(1, 0), headers=OWNER)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
        answer = owned.request("DELETE", WINE, headers=headers)
        refused(answer, 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")
    assert support(server) == support(owned) == 1


def test_a_retired_series_is_gone(owned: RunningServer) -> None:
    """It leaves the list, the page and the store with its slices and at once; the others stay; a second time it is a
    404."""
    log(owned, "r", "cat", headers=OWNER, tenant="b 7")
    tell(owned, {"truth": "cat", "request_id": "r"}, *pairs(1, 1, predictor="canary"), headers=OWNER)
    assert got(owned, WINE)["slices"] == ["tenant=b 7"]
    answer = owned.request("DELETE", WINE, headers=OWNER)
    assert (answer.status, answer.body) == (204, b"")
    refused(owned.get(WINE), 404, "not_found")
    refused(owned.get(f"{WINE}?slice=tenant=b%207"), 404, "not_found")
    refused(owned.request("DELETE", WINE, headers=OWNER), 404, "not_found")
    refused(owned.request("DELETE", f"{WINE}?force=1", headers=OWNER), 400, "bad_request")
    page = _gauges(owned)
    assert {key[2] for key in page} == {"canary"}
    assert [entry["predictor"] for entry in got(owned, "/v1/models")["models"]] == ["canary"]
    assert owned.request("DELETE", f"{WINE.replace('main', 'canary')}?access_token={TOKEN}").status == 204
    assert got(owned, "/v1/models") == {"models": [], "requests": []}
    log(owned, "r2", "cat", headers=OWNER, tenant="b 7")
    tell(owned, {"truth": "cat", "request_id": "r2"}, headers=OWNER)
    assert support(owned) == got(owned, f"{WINE}?slice=tenant=b%207")["windows"]["1h"]["support"] == 1, (
        "the slice starts anew too"
    )


def _live(directory: Path) -> Any:
    directory.mkdir(exist_ok=True)
    (directory / "token").write_text(TOKEN)
    return live_server(directory, "--token_file", str(directory / "token"))


def _ask(server: LiveServer, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)
    try:
        headers = {**OWNER, "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def test_a_retired_series_does_not_come_back(tmp_path: Path) -> None:
    """Once the 204 is there, kill -9 and a restart do not bring it back; what comes afterwards starts it anew."""
    with _live(tmp_path) as server:
        names = {"namespace": "shop", "deployment": "wine", "predictor": "main", "model": "classifier"}
        assert _ask(server, "POST", "/v1/feedback", [{**names, **pair} for pair in pairs(3, 1)])[0] == 200
        assert _ask(server, "DELETE", WINE) == (204, None)
        server.kill()
        server.start()
        assert _ask(server, "GET", "/v1/models") == (200, {"models": [], "requests": []})
        assert _ask(server, "GET", WINE)[0] == 404
        assert _ask(server, "POST", "/v1/feedback", [{**names, **pair} for pair in pairs(1, 1)])[0] == 200
        for _ in range(2):
            assert _ask(server, "GET", WINE)[1]["windows"]["1h"]["confusion"] == {
                "classes": ["cat", "dog"],
                "counts": [[1, 1], [0, 0]],
            }
            server.kill()
            server.start()


def test_corrections_of_a_retired_pair_touch_nothing(owned: RunningServer) -> None:
    """What a correction or a retraction takes back was in the old series, so nothing is taken from the new one."""
    for name in ("a", "b", "c"):
        log(owned, name, "cat", headers=OWNER)
        tell(owned, {"truth": "cat", "request_id": name}, headers=OWNER)
    assert owned.request("DELETE", WINE, headers=OWNER).status == 204
    tell(owned, *pairs(2, 0), headers=OWNER)
    new = got(owned, WINE)["windows"]["1h"]["confusion"]
    tell(owned, {"truth": None, "request_id": "a"}, headers=OWNER)
    assert got(owned, WINE)["windows"]["1h"]["confusion"] == new == {"classes": ["cat"], "counts": [[2]]}
    tell(owned, {"truth": "dog", "request_id": "b"}, headers=OWNER)
    assert got(owned, WINE)["windows"]["1h"]["confusion"] == {"classes": ["cat", "dog"], "counts": [[2, 0], [1, 0]]}, (
        "the new label counts"
    )
    assert not [
        1 for (name, _), value in owned.samples().items() if name.startswith("model_") and "retracted" in name and value
    ]


def test_a_series_is_retired_between_events(owned: RunningServer) -> None:
    """While events come in, retirements take what was answered before them, and neither makes the other fail."""
    sent: list[int] = []

    def send() -> None:
        for _ in range(60):
            tell(owned, *pairs(20, 5), headers=OWNER)
            sent.append(25)

    sender = threading.Thread(target=send)
    sender.start()
    retired = 0
    while sender.is_alive():
        status = owned.request("DELETE", WINE, headers=OWNER).status
        assert status in (204, 404)
        retired += status == 204
    sender.join()
    assert (len(sent), retired > 1) == (60, True)
    owned.request("DELETE", WINE, headers=OWNER)
    tell(owned, *pairs(2, 1), headers=OWNER)
    assert got(owned, WINE)["windows"]["1h"]["confusion"] == {"classes": ["cat", "dog"], "counts": [[2, 1], [0, 0]]}


# What is refused, and the form of answers

REFUSED = {
    "/v1/models?windw=1h": "windw",
    "/v1/models/shop/wine?compare=model": "compare",
    "/v1/models/shop/wine?baseline=main": "baseline",
    "/v1/models/shop/wine?compare=predictor&slice=a": "slice",
    "/v1/models/shop/wine?compare=predictor&window=3h": "window",
    f"{WINE}?Window=1h": "Window",
    f"{WINE}?window=1h&window=1h": "window",
    f"{WINE}?tables=yes": "tables",
    f"{WINE}?tables=": "tables",
    f"{WINE}?tables=true&cost_false_positive=nan&cost_false_negative=1": "cost_false_positive",
    f"{WINE}?tables=true&cost_false_positive=1&cost_false_negative=1e999": "cost_false_negative",
    f"{WINE}?from=yesterday": "from",
    f"{WINE}?from=1771234567890": "from",
    f"{WINE}?from=-1": "from",
    f"{WINE}?from=1e400": "from",
    f"{WINE}?from=Infinity": "from",
    f"{WINE}?from=2000&to=1000": "from",
    f"{WINE}?step=0m": "step",
    f"{WINE}?step=15": "step",
    f"{WINE}?step={'9' * 5000}m": "step",
    f"{WINE}?step=1m&from={{hour}}&to=4000000000": "step",
    f"{WINE}?step=30s&from={{hour}}": "step",
    f"{WINE}?step=1m&window=1h": "step",
    f"{WINE}?from=0&tables=true": "from",
    f"{WINE}?%ff=1": "the query",
    f"{WINE}?a%0a%00=1": "a\\n",
    f"{WINE}?{'&'.join(f'a{n}=1' for n in range(30))}": "the query",
}


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that holds one series, for questions that change nothing."""
    server = RunningServer(tmp_path_factory.mktemp("held"), "--store", "memory://", "--windows", "1h,1d")
    tell(server, *pairs(3, 1))
    yield server
    server.stop()


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path[:70])
def test_what_cannot_be_used_is_named(held: RunningServer, path: str) -> None:
    """A parameter that is unknown, misspelt, sent twice or unusable is a 400 that begins with its name."""
    detail = refused(held.get(path.replace("{hour}", str(time.time() - HOUR))), 400, "bad_request")
    assert detail.startswith(REFUSED[path])
    assert len(detail) < 300


@pytest.mark.parametrize(
    "path",
    ["/v1/models/shop", "/v1/models/shop/wine/main", "/v1/models//wine/main/classifier", f"{WINE}/x", "/v1/models/"],
)
def test_other_paths_are_not_there(held: RunningServer, path: str) -> None:
    """A path with other parts, or with an empty one, is a 404."""
    refused(held.get(path), 404, "not_found")


def test_a_part_that_is_no_text_is_refused(held: RunningServer) -> None:
    """Bytes that are not UTF-8 name no series."""
    refused(held.get("/v1/models/%ff/wine/main/classifier"), 400, "bad_request")


ROUTES = [
    "/v1/models",
    "/v1/models/shop/wine",
    "/v1/models/shop/wine?compare=predictor",
    WINE,
    f"{WINE}?step=1h",
    "/openapi.json",
]


@pytest.mark.parametrize("path", ROUTES)
def test_the_form_of_answers(held: RunningServer, path: str) -> None:
    """HEAD has the headers of GET; who takes gzip gets it, and the same answer in it; other methods are 405 with those
    allowed."""
    whole = held.get(path)
    head = held.request("HEAD", path)
    assert (head.status, head.body, head.headers["Content-Type"]) == (200, b"", "application/json")
    assert math.isclose(int(head.headers["Content-Length"]), len(whole.body), abs_tol=14), (
        "the time is in some, twice, with up to seven decimals"
    )
    zipped = held.get(path, {"Accept-Encoding": "gzip"})
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in zipped.headers["Vary"]
    assert json.loads(gzip.decompress(zipped.body)).keys() == json.loads(whole.body).keys()
    for method in ("PUT", "PATCH", "POST"):
        answer = held.request(method, path, {})
        refused(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == ("GET, HEAD, DELETE" if path.startswith(WINE) else "GET, HEAD")


def test_errors_of_head_have_no_body(held: RunningServer) -> None:
    """HEAD of a series that is not there is a 404 like GET."""
    answer = held.request("HEAD", "/v1/models/a/b/c/d")
    assert (answer.status, answer.body) == (404, b"")


def test_reading_does_not_ask_for_the_token(owned: RunningServer) -> None:
    """With --token_file set, what is read needs no token, as /v1/metrics needs none."""
    tell(owned, *pairs(1, 0), headers=OWNER)
    assert all(owned.get(path).status == 200 for path in ROUTES)


def test_few_pairs_are_held_back_everywhere(serve: Serve) -> None:
    """Under --min_support the API leaves out what the page leaves out, in windows, history, list and comparison."""
    server = serve("--store", "memory://", "--min_support", "5")
    tell(server, *pairs(4, 0))
    names = {value["name"] for value in got(server, WINE)["windows"]["1h"]["values"]}
    assert names == {"model_support"}
    assert {value["name"] for value in got(server, f"{WINE}?step=1h")["points"][0]["values"]} == {"model_support"}
    assert got(server, "/v1/models")["models"][0]["windows"]["1h"]["headline"] is None
    assert got(server, "/v1/models/shop/wine?compare=predictor")["comparisons"][0]["headline"] is None
    tell(server, *pairs(1, 0))
    assert got(server, "/v1/models")["models"][0]["windows"]["1h"]["headline"]["value"] == 1


# The page that shows it


def test_the_commands_of_the_page_work(serve: Serve, tmp_path: Path) -> None:
    """Each command of docs/how-to/read-the-api.md, run one after the other, prints what the page says; only today's
    date differs."""
    peer("jq"), peer("curl"), peer("python3")
    (tmp_path / "token").write_text(TOKEN)
    server = serve("--store", "memory://", "--token_file", str(tmp_path / "token"))
    blocks = re.findall(
        r"^```(\w*)\n(.*?)^```$", (ROOT / "docs/how-to/read-the-api.md").read_text(), re.DOTALL | re.MULTILINE
    )
    shown = 0
    for (language, code), (following, output) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language != "sh":
            continue
        commands = re.sub(r"^metrics-server .*&\n", "", code, flags=re.MULTILINE).replace(
            "127.0.0.1:8080", f"127.0.0.1:{server.port}"
        )
        run = subprocess.run(
            [peer("bash"), "-ec", commands], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30
        )
        if following == "text":
            printed, said = (re.sub(r'"\d{4}-\d\d-\d\d', '"', text) for text in (run.stdout, output))
            assert_same_text(printed, said)
            shown += 1
    assert shown == 7
