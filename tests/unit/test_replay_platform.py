"""Replay of what platforms keep: KServe's blob logs, SageMaker's data captures and ground truths."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_server.commands.replay.command import main
from metrics_server.commands.replay.engine import replay
from tests.support.replay_files import gauges, written

GOLDEN = Path(__file__).parent.parent / "contract" / "golden" / "replay"
CHURN = {"namespace": "crm", "deployment": "churn", "model": "predictor"}
NOON = 1_772_452_800  # 2026-03-02T12:00:00Z
LEARNT = 1_773_014_400  # 2026-03-09T00:00:00Z

COLUMNS = (
    "url",
    "bytes",
    "contentType",
    "reqType",
    "id",
    "sourceUri",
    "inferenceService",
    "namespace",
    "component",
    "endpoint",
    "metadata",
    "annotations",
    "certName",
    "tlsSkipVerify",
)


def _pairs(rows: list[tuple[str, Any, Any, Any]], **labels: str) -> list[dict[str, Any]]:
    """Predictions and their truths as our own lines, apart, as those of a platform are."""
    predictions = [{"request_id": one, "prediction": made, "predicted_at": at, **labels} for one, made, _, at in rows]
    return [*predictions, *({"request_id": one, "truth": truth} for one, _, truth, _ in rows)]


def _log(request_id: str, body: bytes, kind: str = "response", **members: Any) -> dict[str, Any]:
    """A log as the JSON marshaller of KServe's agent writes it."""
    return {
        "Url": {"Scheme": "s3", "Host": "logs", "Path": ""},
        "Bytes": base64.b64encode(body).decode(),
        "ContentType": "application/json",
        "ReqType": f"org.kubeflow.serving.inference.{kind}",
        "Id": request_id,
        "SourceUri": {"Scheme": "http", "Host": "localhost:9081", "Path": "/"},
        "InferenceService": "churn",
        "Namespace": "crm",
        "Component": "predictor",
        "Endpoint": "",
        "Metadata": {"X-Tenant": ["b 7"]},
        "Annotations": None,
        "CertName": "",
        "TlsSkipVerify": False,
        **members,
    }


def _truths(path: Path, *truths: tuple[str, Any]) -> Path:
    return written(path, [{"request_id": i, "truth": truth, "labelled_at": LEARNT} for i, truth in truths])


def _captured(event_id: str, output: dict[str, str] | None, given: str = "1,2", **metadata: str) -> dict[str, Any]:
    endpoint_input = {"observedContentType": "text/csv", "mode": "INPUT", "data": given, "encoding": "CSV"}
    data = {"endpointInput": endpoint_input, **({"endpointOutput": output} if output else {})}
    at = {"eventId": event_id, "inferenceTime": "2026-03-02T12:00:00Z"}
    return {"captureData": data, "eventMetadata": {**at, **metadata}, "eventVersion": "0"}


def _output(data: str, encoding: str = "CSV", content_type: str = "text/csv") -> dict[str, str]:
    return {"observedContentType": content_type, "mode": "OUTPUT", "data": data, "encoding": encoding}


def _labelled(event_id: str, data: str) -> dict[str, Any]:
    return {
        "groundTruthData": {"data": data, "encoding": "CSV"},
        "eventMetadata": {"eventId": event_id},
        "eventVersion": "0",
    }


def test_blob_logs_of_kserve_meet_their_truths(capsys: pytest.CaptureFixture[str]) -> None:
    """Objects, arrays and CSV of KServe's agent give what our own lines of the same predictions give, by the times that
    they state."""
    assert main([str(GOLDEN / "kserve"), "--time", "2026-03-02T12:00:00Z", "--format", "json", "--step", "1h"]) == 0
    output, errors = capsys.readouterr()
    expected = _pairs(
        [
            ("7a0d", 0.9, 1, "2026-03-02T09:00:00.012Z"),
            ("b1f0", 0.2, 0, "2026-03-02T10:00:00.1Z"),
            ("b2f0", 0.7, 0, "2026-03-02T10:00:01Z"),
            ("c1f0", 0.8, 1, NOON),
            ("c2f0", 0.4, 1, NOON),
        ],
        **CHURN,
    )
    found = json.loads(output)
    assert gauges(found) == pytest.approx(gauges(replay(expected)), rel=1e-9)
    assert [point["support"] for point in found[0]["points"]] == [1, 2, 2]
    assert errors == (
        "metrics-server replay: 3 records state no time, and each was taken as of --time, 2026-03-02T12:00:00+00:00\n"
    )


