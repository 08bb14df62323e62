"""Replay: what a file gives is what a server shows of the same events, whatever the form of the file and the order of
its lines."""

from __future__ import annotations

import csv
import gc
import gzip
import json
import math
import re
import sys
import time
import warnings
from pathlib import Path
from random import Random
from typing import Any

import pytest

from metrics_server.commands.replay.command import main
from metrics_server.commands.replay.engine import replay
from metrics_server.commands.replay.result import ReplayResult
from metrics_server.commands.replay.source import BadFile
from metrics_server.errors import BadConfiguration
from tests.support.replay_files import MIDNIGHT, _event, everything, gauges, mixed_events, pair_lines, written
from tests.support.running import FEEDBACK, RESPONSE

DAY = 86_400


def _value(readings: list[ReplayResult], name: str, **labels: str) -> float:
    (reading,) = readings
    (found,) = [value["value"] for value in reading["values"] if value["name"] == name and value["labels"] == labels]
    return found


def _accuracy(readings: list[ReplayResult]) -> tuple[float, float]:
    return _value(readings, "model_accuracy_ratio"), readings[0]["support"]


def test_a_parquet_file_whose_schema_is_not_utf_8_is_told_of(tmp_path: Path) -> None:
    """The name of a column that no program can have written on purpose is an error of the file, and no traceback."""
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "broken.parquet"
    parquet.write_table(pa.table({"truth": [1.0], "prediction": [0.5]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"prediction", b"pr\xefdiction"))
    with pytest.raises(BadFile, match="a name in its schema is not UTF-8"):
        replay(path)


def test_every_form_of_a_file_gives_the_same(tmp_path: Path) -> None:
    """JSONL, CSV, Parquet, the compressed ones and dicts with equal records give equal readings."""
    import pyarrow as pa
    from pyarrow import parquet

    records = pair_lines(60, deployment="wine", weight=2)
    for record in records:
        record["prediction"] = [round(1 - record["prediction"], 3), record["prediction"]]
    expected = replay(written(tmp_path / "a.jsonl", records))
    assert expected[0]["support"] == 60
    names = list(records[0])
    for name, spread in (("whole.csv", False), ("spread.csv", True)):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                [
                    n
                    for name in names
                    for n in (["prediction.1", "prediction.0"] if name == "prediction" and spread else [name])
                ]
            )
            for record in records:
                row = [[*reversed(record[n])] if n == "prediction" and spread else [record[n]] for n in names]
                writer.writerow([cell for cells in row for cell in cells])
        assert replay(tmp_path / name) == expected
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        assert replay(tmp_path / f"{name}.gz") == expected
    parquet.write_table(pa.Table.from_pylist(records), tmp_path / "list.parquet")
    times = pa.array([int(record["predicted_at"]) * 10**9 for record in records], pa.timestamp("ns"))
    wide = pa.Table.from_pylist(
        [{**r, "prediction.0": r["prediction"][0], "prediction.1": r["prediction"][1]} for r in records]
    )
    wide = wide.drop_columns(["prediction", "predicted_at"]).append_column("predicted_at", times)
    parquet.write_table(wide, tmp_path / "wide.parquet")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    for same in (tmp_path / "list.parquet", tmp_path / "wide.parquet", tmp_path / "a.jsonl.gz", iter(records)):
        assert replay(same) == expected


def test_cells_of_a_table_are_json_or_text(tmp_path: Path) -> None:
    """Numbers, booleans, lists and null are read as such; ids stay texts; empty cells, None and NaN state nothing."""
    rows = (
        "request_id,truth,prediction,labelled_at\n007,cat,cat,2026-03-02T00:00:00Z\n12e5,,dog,\n12e5,dog,,1772409600\n"
    )
    path = tmp_path / "t.csv"
    path.write_text(f"\ufeff{rows}9,cat,dog,5\n9,null,,6\n")
    assert _accuracy(replay(path)) == (1.0, 2)
    path.write_text("truth,prediction\nTrue,0.9\nfalse,0.2\n1,0.7\n")
    assert _accuracy(replay(path)) == (1.0, 3)
    dicts = [
        {"request_id": 1, "truth": math.nan, "prediction": "a"},
        {"request_id": 1, "truth": "a", "prediction": None},
    ]
    assert _accuracy(replay(dicts)) == (1.0, 1)


