"""`python -m benchmarks.replay_budget`: CPU time of a row of a replay, step by step, for docs/performance.md."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from benchmarks.replay import ROWS, files
from metrics_server.commands.replay.engine import Replay
from metrics_server.commands.replay.pairs import PairReader, Piece
from metrics_server.commands.replay.source import Source
from metrics_server.ingest.pod import default_labels
from metrics_server.settings import load

ROUNDS = 3


def main() -> None:
    """Prints the budget of each form of a file, the best of some rounds."""
    with tempfile.TemporaryDirectory(prefix="metrics-server-bench-") as directory:
        for path in files(Path(directory)):
            rounds = [dict(_steps(path)) for _ in range(ROUNDS)]
            print(path.name)
            for step in rounds[0]:
                print(f"  {step:34} {min(found[step] for found in rounds):6.2f} µs")


def _steps(path: Path) -> Iterator[tuple[str, float]]:
    at = time.process_time()
    blocks = list(Source(path).blocks())
    at = yield from _since(at, "main: take the file to pieces")
    lines = [block.lines() for block in blocks]
    at = yield from _since(at, "others: make lines of cells")
    reader = PairReader(default_labels({}), time.time(), frozenset())
    pieces = [list(reader.pieces(some)) for some in lines]
    at = yield from _since(at, "others: read them into columns")
    handed = [pickle.dumps(some) for some in pieces]
    at = yield from _since(at, "others: hand over")
    for some in handed:
        pickle.loads(some)
    at = yield from _since(at, "main: be handed")
    _count(pieces)
    yield from _since(at, "main: count")


def _count(pieces: list[list[Piece]]) -> None:
    replay = Replay(load([], {}), default_labels({}))
    replay.take_pieces(("", some) for some in pieces)


def _since(at: float, step: str) -> Generator[tuple[str, float], None, float]:
    now = time.process_time()
    yield step, (now - at) / ROWS * 1e6
    return time.process_time()


if __name__ == "__main__":
    main()
