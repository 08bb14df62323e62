"""`python -m benchmarks.growth [directory [picture…]]`: how the cost of an event grows, for docs/performance.md.

Every point is a server's core with a store of its own (see `benchmarks.core`), a SQLite file: the CPU time of an event
from its headers to the totals, in microseconds, in batches of 32 as single events come, and of 1,000. On PostgreSQL it
is what the store takes: of the server's thread in commits, and of the database in all that it does for them. The
picture of replicas is of whole servers, see `benchmarks.replicas`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple, cast

from benchmarks import replicas
from benchmarks.core import COMMIT, Core, Traffic
from benchmarks.database import cpu_of, database
from benchmarks.picture import Drawing, picture
from benchmarks.progress import progress
from metrics_server.store.interface import Store
from metrics_server.store.postgres.store import PostgresStore
from metrics_server.store.sqlite.store import SqliteStore

DISK = "/var/tmp"
SIZES = (32, 1000)
ROUNDS = 3
MEASURED = 6_000  # events of a round
COMMITTED = 20_000  # the same on PostgreSQL, where less is measured of each
WIDTHS = ("1h", "1d", "7d", "30d", "6h", "15m", "2h", "12h")


class Growth(NamedTuple):
    """What grows: its name, its values, and the traffic or the state that each of them means."""

    title: str
    x_name: str
    values: tuple[int, ...]
    traffic: str = ""  # the field of Traffic
    per_row: bool = False


GROWTHS = {
    "series": Growth("Series", "series that events rotate through", (1, 10, 100, 1000, 10_000), "series"),
    "classes": Growth("Classes", "classes of integer labels", (2, 10, 100, 1000), "classes"),
    "columns": Growth("Columns", "columns of a row of scores", (2, 3, 10, 30), "columns"),
    "rows": Growth("Rows", "rows of an event", (1, 10, 100, 1000, 10_000), "rows", per_row=True),
    "waiting": Growth("Rows that wait", "predictions that wait for their truth", (1000, 10_000, 100_000, 10**6)),
    "windows": Growth("Windows", "windows", (1, 2, 4, 8)),
}


def main() -> None:
    """Draws all pictures, or those that are named, and prints what is in them."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images/growth")
    directory.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or PICTURES:
        drawn = PICTURES[name]()
        progress("")
        for line_name, line in drawn.lines.items():
            print(f"{drawn.title}, {line_name}: " + ", ".join(f"{x:,}: {y:.1f} µs" for x, y in line), flush=True)
        (directory / f"{name}.svg").write_text(picture(*drawn))


def _on_sqlite(growth: Growth) -> Drawing:
    lines = {f"batches of {size}": list(_line(growth, size)) for size in SIZES}
    return Drawing(growth.title, growth.x_name, "µs a row" if growth.per_row else "µs an event", lines)


def _line(growth: Growth, size: int) -> Iterator[tuple[int, float]]:
    for value in growth.values:
        progress(f"{growth.title}: {value:,}, batches of {size}")
        with tempfile.TemporaryDirectory(prefix="metrics-server-growth-", dir=os.environ.get("TMPDIR", DISK)) as where:
            windows = WIDTHS[:value] if growth.title == "Windows" else ()
            core = Core(SqliteStore(str(Path(where) / "state.db")), windows)
            with closing(core):
                traffic = _prepared(core, growth, value, size)
                best = min(_round(core, traffic, MEASURED) for _ in range(ROUNDS))
                yield value, best / (value if growth.per_row else 1)


def _prepared(core: Core, growth: Growth, value: int, size: int) -> Traffic:
    """Brings a core to where it is to be measured; returns with what."""
    traffic = Traffic(together=size)
    if growth.traffic:
        traffic = replace(traffic, **{growth.traffic: value})  # type: ignore[arg-type]
    if growth.per_row:  # a batch has so many rows, in fewer events
        traffic = replace(traffic, together=max(1, size // value))
    if growth.title == "Rows that wait":
        for _ in range(0, value, 1000):
            core.predict(replace(traffic, together=1000))
    if traffic.series > 1:  # all are there before it is measured
        for _ in range(0, traffic.series, 1000):
            core.send(replace(traffic, together=1000))
    return traffic


def _round(core: Core, traffic: Traffic, rows: int) -> float:
    """Measures the microseconds of an event."""
    core.reset()
    while core.events * traffic.rows < rows:
        core.send(traffic)
    return sum(core.seconds.values()) / core.events * 1e6


def _on_postgres(growth: Growth) -> Drawing:
    lines: dict[str, list[tuple[float, float]]] = {}
    for size, value in product(SIZES, growth.values):
        progress(f"{growth.title} on PostgreSQL: {value:,}, batches of {size}")
        core = Core(cast("Store", PostgresStore(database("postgres").fresh())))
        with closing(core):
            traffic = _prepared(core, growth, value, size)
            core.tidy()
            rounds = [_committed(core, traffic) for _ in range(ROUNDS)]
        for who, taken in zip(("server", "database"), map(min, zip(*rounds, strict=True)), strict=True):
            lines.setdefault(f"{who}, by {size:,}", []).append((value, taken))
    return Drawing(f"{growth.title}, on PostgreSQL", growth.x_name, "µs an event", lines)


def _committed(core: Core, traffic: Traffic) -> tuple[float, float]:
    """Measures the microseconds of an event in the server's commits, and in the database until all is added up."""
    before = cpu_of(database("postgres"))
    _round(core, traffic, COMMITTED)
    core.tidy()
    return core.seconds[COMMIT] / core.events * 1e6, (cpu_of(database("postgres")) - before) / core.events * 1e6


PICTURES: dict[str, Callable[[], Drawing]] = {
    **{name: partial(_on_sqlite, growth) for name, growth in GROWTHS.items()},
    **{f"postgres-{name}": partial(_on_postgres, GROWTHS[name]) for name in ("series", "classes", "waiting")},
    "replicas": replicas.drawing,
}


if __name__ == "__main__":
    main()
