"""`python -m benchmarks.growth [directory]`: how the cost of an event grows, as pictures for docs/performance.md.

Every point is a server's core with a SQLite file of its own (see `benchmarks.core`): the CPU time of an event from its
headers to the totals, in microseconds, in batches of 32 as single events come, and of 1,000.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmarks.core import Core, Traffic
from benchmarks.picture import picture
from benchmarks.progress import progress

DISK = "/var/tmp"
SIZES = (32, 1000)
ROUNDS = 3
MEASURED = 6_000  # events of a round
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
    """Draws all pictures, and prints what is in them."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images/growth")
    directory.mkdir(parents=True, exist_ok=True)
    for name, growth in GROWTHS.items():
        lines = {f"batches of {size}": list(_line(name, growth, size)) for size in SIZES}
        unit = "µs a row" if growth.per_row else "µs an event"
        (directory / f"{name}.svg").write_text(picture(growth.title, growth.x_name, unit, lines))
        progress("")
        for line_name, line in lines.items():
            print(f"{growth.title}, {line_name}: " + ", ".join(f"{x:,}: {y:.1f} µs" for x, y in line), flush=True)


def _line(name: str, growth: Growth, size: int) -> Iterator[tuple[int, float]]:
    for value in growth.values:
        progress(f"{growth.title}: {value:,}, batches of {size}")
        with tempfile.TemporaryDirectory(prefix="metrics-server-growth-", dir=os.environ.get("TMPDIR", DISK)) as where:
            core = Core(Path(where) / "state.db", WIDTHS[:value] if name == "windows" else ())
            try:
                yield value, _measured(core, growth, value, size)
            finally:
                core.close()


def _measured(core: Core, growth: Growth, value: int, size: int) -> float:
    """Measures the microseconds of an event, or of a row; the best of some rounds."""
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
    return min(_round(core, traffic) for _ in range(ROUNDS)) / (value if growth.per_row else 1)


def _round(core: Core, traffic: Traffic) -> float:
    core.reset()
    while core.events * traffic.rows < MEASURED:
        core.send(traffic)
    return sum(core.seconds.values()) / core.events * 1e6


if __name__ == "__main__":
    main()
