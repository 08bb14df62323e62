"""A change as the arguments of `commit_batch`, and what others have committed as changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from metrics_server.metrics.window import Bucket
from metrics_server.store.interface import Change, Register, StoredSeries
from metrics_server.store.postgres.components import decoded, encoded

Columns = list[list[Any]]


def _columns(rows: Sequence[Sequence[Any]], width: int) -> Columns:
    """Turns rows into columns; there are as many if there is no row."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


class CommitArguments(NamedTuple):
    """The arguments of `commit_batch` after the first four, in their order: of each kind of row its columns."""

    new_series: Columns
    claims: Columns
    new_records: Columns
    old_records: Columns
    deletes: Columns
    sums: Columns
    registers: Columns
    used_series: Columns

    @property
    def has_claims(self) -> bool:
        """Tells whether it is one that moves the epoch of the catalog."""
        return any((*self.new_series, *self.claims))


def arguments_of(change: Change, known_series: Collection[int], components: Mapping[str, int]) -> CommitArguments:
    """Returns the arguments that commit a change.

    Keys go in order, so that writers that want the same ones wait for each other in one order.
    """
    new_series = [row for row in change.series.values() if row.id not in known_series]
    used_series = [row for row in change.series.values() if row.id in known_series]
    records = sorted(change.records.items())
    new = [(key, one.expiry_queue, one.expires_at, one.value) for key, one in records if not one.version]
    old = [(key, one.version, one.expires_at, one.value) for key, one in records if one.version]
    claims = [(key, encoded(name), encoded(value)) for (key, name), value in sorted(change.claims.items())]
    return CommitArguments(
        new_series=_columns([(row.id, row.identity, *_times(row)) for row in new_series], 6),
        claims=_columns(claims, 3),
        new_records=_columns(new, 4),
        old_records=_columns(old, 4),
        deletes=_columns(sorted(change.deletes.items()), 2),
        sums=_sum_columns(change, components),
        registers=_columns(_register_rows(change), 4),
        used_series=_columns([(row.id, *_times(row)[1:]) for row in used_series], 4),
    )


def _register_rows(change: Change) -> list[tuple[int, bytes, float, float]]:
    return [(series_id, encoded(name), *register) for (series_id, name), register in change.registers.items()]


def _times(row: StoredSeries) -> tuple[float, float, float, float]:
    return row.created_at, row.seen_at, row.predicted_at, row.labelled_at


def _sum_columns(change: Change, components: Mapping[str, int]) -> Columns:
    series: list[int] = []
    widths: list[int] = []
    starts: list[int] = []
    numbers: list[int] = []
    values: list[float] = []
    for (series_id, bucket), sums in change.sums.items():
        count = len(sums)
        series += [series_id] * count
        widths += [bucket.width] * count
        starts += [bucket.start] * count
        numbers += [components[name] for name in sums]
        values += sums.values()
    return [series, widths, starts, numbers, values]


class Delta(NamedTuple):
    """A row of the query NEWS: how far a writer is, and one of its commits; `seq` is None for none.

    The columns from `series` on are lists.
    """

    epoch: int
    deletions: int
    writer: int
    head: int
    seq: int | None
    series: list[int]
    width: list[int]
    start: list[int]
    component: list[int]
    value: list[float]
    register_series: list[int]
    register_name: list[bytes]
    register_at: list[float]
    register_value: list[float]
    used_series: list[int]
    seen_at: list[float]
    predicted_at: list[float]
    labelled_at: list[float]

    def change(self, names: Mapping[int, str]) -> Change:
        """Returns the sums and registers of the commit, and the times at which its series were used."""
        sums: dict[tuple[int, Bucket], dict[str, float]] = {}
        for series, width, start, number, value in zip(
            self.series, self.width, self.start, self.component, self.value, strict=True
        ):
            sums.setdefault((series, Bucket(width, start)), {})[names[number]] = value
        registers = {
            (series, decoded(name)): Register(at, value)
            for series, name, at, value in zip(
                self.register_series, self.register_name, self.register_at, self.register_value, strict=True
            )
        }
        used = {
            series: StoredSeries(series, b"", 0.0, seen_at, {}, predicted_at, labelled_at)
            for series, seen_at, predicted_at, labelled_at in zip(
                self.used_series, self.seen_at, self.predicted_at, self.labelled_at, strict=True
            )
        }
        return Change(sums=dict(sums), registers=registers, series=used)
