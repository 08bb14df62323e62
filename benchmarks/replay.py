"""`metrics-server replay` of files: rows a second by one process and by as many as there are processors.

Both print the same, or nothing is measured. The rows are pairs with ids and times; those of `late` are predictions, and
further below their truths.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.progress import progress

ROWS = 200_000
MIDNIGHT = 1_772_409_600


@dataclass
class Replayed:
    """The rows a second of one file, once a round.

    Attributes:
        alone: by one process.
        together: by one for each processor.
    """

    name: str
    alone: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Tells how many times as fast several are, by the median of the rounds."""
        return median(b / a for a, b in zip(self.alone, self.together, strict=True))


def replays(rounds: int, directory: Path) -> list[Replayed]:
    """Measures files of each form."""
    found = {path: Replayed(path.name) for path in files(directory)}
    for turn in range(rounds):
        for path, replayed in found.items():
            progress(f"round {turn + 1} of {rounds}: replay of {path.name}")
            rate, shown = _rate(path, 1)
            replayed.alone.append(rate)
            rate, also_shown = _rate(path, len(os.sched_getaffinity(0)))
            replayed.together.append(rate)
            if shown != also_shown:
                raise BenchmarkError(f"replay: {path.name}: several processes show other values than one")
    return list(found.values())


def _rate(path: Path, processes: int) -> tuple[float, bytes]:
    command = [sys.executable, "-m", "metrics_server", "replay", str(path), f"--processes={processes}"]
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise BenchmarkError(f"replay: {path.name}: status {done.returncode}")
    return ROWS / seconds, done.stdout


def files(directory: Path) -> Iterator[Path]:
    """Writes a file of each form."""
    rows = list(_pairs())
    yield _jsonl(directory / "pairs.jsonl", rows)
    yield _jsonl(directory / "without-ids.jsonl", ({**row, "request_id": None} for row in rows))
    half = rows[: ROWS // 2]
    predictions = [{**row, "truth": None, "labelled_at": None} for row in half]
    truths = [{**row, "prediction": None, "predicted_at": None} for row in half]
    yield _jsonl(directory / "late.jsonl", [*predictions, *truths])
    yield _csv(directory / "pairs.csv", rows)
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return
    parquet.write_table(pa.Table.from_pylist(rows), directory / "pairs.parquet")
    yield directory / "pairs.parquet"


def _pairs() -> Iterator[dict[str, Any]]:
    random = Random(0)
    for number in range(ROWS):
        truth = int(random.random() < 0.4)
        score = round(min(1.0, max(0.0, random.gauss(0.3 + 0.4 * truth, 0.2))), 3)
        at = MIDNIGHT + 2.0 * number
        times = {"predicted_at": at, "labelled_at": at + 60}
        yield {"request_id": f"5d7c2f9a-{number:012}", "truth": truth, "prediction": score, **times}


def _jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    with path.open("w") as file:
        for row in rows:
            stated = {name: value for name, value in row.items() if value is not None}
            file.write(f"{json.dumps(stated)}\n")
    return path


def _csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
