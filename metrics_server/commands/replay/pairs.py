"""Rows that hold a prediction and its truth: most lines of most files, read into columns.

Nothing has to be joined to count such a row, so it becomes no observation and no record: its truth and its prediction
go into the columns of a run, which are given to the metric models as they are. Whatever else a line may be, or be wrong
with, is for the server's own code, which sees its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias, TypeVar

import msgspec

from metrics_server.commands.replay.source import Line
from metrics_server.errors import Rejected
from metrics_server.ingest.feedback import FeedbackItem, StatedPair, stated_pair
from metrics_server.ingest.request_id import is_item
from metrics_server.pairing.aggregator import PairColumns, Target
from metrics_server.pairing.observation import digest_of
from metrics_server.series.series import Labels

DATE = len("2026-03-02")  # characters: what is so long and no date is no timestamp with a time behind it either

T = TypeVar("T")

_decode = msgspec.json.Decoder(FeedbackItem).decode


class Run(NamedTuple):
    """Rows of pairs, one after the other, all with a request id or all without.

    Attributes:
        columns: of the pairs.
        numbers: of their lines.
        digests: of their request ids; none where they have none.
        bodies: their lines, by which a row with an id is told again when another line names that id.
    """

    columns: PairColumns
    numbers: list[int]
    digests: list[bytes]
    bodies: list[bytes]

    def part(self, start: int, end: int) -> Run:
        """Returns some of the rows."""
        return self.only(range(start, end))

    def only(self, indexes: Sequence[int]) -> Run:
        """Returns the rows with these indexes."""
        targets, truths, predictions, times = self.columns
        columns = PairColumns(
            _at(targets, indexes), _at(truths, indexes), _at(predictions, indexes), _at(times, indexes)
        )
        named = indexes if self.digests else ()
        return Run(columns, _at(self.numbers, indexes), _at(self.digests, named), _at(self.bodies, named))


Piece: TypeAlias = "Run | Line"


class PairReader:
    """Reads lines into runs of pairs, and leaves all others as they are."""

    def __init__(self, defaults: Labels, now: float, score_models: frozenset[str]) -> None:
        """`now` is the time of all that state none; of a model that is not scored nothing is a pair."""
        self._defaults = defaults
        self._now = now
        self._score_models = score_models
        self._target = lru_cache(4096)(Target)  # one object for all rows that are alike

    def pieces(self, lines: Iterable[Line]) -> Iterator[Piece]:
        """Yields runs of pairs, and the lines between them, in the order of the lines."""
        run = _empty()
        for line in lines:
            pair = self._pair(line.body)
            if pair is None or (bool(pair.request_id) != bool(run.digests) and run.numbers):
                if run.numbers:
                    yield run
                run = _empty()
            if pair is None:
                yield line
            else:
                self._append(run, line, pair)
        if run.numbers:
            yield run

    def _append(self, run: Run, line: Line, pair: StatedPair) -> None:
        run.columns.targets.append(self._target(pair.labels, pair.weight))
        run.columns.truths.append(pair.truth)
        run.columns.predictions.append(pair.prediction)
        run.columns.times.append(pair.at)
        run.numbers.append(line.number)
        if pair.request_id:
            run.digests.append(digest_of(pair.request_id))
            run.bodies.append(line.body)  # type: ignore[arg-type] # a refused line is no pair

    def _pair(self, body: bytes | Rejected) -> StatedPair | None:
        """Reads a line; None for one that is no pair, or that has to be looked at more closely."""
        if isinstance(body, Rejected):
            return None
        try:
            item = _decode(body)
            item.predicted_at, item.labelled_at = _with_time(item.predicted_at), _with_time(item.labelled_at)
            pair = stated_pair(item, self._defaults, self._now)
        except (Rejected, msgspec.DecodeError, UnicodeError, RecursionError):
            return None
        return pair if pair is not None and self._counts(pair) else None

    def _counts(self, pair: StatedPair) -> bool:
        """Tells whether a pair counts by itself: its model is scored, and its id names no row of a batch."""
        is_scored = not self._score_models or pair.labels.model in self._score_models
        return is_scored and not ("-item-" in pair.request_id and is_item(pair.request_id))


def _with_time(stated: str | float | None) -> str | float | None:
    """Makes midnight of a date."""
    return f"{stated}T00:00:00Z" if isinstance(stated, str) and len(stated) == DATE else stated


def _at(column: Sequence[T], indexes: Iterable[int]) -> list[T]:
    return [column[index] for index in indexes]


def _empty() -> Run:
    return Run(PairColumns([], [], [], []), [], [], [])