def test_numpy_values_are_taken() -> None:
    """A notebook's arrays and numbers of numpy need no conversion, and an infinity is refused."""
    import numpy as np

    rows = np.array([[0.1, 0.9], [0.8, 0.2]])
    assert _accuracy(replay({"truth": np.int64(1 - n), "prediction": rows[n]} for n in range(2))) == (1.0, 2)
    with pytest.warns(UserWarning, match="1: not_a_number: an infinity"):
        assert replay([{"truth": np.inf, "prediction": np.float32(1)}]) == []


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_lines_does_not_matter(tmp_path: Path, seed: int) -> None:
    """Predictions, truths, corrections, retractions and events give the same in any order, in steps too."""
    records: list[dict[str, Any]] = everything(MIDNIGHT)
    split = pair_lines(80, deployment="late")
    records += [{name: value for name, value in pair.items() if name not in ("truth", "labelled_at")} for pair in split]
    records += [{name: pair[name] for name in ("request_id", "truth", "labelled_at")} for pair in split[:60]]
    records += mixed_events("2026-03-02T05:00:00Z")
    expected = replay(written(tmp_path / "a.jsonl", records), step="1h")
    Random(seed).shuffle(records)
    found = replay(written(tmp_path / "b.jsonl", records), step="1h")
    assert gauges(found) == pytest.approx(gauges(expected), rel=1e-9)
    assert [[(p["from"], p["support"]) for p in r["points"]] for r in found] == [
        [(p["from"], p["support"]) for p in r["points"]] for r in expected
    ]


def test_the_latest_truth_stands() -> None:
    """A correction replaces a truth, a truth of null takes it back, by their times; a repeated line counts once."""
    pair = {"request_id": "a", "truth": 1, "prediction": 0.9, "labelled_at": 10}
    other = {"request_id": "b", "truth": 1, "prediction": 0.9, "labelled_at": 10}
    assert _accuracy(replay([pair, other, pair])) == (1.0, 2)
    assert _accuracy(replay([{"request_id": "a", "truth": 0, "labelled_at": 20}, pair, other])) == (0.5, 2)
    assert _accuracy(replay([{"request_id": "a", "truth": 0, "labelled_at": 5}, pair, other])) == (1.0, 2)


def test_a_truth_can_be_taken_back(tmp_path: Path) -> None:
    """A later null in JSON leaves the pair out."""
    pair = {"request_id": "a", "truth": 1, "prediction": 0.9, "labelled_at": 10}
    records = [pair, {"request_id": "a", "truth": None, "labelled_at": 20}, {**pair, "request_id": "b", "truth": 0}]
    assert _accuracy(replay(written(tmp_path / "a.jsonl", records))) == (0.0, 1)