def test_a_capture_of_sagemaker_meets_its_ground_truth() -> None:
    """CSV, JSON and base64 of a data capture are predictions of the endpoint and variant in the name of the object, and
    meet the truths of their event id, or of the inference id if there is one, row by row."""
    expected = _pairs(
        [
            ("1", 0.9254181120544672, 1, NOON),
            ("2", 0.25, 0, NOON),
            ("3", 0.6, 0, NOON),
            ("4", 0.75, 1, NOON),
            ("4-1", 0.125, 0, NOON),
            ("5", 0.5, 1, NOON),
        ],
        deployment="churn-endpoint",
        predictor="AllTraffic",
    )
    with pytest.warns(UserWarning, match="5 records state no time"):
        found = replay(GOLDEN / "sagemaker", step="1h")
    assert gauges(found) == pytest.approx(gauges(replay(expected)), rel=1e-9)
    assert [(point["from"], point["support"]) for point in found[0]["points"]] == [(NOON - 3 * 3600, 6)]


def _as_array(path: Path, logs: list[dict[str, Any]]) -> None:
    path.with_suffix(".json").write_text(json.dumps(logs))


def _as_indented_objects(path: Path, logs: list[dict[str, Any]]) -> None:
    for number, log in enumerate(logs):
        path.with_name(f"{number}.json").write_text(json.dumps(log, indent=2))


def _table(logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Logs as the columns of CSV and Parquet have them."""
    rows = [{name: log[f"{name[0].upper()}{name[1:]}"] for name in COLUMNS} for log in logs]
    texts = {"url": "s3://logs", "sourceUri": "http://localhost:9081/", "metadata": '{"X-Tenant":["b 7"]}'}
    return [{**row, **texts, "annotations": ""} for row in rows]


def _as_csv(path: Path, logs: list[dict[str, Any]]) -> None:
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_table(logs))


def _as_parquet(path: Path, logs: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {"tlsSkipVerify": pa.bool_()}
    fields = [pa.field(name, types.get(name, pa.string()), nullable=False) for name in COLUMNS]
    parquet.write_table(pa.Table.from_pylist(_table(logs), pa.schema(fields)), path.with_suffix(".parquet"))


def _as_parquet_of_0_17(path: Path, logs: list[dict[str, Any]]) -> None:
    """Names in snake_case, bytes as such and maps, as pkg/logger/marshaller/parquet.go writes them."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = [
        {
            "url": "s3://logs",
            "bytes": base64.b64decode(log["Bytes"]),
            "req_type": log["ReqType"],
            "id": log["Id"],
            "source_uri": None,
            "inference_service": "churn",
            "namespace": "crm",
            "component": "predictor",
            "metadata": [("X-Tenant", ["b 7"])],
        }
        for log in logs
    ]
    types = {"bytes": pa.binary(), "metadata": pa.map_(pa.string(), pa.list_(pa.string()))}
    schema = pa.schema([pa.field(name, types.get(name, pa.string())) for name in rows[0]])
    parquet.write_table(pa.Table.from_pylist(rows, schema), path.with_suffix(".parquet"))


def _without_a_name(path: Path, logs: list[dict[str, Any]]) -> None:
    _as_csv(path, logs)
    path.with_suffix(".csv").rename(path.with_name("object"))


@pytest.mark.parametrize(
    "write",
    [_as_array, _as_indented_objects, _as_csv, _as_parquet, _as_parquet_of_0_17, _without_a_name],
)
def test_every_marshaller_of_kserve_gives_the_same(
    tmp_path: Path, write: Callable[[Path, list[dict[str, Any]]], None]
) -> None:
    """The forms of the agent's marshallers give equal predictions, with the headers to slice by, also where a payload
    was compressed or is larger than 128 KiB."""
    long = b'{"predictions": [0.2],' + b" " * 200_000 + b'"note": ""}'
    logs = [
        _log("a", b'{"instances": [[1]]}', "request"),
        _log("a", b'{"predictions": [0.9]}'),
        _log("b", gzip.compress(b'{"predictions": [0.3]}', mtime=0)),
        _log("c", long),
    ]
    write(tmp_path / "logs", logs)
    _truths(tmp_path / "truths.jsonl", ("a", 1), ("b", 0), ("c", 1))
    expected = _pairs([("a", 0.9, 1, NOON), ("b", 0.3, 0, NOON), ("c", 0.2, 1, NOON)], **CHURN)
    with pytest.warns(UserWarning, match="^4 records state no time, and each was taken as of --time"):
        found = replay(tmp_path, time="2026-03-02T12:00:00Z", slices=["tenant=header:X-Tenant"])
    assert [reading.get("slice") for reading in found] == [None, "tenant=b 7"]
    assert gauges(found[:1]) == pytest.approx(gauges(replay(expected)), rel=1e-9)


