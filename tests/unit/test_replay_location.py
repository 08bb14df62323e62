"""Replay of many files: directories, buckets, and files among them that cannot be read."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from metrics_server.commands.replay.command import main
from metrics_server.commands.replay.engine import replay
from metrics_server.commands.replay.source import BadFile
from metrics_server.errors import BadConfiguration
from tests.support.replay_files import gauges, pair_lines, written
from tests.support.s3_store import s3_store


def _apart(count: int = 60) -> list[dict[str, Any]]:
    """Predictions, then their truths."""
    pairs = pair_lines(count, deployment="wine")
    learnt = ("truth", "labelled_at")
    predictions = [{name: value for name, value in pair.items() if name not in learnt} for pair in pairs]
    return [*predictions, *({name: pair[name] for name in ("request_id", *learnt)} for pair in pairs)]


def _spread(root: Path) -> None:
    """The same in three files, truths first."""
    records = _apart()
    for folder, part in (("a", records[50:]), ("b/c", records[:30]), (".", records[30:50])):
        (root / folder).mkdir(parents=True, exist_ok=True)
        written(root / folder / "part.jsonl", part)


def test_a_directory_gives_what_one_file_gives(tmp_path: Path) -> None:
    """All files below a directory count as if they were one, compressed or not; hidden and empty ones do not."""
    root = tmp_path / "logs"
    _spread(root)
    whole = root / "part.jsonl"
    (root / "part.log").write_bytes(gzip.compress(whole.read_bytes()))
    whole.unlink()
    (root / "_SUCCESS").touch()
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x").write_text("no record")
    (root / ".x.crc").write_text("crc")
    assert gauges(replay(root)) == pytest.approx(gauges(replay(_apart())), rel=1e-9)


def test_a_file_that_cannot_be_read_does_not_end_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Truncated and foreign files are named and counted, what stands before a cut counts, and the status is 1."""
    _spread(tmp_path)
    lines = "".join(f"{json.dumps(pair)}\n" for pair in pair_lines(5000, deployment="cut"))
    bad = {
        "a.jsonl.gz": gzip.compress(lines.encode(), mtime=0)[:-20],
        "b.json": b'[{"truth": 1, "predic',
        "c.png": b"\x89PNG\r\n\x1a\n\0",
        "d.parquet": b"PAR1 and no more",
        "e.csv": b"colour,size\nred,5\n",
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    assert main([str(tmp_path), "--format", "json"]) == 1
    output, errors = capsys.readouterr()
    support = {reading["deployment"]: reading["support"] for reading in json.loads(output)}
    assert support["wine"] == 60
    assert 1000 < support["cut"] <= 5000
    assert errors.splitlines()[0] == "metrics-server replay: 5 of 8 files could not be read to their end"
    named = re.findall(rf"^metrics-server replay: {re.escape(str(tmp_path))}/(\S+): .+$", errors, re.MULTILINE)
    assert named == list(bad)
    with pytest.warns(UserWarning, match="^5 of 8 files could not be read to their end\n"):
        replay(tmp_path)


def test_a_truncated_file_alone_gives_what_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one compressed file that is cut short the records before the cut count, and the status is 1."""
    lines = "".join(f"{json.dumps(pair)}\n" for pair in pair_lines(5000))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines.encode(), mtime=0)[:-20])
    assert main([str(path), "--format", "json"]) == 1
    output, errors = capsys.readouterr()
    assert json.loads(output)[0]["support"] > 1000
    assert f"{path}: not all of it can be decompressed" in errors


def test_nothing_readable_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no file can be read, or there is none of that name, nothing is printed but why."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"\x89PNG")
    for location, said in (
        (str(tmp_path), "a.png: want a file named .jsonl, .csv or .parquet, or one that begins as"),
        (f"file://{tmp_path}", "a.png: want a file named"),
        (f"file://{tmp_path}/none", "/none: no such file or directory"),
        (f"ftp://{tmp_path}", "want a path, or a URL with one of s3, gs, gcs, abfs, abfss, file"),
    ):
        assert main([location]) == 2
        output, errors = capsys.readouterr()
        assert output == ""
        assert said in errors
        assert len(errors.splitlines()) == 1


def test_an_empty_directory_has_no_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory without files has no records, which is said, with status 1."""
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr() == ("", "metrics-server replay: no records\n")


def test_refusals_name_their_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused record of one file among several is named with that file, also when it is refused by its batch."""
    written(tmp_path / "a.jsonl", [{"truth": 1, "prediction": 0.9, "deployment": "a"}])
    written(tmp_path / "b.jsonl", [{"truth": 1, "prediction": 0.9, "deployment": "b"}, {"truht": 1}])
    assert main([str(tmp_path), "--max_series", "1"]) == 1
    errors = capsys.readouterr().err
    assert f"{tmp_path}/b.jsonl:1: too_many_series: " in errors
    assert f"{tmp_path}/b.jsonl:2: malformed_feedback: " in errors
    with pytest.warns(UserWarning, match=re.escape(f"{tmp_path}/b.jsonl:2: malformed_feedback: ")):
        replay(tmp_path)


def test_a_url_of_files_is_a_directory(tmp_path: Path) -> None:
    """`file://` gives what the path gives, of a directory and of a file of any form."""
    import pyarrow as pa
    from pyarrow import parquet

    _spread(tmp_path)
    expected = gauges(replay(tmp_path))
    assert gauges(replay(f"file://{tmp_path}")) == expected
    parquet.write_table(pa.Table.from_pylist(pair_lines(60)), tmp_path / "whole.parquet")
    (tmp_path / "whole.gz").write_bytes(gzip.compress(written(tmp_path / "w.jsonl", pair_lines(60)).read_bytes()))
    for name in ("whole.parquet", "whole.gz"):
        assert replay(f"file://{tmp_path}/{name}") == replay(pair_lines(60))


def test_a_bucket_is_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`s3://` gives what a directory of the same files gives, with the names of the objects."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    golden = Path(__file__).parent.parent / "contract" / "golden" / "replay" / "sagemaker"
    shutil.copytree(golden, tmp_path / "bucket" / "shop")
    with s3_store(tmp_path) as options, pytest.warns(UserWarning, match="5 records state no time"):
        found = replay(f"s3://key:secret@bucket/shop{options}")
    with pytest.warns(UserWarning, match="5 records state no time"):
        assert found == replay(tmp_path / "bucket")
    assert found[0]["deployment"] == "churn-endpoint"


def test_secrets_of_a_url_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal of a bucket names it without the key, the secret and the options of its URL."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with s3_store(tmp_path) as options, pytest.raises(BadFile) as raised:
        replay(f"s3://key:secret@bucket/none{options}")
    assert str(raised.value) == "s3://bucket/none: no such file or directory"


def test_missing_pyarrow_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow a bucket is refused with the command that installs it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadFile, match=re.escape("s3:// needs the extra parquet")):
        replay("s3://logs/shop")


def test_a_directory_that_may_not_be_read_is_explained(tmp_path: Path) -> None:
    """A name that leads nowhere, below a file, is told and no traceback."""
    written(tmp_path / "a.jsonl", [])
    with pytest.raises(BadFile, match="Not a directory"):
        replay(tmp_path / "a.jsonl" / "b")


def test_a_time_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--time` takes a timestamp."""
    path = written(tmp_path / "a.jsonl", [])
    assert main([str(path), "--time", "noon"]) == 2
    assert "--time: want a timestamp such as" in capsys.readouterr().err
    with pytest.raises(BadConfiguration, match="--time"):
        replay(os.fspath(path), time="2026")