@pytest.mark.parametrize("row", [None, 2])
def test_predictions_and_truths_meet_across_lines_and_kinds(tmp_path: Path, row: int | None) -> None:
    """A prediction in a line of its own, or in an event, meets a truth in a statement or an event, and its labels and
    time count."""
    at, place = "2026-03-02T09:00:00Z", {} if row is None else {"row": row}
    data = {"data": {"ndarray": [0.9] if row is None else [0.1, 0.1, 0.9]}}
    truths = {"truth": {"data": {"ndarray": [1] if row is None else [0, 0, 1]}}}
    records = [
        {"request_id": "a", "truth": 1, "labelled_at": 1e9, **place},
        {
            "request_id": "a",
            "prediction": 0.9,
            "predicted_at": at,
            "deployment": "wine",
            "namespace": "shop",
            "predictor": "main",
            **place,
        },
        _event(RESPONSE, "1", "b", data, at, modelid=""),
        {"request_id": "b", "truth": 1, **place},
        {
            "request_id": "c",
            "prediction": 0.9,
            "predicted_at": at,
            "deployment": "wine",
            "namespace": "shop",
            "predictor": "main",
            **place,
        },
        _event(FEEDBACK, "2", "c", truths, at, modelid=""),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # further rows of an event whose other half is a line of one row
        (reading,) = replay(written(tmp_path / "mixed.jsonl", records), step="1d")
    assert (reading["namespace"], reading["deployment"], reading["predictor"]) == ("shop", "wine", "main")
    assert _accuracy([reading]) == (1.0, 3)
    assert _value([reading], "model_label_coverage_ratio") == pytest.approx(1.0 if row is None else 3 / 5)
    assert [(point["from"], point["support"]) for point in reading["points"]] == [(MIDNIGHT, 3)]


def test_a_notebook_stays_as_it_was() -> None:
    """The function leaves the garbage collector's settings as they were, also when it fails."""
    before, own = gc.get_threshold(), (1234, 11, 12)
    gc.set_threshold(*own)
    try:
        replay(pair_lines(3))
        assert gc.get_threshold() == own
        with pytest.raises(AttributeError):
            replay([None])  # type: ignore[list-item]
        assert gc.get_threshold() == own
    finally:
        gc.set_threshold(*before)


def test_limits_of_a_server_hold() -> None:
    """Models that are not to be scored have no reading, and what would need one series too many is refused."""
    records = [{"truth": 1, "prediction": 0.9, "model": name} for name in "abb"]
    assert [reading["model"] for reading in replay(records, score_models=["b"])] == ["b"]
    with pytest.warns(UserWarning, match="2 of 3 records were refused: 2 too_many_series\\n2: too_many_series"):
        assert [reading["model"] for reading in replay(records, max_series=1)] == ["a"]


def test_weights_count() -> None:
    """A truth of weight 3 counts as three do."""
    heavy = [{"truth": 1, "prediction": 0.9, "weight": 3}, {"truth": 1, "prediction": 0.1}]
    assert _value(replay(heavy), "model_accuracy_ratio") == 0.75


def test_slices_of_events_are_readings() -> None:
    """A slice is a reading of its own, with the name of the slice."""
    data = {"response": {"data": {"ndarray": [0.9]}}, "truth": {"data": {"ndarray": [1]}}}
    events = [
        _event(FEEDBACK, country, country, data, "2026-03-02T09:00:00Z", country=country) for country in ("nl", "be")
    ]
    found = replay(events, slices=["country=attribute:country"])
    assert [reading.get("slice") for reading in found] == [None, "country=be", "country=nl"]


def test_steps_hold_what_was_predicted_in_them() -> None:
    """Each step has the values of its predictions alone, and all of them together those of the whole."""
    records = pair_lines(400, MIDNIGHT)
    (reading,) = replay(records, step="1d")
    points = reading["points"]
    assert [point["from"] for point in points] == [MIDNIGHT + day * DAY for day in range(3)]
    assert [point["to"] - point["from"] for point in points] == [DAY] * 3
    assert [point["support"] for point in points] == [144, 144, 112]
    (first,) = replay(records[:144])
    assert points[0]["values"] == first["values"]
    fine = replay(records, step="30m")
    assert [point["support"] for point in fine[0]["points"]] == [3] * 133 + [1]
    assert gauges(fine) == pytest.approx(gauges([reading]), rel=1e-9)


def test_bad_lines_lose_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be used is shown with its line, counted by reason, and told by the status; the rest counts."""
    good = {"truth": 1, "prediction": 0.9}
    bad = [
        "{",
        "[]",
        "{}",
        '{"truht": 1}',
        '{"request_id": "a"}',
        '{"prediction": 1}',
        '{"truth": 1, "prediction": NaN}',
    ]
    bad += ['{"truth": 1, "prediction": 1, "predicted_at": "noon"}', '{"specversion": "1.0", "id": "1"}', '"\\ud800"']
    bad += [
        '{"request_id": "a", "prediction": 1, "predicted_at": 1772442904123}',
        json.dumps({**good, "namespace": "x" * 9_000_000}),
    ]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + "".join(f"{json.dumps(good)}\n{line}\n\n" for line in bad).encode() + b'{"truth": "\xff"}'
    )
    assert main([str(path), "--format", "json"]) == 1
    output, errors = capsys.readouterr()
    assert json.loads(output)[0]["support"] == len(bad)
    lines = errors.splitlines()
    assert lines[0].startswith(f"{path}:2: malformed_json: ")
    assert lines[3] == f"{path}:11: malformed_feedback: prediction: Object contains unknown field `truht`"
    assert "needs a request_id" in lines[5]
    assert len(lines) == 11, "the first ten, and how many there are"
    assert lines[-1].startswith(f"metrics-server replay: {len(bad) + 1} of {2 * len(bad) + 1} records were refused: ")
    assert "malformed_feedback" in lines[-1]


def test_bad_cells_lose_nothing_else(tmp_path: Path) -> None:
    """Lines of CSV with too few cells, wrong quotes or bytes that are no text are refused, each with its number."""
    path = tmp_path / "bad.csv"
    path.write_bytes(b'truth,prediction,model\n1,0.9,a\n1,0.9\n1,"0"9,a\n1,0.9,\xff\n1,"[0.1,\n0.9]",b\n1,0.9,a\n')
    with pytest.warns(UserWarning) as warned:
        found = replay(path)
    assert [reading["support"] for reading in found] == [2, 1]
    shown = str(warned[0].message)
    assert "3 of 6 records were refused: 2 malformed_feedback, 1 invalid_utf8" in shown
    assert [int(number) for number in re.findall(r"^(\d+):", shown, re.MULTILINE)] == [3, 4, 5]


def test_bytes_are_the_text_they_hold(tmp_path: Path) -> None:
    """Binary columns and bytes in dicts, also in lists, are read as UTF-8, and what is none is refused and counted."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    ids = pa.array([b"1", b"2", b"3"])
    for kind in (pa.binary(), pa.large_binary(), pa.binary(3), pa.dictionary(pa.int32(), pa.binary())):
        truths = pa.array([b"cat", b"dog", b"cat"], pa.binary()).cast(kind)
        parquet.write_table(
            pa.table({"request_id": ids, "truth": truths, "prediction": ["cat", "dog", "cat"]}), tmp_path / "a.parquet"
        )
        found = replay(tmp_path / "a.parquet")
        assert _accuracy(found) == (1.0, 3)
        assert _value(found, "model_recall_ratio", **{"class": "cat"}) == 1.0
    event = _event(
        FEEDBACK,
        "1",
        "e",
        {"truth": {"data": {"ndarray": [b"cat"]}}, "response": {"data": {"ndarray": ["cat"]}}},
        "2026-03-02T05:00:00Z",
    )
    assert _accuracy(replay([event])) == (1.0, 1)
    same = (
        b"caf\xc3\xa9",
        bytearray(b"caf\xc3\xa9"),
        memoryview(b"caf\xc3\xa9"),
        np.bytes_(b"caf\xc3\xa9"),
        [b"caf\xc3\xa9"],
    )
    assert _accuracy(replay({"truth": text, "prediction": "café"} for text in [*same, np.array([b"caf\xc3\xa9"])])) == (
        1.0,
        6,
    )
    broken = pa.array([b"cat", b"\xff", b"dog"])
    for column in (broken, broken.view(pa.string()), pa.array([[b"cat"], [b"\xff"], [b"dog"]])):
        parquet.write_table(pa.table({"truth": column, "prediction": ["cat", "cat", "dog"]}), tmp_path / "b.parquet")
        with pytest.warns(UserWarning, match="1 of 3 records were refused: 1 invalid_utf8\\n2: "):
            assert _accuracy(replay(tmp_path / "b.parquet")) == (1.0, 2)


def test_what_no_json_can_hold_is_refused_also_in_lists() -> None:
    """An infinity of numpy in a list, and a list that holds itself, cost their own records alone."""
    import numpy as np

    endless: list[Any] = []
    endless.append(endless)
    records = [
        {"truth": 1, "prediction": value} for value in ([0.5, np.float32("inf")], endless, [np.float64(0.25), 0.75])
    ]
    with pytest.warns(
        UserWarning, match="2 of 3 records were refused: 1 not_a_number, 1 malformed_feedback\\n1: .*\\n2: "
    ):
        assert _accuracy(replay(records)) == (1.0, 1)


def test_times_beyond_the_calendar_lose_nothing_else(tmp_path: Path) -> None:
    """A Parquet time before the year 1 or after 9999 costs its own record alone, whatever its type and zone."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = [pa.timestamp(unit, zone) for unit in ("ms", "us") for zone in (None, "UTC", "Asia/Tokyo")]
    for kind in (*kinds, pa.date32()):
        far = 2**30 if kind == pa.date32() else 2**60
        times = pa.array([1, -far, 2, far, None]).cast(pa.int32() if kind == pa.date32() else pa.int64()).view(kind)
        table = pa.table({"truth": [1] * 5, "prediction": [0.9] * 5, "predicted_at": times})
        parquet.write_table(table, tmp_path / "a.parquet")
        with pytest.warns(
            UserWarning, match="2 of 5 records were refused: 2 bad_time\\n2: bad_time: .*\\n4: bad_time: "
        ):
            assert _accuracy(replay(tmp_path / "a.parquet")) == (1.0, 3)


@pytest.mark.parametrize("zone", ["Europe/Paris", "Mars/Phobos"])
def test_zones_of_a_table_are_of_no_consequence(tmp_path: Path, zone: str) -> None:
    """A time of a Parquet file counts from 1970 in UTC, in whatever zone it is to be shown, also one that is unknown or
    of 1850."""
    import pyarrow as pa
    from pyarrow import parquet

    times = pa.array([-3_786_825_600_000_000, MIDNIGHT * 10**6], pa.timestamp("us", zone))
    parquet.write_table(
        pa.table({"truth": [1, 1], "prediction": [0.9, 0.9], "predicted_at": times}), tmp_path / "a.parquet"
    )
    (reading,) = replay(tmp_path / "a.parquet", step="1d")
    assert [point["from"] for point in reading["points"]] == [-3_786_825_600, MIDNIGHT]


def test_a_date_is_its_midnight(tmp_path: Path) -> None:
    """A date without a time is midnight UTC in every form of a file, and one that no calendar has is refused."""
    import datetime as dt

    import pyarrow as pa
    from pyarrow import parquet

    said = {"request_id": "a", "truth": 1, "prediction": 0.9, "predicted_at": "2026-03-02", "labelled_at": "2026-03-03"}
    expected = replay([{**said, "predicted_at": MIDNIGHT, "labelled_at": MIDNIGHT + DAY}], step="1d")
    assert [point["from"] for point in expected[0]["points"]] == [MIDNIGHT]
    dated = {**said, "predicted_at": dt.date(2026, 3, 2), "labelled_at": dt.date(2026, 3, 3)}
    parquet.write_table(pa.Table.from_pylist([said]), tmp_path / "text.parquet")
    parquet.write_table(pa.Table.from_pylist([dated]), tmp_path / "date.parquet")
    (tmp_path / "a.csv").write_text(f"{','.join(said)}\n{','.join(map(str, said.values()))}\n")
    alone = {name: said[name] for name in ("request_id", "prediction", "predicted_at")}
    apart = written(
        tmp_path / "b.jsonl", [alone, {name: said[name] for name in ("request_id", "truth", "labelled_at")}]
    )
    whole = written(tmp_path / "a.jsonl", [said])
    for same in (tmp_path / "text.parquet", tmp_path / "date.parquet", tmp_path / "a.csv", whole, [said], [dated]):
        assert replay(same, step="1d") == expected
    assert [point["from"] for point in replay(apart, step="1d")[0]["points"]] == [MIDNIGHT]
    for wrong in ("2026-02-30", "2026-3-2", "02/03/2026"):
        with pytest.warns(UserWarning, match="1 of 1 records were refused: 1 bad_time"):
            assert replay([{**said, "predicted_at": wrong}]) == []


@pytest.mark.parametrize(
    "name", ["a.jsonl", "blank.jsonl", "a.csv", "head.csv", "a.jsonl.gz", "a.parquet", "none.parquet"]
)
def test_a_file_without_records_is_told(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no record, that is said, nothing is printed in its place, and the status is 1."""
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(
        pa.table({"truth": pa.array([], pa.int64()), "prediction": pa.array([], pa.float64())}), tmp_path / "a.parquet"
    )
    parquet.write_table(pa.table({}), tmp_path / "none.parquet")
    content = {"blank.jsonl": b"\n \n", "head.csv": b"truth,prediction\n", "a.jsonl.gz": gzip.compress(b"")}
    if not name.endswith(".parquet"):
        (tmp_path / name).write_bytes(content.get(name, b""))
    assert main([str(tmp_path / name)]) == 1
    assert capsys.readouterr() == ("", "metrics-server replay: no records\n")
    assert main([str(tmp_path / name), "--format", "json"]) == 1
    assert capsys.readouterr() == ("[]\n", "metrics-server replay: no records\n")
    with pytest.warns(UserWarning, match="^no records$"):
        assert replay(tmp_path / name) == []


def test_what_is_odd_is_told() -> None:
    """Truths without a prediction, times in the future, other events and pairs that do not fit are mentioned."""
    records = [
        {"request_id": "a", "truth": 1},
        {"truth": 1, "prediction": 0.5, "predicted_at": time.time() + DAY},
        {"truth": "cat", "prediction": 0.5},
        {"specversion": "1.0", "id": "1", "source": "s", "type": "other"},
    ]
    with pytest.warns(UserWarning) as warned:
        replay(records)
    remarks = str(warned[0].message).splitlines()
    assert [remark.split()[:2] for remark in remarks] == [
        ["1", "events"],
        ["1", "records"],
        ["1", "truths"],
        ["1", "truths"],
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("no.jsonl", None, "No such file"),
        ("a.txt", b"", "want a file named .jsonl, .csv or .parquet"),
        ("a.parquet.gz", b"", "want a file named"),
        ("a.csv", b"request_id,truht\n1,2\n", "unknown columns 'truht'"),
        ("b.csv", b"truth,prediction,truth\n1,2,3\n", "'truth' is there twice"),
        ("c.csv", b"truth,prediction.0,prediction.2\n1,2,3\n", "prediction.0 to prediction.2: want all of them"),
        ("a.jsonl.gz", b"not gzip", "decompressed"),
        ("b.jsonl.gz", gzip.compress(b'{"truth": 1, "prediction": 1}' * 9, mtime=0)[:-9], "decompressed"),
        ("a.parquet", b"not parquet", "a.parquet: "),
    ],
)
def test_unreadable_files_are_explained(
    tmp_path: Path, name: str, content: bytes | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that cannot be read gives status 2, one line that names it and says why, and no values."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert main([str(path)]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert len(errors.splitlines()) == 1
    assert str(path) in errors
    assert said in errors


def test_missing_pyarrow_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow a Parquet file is refused with the command that installs it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(BadFile, match=re.escape("pip install 'feedback-metrics-server[parquet]'")):
        replay(tmp_path / "a.parquet")


def test_wrong_usage_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A setting or a step that cannot be used is named, with status 2."""
    path = written(tmp_path / "a.jsonl", [])
    for words, said in (
        (["--step", "90s"], "--step"),
        (["--storage_uri", "no.Such"], "--storage_uri"),
        (["--threshold", "x"], "threshold"),
        (["--threshold", "2"], "--threshold 2: want a number from 0 to 1"),
    ):
        assert main([str(path), *words]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([str(path), "--http_port", "1"])
    assert stopped.value.code == 2
    with pytest.raises(BadConfiguration, match="unrecognized"):
        replay([], treshold=0.4)


def test_settings_are_those_of_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options, environment and configuration file decide as they do for a server."""
    records = [{"truth": 1, "prediction": 0.45, "deployment": name} for name in ("low", "high")]
    path, config = written(tmp_path / "a.jsonl", records), tmp_path / "c.yaml"
    config.write_text("windows: [1h]\ndeployments: [{deployment: low, threshold: 0.4}]\n")
    by_name = {
        reading["deployment"]: _value([reading], "model_accuracy_ratio") for reading in replay(path, config=config)
    }
    assert by_name == {"low": 1.0, "high": 0.0}
    monkeypatch.setenv("METRICS_SERVER_THRESHOLD", "0.3")
    monkeypatch.setenv("SELDON_DEPLOYMENT_NAMESPACE", "here")
    assert main([str(path), "--format=json", "--config", str(config)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["namespace"], _value([one], "model_accuracy_ratio")) for one in found] == [
        ("here", 1.0),
        ("here", 1.0),
    ]


def test_the_table_says_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has a line for each value, and with steps one for each value without labels of each step."""
    path = written(tmp_path / "a.jsonl", pair_lines(400, deployment="wine"))
    assert main([str(path), "--step", "1d"]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    (reading,) = replay(path, step="1d")
    lines = output.splitlines()
    assert lines[0] == "deployment=wine  (binary, support 400)"
    assert lines[1].split() == ["name", "labels", "value", "lower", "upper", "support"]
    assert [line.split()[0] for line in lines[2 : 2 + len(reading["values"])]] == [
        value["name"] for value in reading["values"]
    ]
    accuracy = _value([reading], "model_accuracy_ratio")
    assert any(line.split()[:2] == ["model_accuracy_ratio", f"{accuracy:.6g}"] for line in lines)
    assert sum(line.startswith("2026-03-03 00:00  model_accuracy_ratio ") for line in lines) == 1


def test_values_are_those_of_scikit_learn() -> None:
    """On the iris data the replay agrees with scikit-learn."""
    from sklearn import metrics
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    x, y = load_iris(return_X_y=True)
    model = LogisticRegression(C=0.02, max_iter=1000).fit(x[::2], y[::2])
    rows, truths = model.predict_proba(x[1::2]), y[1::2]
    found = replay({"truth": truth, "prediction": row} for truth, row in zip(truths, rows, strict=True))
    guessed = rows.argmax(axis=1)
    assert _value(found, "model_accuracy_ratio") == pytest.approx(metrics.accuracy_score(truths, guessed), rel=1e-12)
    assert _value(found, "model_f1_macro_ratio") == pytest.approx(
        metrics.f1_score(truths, guessed, average="macro"), rel=1e-12
    )
    assert _value(found, "model_log_loss") == pytest.approx(metrics.log_loss(truths, rows), rel=1e-9)
    assert _value(found, "model_recall_ratio", **{"class": "1"}) == pytest.approx(
        metrics.recall_score(truths, guessed, labels=[1], average="macro"), rel=1e-12
    )