def test_what_states_no_time_has_that_of_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A record without a time, or with Go's zero time, is as old as its file, which is said; one with a time is not."""
    made = {
        "a": _log("a", b'{"predictions": [0.9]}'),
        "b": _log("b", b'{"predictions": [0.9]}', OccurrenceTime="0001-01-01T00:00:00Z"),
        "c": _log("c", b'{"predictions": [0.9]}', OccurrenceTime="2026-03-05T00:00:00Z"),
    }
    for day, (name, log) in enumerate(made.items()):
        path = written(tmp_path / f"{name}-response.json", [log])
        os.utime(path, (NOON + day * 86_400,) * 2)
    _truths(tmp_path / "truths.jsonl", *((name, 1) for name in made))
    assert main([str(tmp_path), "--step", "1d", "--format", "json"]) == 0
    output, errors = capsys.readouterr()
    days = [point["from"] // 86_400 - NOON // 86_400 for point in json.loads(output)[0]["points"]]
    assert days == [0, 1, 3]
    assert errors == (
        "metrics-server replay: 2 records state no time, and each was taken as of the date of its file; "
        "--time sets another\n"
    )


def test_a_later_ground_truth_corrects(tmp_path: Path) -> None:
    """Of two ground truths of one id that of the later file stands, whatever their names, also where it says again what
    the first of three has said."""
    written(tmp_path / "capture.jsonl", [_captured("a", _output("0.9"))])
    for name, label, age in (("3", "1", 300), ("2", "0", 200), ("1", "1", 100)):
        os.utime(written(tmp_path / f"{name}.jsonl", [_labelled("a", label)]), (LEARNT - age,) * 2)
    with pytest.warns(UserWarning, match="3 records state no time"):
        (reading,) = replay(tmp_path)
    accuracy = {value["name"]: value["value"] for value in reading["values"]}["model_accuracy_ratio"]
    assert (reading["support"], accuracy) == (1, 1.0)


ANSWERS = {
    "lines of CSV": (_output("0.9\n0.2\n"), "1\n0", [(0.9, 1), (0.2, 0)]),
    "rows of CSV": (_output("0.1,0.9\n0.8,0.2"), "1\n0", [([0.1, 0.9], 1), ([0.8, 0.2], 0)]),
    "texts in CSV": (_output('cat\n"dog"\n'), "cat\ncat", [("cat", "cat"), ("dog", "cat")]),
    "a JSON list": (_output("[0.9, 0.2]", "JSON"), "1\n0", [(0.9, 1), (0.2, 0)]),
    "a JSON number": (_output("0.9", "JSON"), "1", [(0.9, 1)]),
    "JSON lines": (_output('{"score": 0.9}\n{"score": 0.2}\n', "JSON"), "1\n0", [(0.9, 1), (0.2, 0)]),
    "one row of two": (_output("0.1,0.9"), "1", [([0.1, 0.9], 1)]),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_of_containers_are_read(tmp_path: Path, name: str) -> None:
    """A line of CSV, an element of a JSON list and a line of JSON are each a row."""
    output, truth, pairs = ANSWERS[name]
    written(tmp_path / "a.jsonl", [_captured("a", output), _labelled("a", truth)])
    with pytest.warns(UserWarning, match="1 records state no time"):
        found = replay(tmp_path, time="2026-03-09T00:00:00Z")
    expected = _pairs([(str(number), *pair, NOON) for number, pair in enumerate(pairs)])
    assert gauges(found) == pytest.approx(gauges(replay(expected)), rel=1e-9)


def test_a_capture_of_inputs_alone_is_of_requests(tmp_path: Path) -> None:
    """A capture without an output tells of no prediction, and is no fault."""
    assert replay(written(tmp_path / "a.jsonl", [_captured("a", None)])) == []


BAD = {
    "bytes that are no base64": (_log("a", b"") | {"Bytes": "%"}, "malformed_feedback: a log of KServe: "),
    "a log without an id": (_log("", b'{"predictions": [1]}'), "malformed_event: the required attribute id"),
    "a log of an unknown kind": (_log("a", b"{}") | {"ReqType": 5}, "malformed_feedback: a log of KServe: "),
    "a payload of no protocol": (_log("a", b"{}"), "unknown_protocol: "),
    "damaged gzip": (_log("a", b"\x1f\x8b\x08"), "malformed_gzip: "),
    "a time that is none": (_log("a", b'{"predictions": [1]}', OccurrenceTime="noon"), "bad_time: "),
    "a capture without metadata": (_captured("a", _output("1")) | {"eventMetadata": 5}, "malformed_feedback: a data"),
    "a capture without an id": (_captured("", _output("1")), "malformed_event: the required attribute id"),
    "CSV that is none": (_captured("a", _output('"1"2')), "malformed_feedback: data are not the CSV"),
    "JSON that is none": (_captured("a", _output("{", "JSON")), "malformed_feedback: data are not the JSON"),
    "base64 that is none": (_captured("a", _output("%", "BASE64")), "malformed_feedback: data in BASE64: "),
    "an unknown body": (_captured("a", _output("AAA=", "BASE64", "image/png")), "malformed_json: "),
    "a truth of nothing": (_labelled("a", ""), "malformed_feedback: groundTruthData: "),
    "a truth without an id": (_labelled("", "1"), "malformed_feedback: request_id: "),
    "a label beyond all numbers": (_labelled("a", "9" * 40), "out_of_range: "),
    "an answer beyond all numbers": (
        _captured("a", _output("[" + "9" * 40 + "]", "JSON")),
        "out_of_range: ",
    ),
    "a name that is too long": (_log("a", b'{"predictions": [1]}', Component="x" * 300), "label_too_long: "),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_costs_itself_alone(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a platform cannot have written is refused with its file, its number and a reason; the rest counts."""
    bad, reason = BAD[name]
    good = _captured("g", _output("0.9"))
    path = written(tmp_path / "a.jsonl", [good, bad, {"request_id": "g", "truth": 1}])
    assert main([str(path), "--format", "json", "--time", "2026-03-02T12:00:00Z"]) == 1
    output, errors = capsys.readouterr()
    assert json.loads(output)[0]["support"] == 1
    assert errors.startswith(f"{path}:2: {reason}")


def test_bad_cells_cost_themselves_alone(tmp_path: Path) -> None:
    """A line of a CSV blob log with too few cells, or with bytes that are no text, is refused alone."""
    _as_csv(tmp_path / "a", [_log(name, b'{"predictions": [0.9]}') for name in "abc"])
    path = tmp_path / "a.csv"
    path.write_bytes(path.read_bytes().replace(b"response,a,", b"response,\xff,").replace(b",b,http", b",b\n,http"))
    with pytest.warns(UserWarning) as warned:
        replay(path)
    said = str(warned[0].message)
    assert "3 of 4 records were refused: 2 malformed_feedback, 1 invalid_utf8" in said
    assert re.findall(r"^(\d+): (\w+)", said, re.MULTILINE) == [
        ("2", "invalid_utf8"),
        ("3", "malformed_feedback"),
        ("4", "malformed_feedback"),
    ]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(
    record=st.sampled_from([_log("a", b'{"predictions": [1]}'), _captured("a", _output("0.9")), _labelled("a", "1")]),
    data=st.data(),
)
@settings(deadline=None)
def test_no_record_stops_a_run(tmp_path_factory: pytest.TempPathFactory, record: dict[str, Any], data) -> None:
    """Whatever stands in a member of a platform's record, the records beside it count."""
    changed = json.loads(json.dumps(record))
    where = changed
    while isinstance(inner := where[name := data.draw(st.sampled_from(sorted(where)))], dict) and data.draw(
        st.booleans()
    ):
        if not inner:
            break
        where = inner
    where[name] = data.draw(ANY)
    pair = {"truth": 1, "prediction": 0.9, "deployment": "beside"}
    found = replay(written(tmp_path_factory.mktemp("fuzz") / "a.jsonl", [pair, changed, pair]))
    assert [reading["support"] for reading in found if reading["deployment"] == "beside"] == [2]
