"""Laws of a replay: however its lines are split over blocks, batches and processes, and whether a row is counted in a
column or through a record, the outcome is the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_server.commands.replay.engine import Place, Replay
from metrics_server.commands.replay.source import Block, Line, Source, of_dicts
from metrics_server.errors import Rejected
from metrics_server.series.series import Labels
from metrics_server.settings import Settings, load
from tests.support.replay_files import MIDNIGHT, everything, mixed_events, pair_lines, written
from tests.support.strategies import fuzzed

NOBODY = Labels("", "", "", "")
USUAL, LIMITED = load([], {}), load(["--max_series", "2", "--max_classes", "3"], {})


class _Told:
    """A replay, and all that it has told of refused lines."""

    def __init__(self, settings: Settings = LIMITED) -> None:
        self.refusals: list[tuple[str, int, str, str]] = []
        self.replay = Replay(settings, NOBODY, step=3600, now=MIDNIGHT + 86_400.0, on_refused=self._refused)

    def _refused(self, place: Place, error: Rejected) -> None:
        self.refusals.append((*place, error.reason.label, error.detail))

    def exactly(self) -> object:
        return self.replay.results(), self.replay.remarks(), self.counts()

    def counts(self) -> object:
        return self.replay.total, self.replay.counts, self.replay.refused, sorted(self.refusals)


_VALUES = st.sampled_from([0, 1, 2, 0.25, 0.75, 1.0, True, "cat", "dog", "bird", "7", [0.2, 0.8], 5.5, {"no": "row"}])
_RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "truth": st.one_of(_VALUES, st.none()),
        "prediction": _VALUES,
        "request_id": st.sampled_from(["a", "b", "c", "a-item-0", "", 7]),
        "deployment": st.sampled_from(["x", "y", "z"]),
        "row": st.sampled_from([0, 1]),
        "weight": st.sampled_from([1, 2, 0.5, 0]),
        "predicted_at": st.sampled_from([MIDNIGHT, MIDNIGHT + 7200.0, "2026-03-01", "soon", MIDNIGHT + 9e6]),
        "labelled_at": st.sampled_from([MIDNIGHT + 10, MIDNIGHT + 20, "2026-03-02"]),
    },
)


@fuzzed
@given(st.lists(_RECORDS, max_size=14), st.data())
def test_any_split_gives_the_same(records: Sequence[dict[str, Any]], data: st.DataObject) -> None:
    """Blocks and batches may end anywhere: values, counts, and refusals with the numbers of their lines stay."""
    lines = [Line(number, json.dumps(record).encode()) for number, record in enumerate(records, 1)]
    whole, split = _Told(), _Told()
    whole.replay.take([Block("f", partial(list, lines))])
    while lines:
        batch = lines[: data.draw(st.integers(1, len(lines)), label="lines of a batch")]
        lines = lines[len(batch) :]
        cut = data.draw(st.integers(0, len(batch)), label="where a block ends")
        split.replay.take(Block("f", partial(list, part)) for part in (batch[:cut], batch[cut:]))
    assert split.counts() == whole.counts()
    assert _numbers(split) == pytest.approx(_numbers(whole), rel=1e-9)


@fuzzed
@given(st.lists(_RECORDS, max_size=14))
def test_columns_count_as_records_do(records: Sequence[dict[str, Any]]) -> None:
    """A row that is counted in a column gives what it gives as one of several rows, which are never read into one."""
    found, expected = _Told(), _Told()
    found.replay.take(of_dicts(records))
    expected.replay.take(of_dicts(map(_as_list, records)))
    assert found.replay.counts == expected.replay.counts
    assert found.replay.refused.total() == expected.replay.refused.total()
    assert _numbers(found) == pytest.approx(_numbers(expected), rel=1e-9)


def _as_list(record: dict[str, Any]) -> dict[str, Any]:
    """Says the same of all rows of a request, where it has one and its first row is meant."""
    if record.get("truth") is None or record.get("prediction") is None or record.get("row"):
        return record
    rest = {name: value for name, value in record.items() if name not in ("truth", "prediction", "row")}
    return {**rest, "truths": [record["truth"]], "predictions": [record["prediction"]]}


def _numbers(told: _Told) -> dict[object, float]:
    """Lists all values, by series, step, name and labels."""
    found: dict[object, float] = {}
    for result in told.replay.results():
        series = result["deployment"], result["model"], result["task"], result["metric_model"]
        for at, values in [(0, result["values"]), *((point["from"], point["values"]) for point in result["points"])]:
            for value in values:
                key = series, at, value["name"], *sorted(value["labels"].items())
                found[key] = value["value"]
                found[key, "support"] = value["support"]
    return found


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_processes_are_of_no_consequence(tmp_path, name: str) -> None:
    """Pairs, corrections, repeats, events and bad lines, in order, read by two processes: all is as of one."""
    path = tmp_path / name
    if name == "a.jsonl":
        pairs = pair_lines(9_000, deployment="many")
        records = [*everything(MIDNIGHT), *pairs, "no record", *mixed_events("2026-03-02T05:00:00Z"), *pairs[::50]]
        written(path, [*records, *({**pair, "labelled_at": MIDNIGHT + 1e7, "truth": 1} for pair in pairs[::70])])
    else:
        _table(path)
    alone, together = _Told(USUAL), _Told(USUAL)
    alone.replay.take(Source(path).blocks())
    together.replay.take(Source(path).blocks(), processes=2)
    assert alone.replay.total > 9_000
    assert alone.replay.refused
    assert together.exactly() == alone.exactly()
    assert together.refusals == alone.refusals


def _table(path) -> None:
    """Writes pairs, some of them twice, and one with a value that is refused, as a table."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    pairs = pair_lines(9_000, deployment="many")
    table = pa.Table.from_pylist([*pairs, {**pairs[0], "truth": 10**13}, *pairs[::50]])
    write = csv.write_csv if path.suffix == ".csv" else parquet.write_table
    write(table, path)
