"""`python -m benchmarks`: measures, prints, and fails when a server counted wrong.

A missed target is shown, but is not a failure.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import browser, families, peers, report, state, wrk
from benchmarks.contest import BATCHED, CONTESTANTS, compete
from benchmarks.decoding import decodings
from benchmarks.errors import BenchmarkError
from benchmarks.replay import replays
from benchmarks.report import Measured

# The contestants that each --only needs for its ratio.
PARTS: dict[str, tuple[str, ...]] = {
    "tornado": ("tornado",),
    "sqlite": ("tornado", "sqlite"),
    "memory": ("tornado", "memory"),
    "drop-in": ("tornado", "drop-in"),
    "series": ("sqlite", "series-1000"),
    "classes": ("classes-3", "classes-1000"),
    "batch": ("sqlite", "batch", "tornado-batch"),
    "late": ("at-once", "late", "at-once-batch", "late-batch"),
    "postgres": (
        "sqlite",
        "postgres",
        "batch",
        "postgres-batch",
        "workers-batch",
        "sqlite-late-batch",
        "workers-late-batch",
        "slow-flush",
        "workers-slow-flush",
    ),
    "start": (),
    "families": (),
    "scrape": (),
    "ingest": (),
    "page": (),
    "replay": (),
    "peers": (),
}
ASKED_ALONE = "peers"  # its packages are more than a gigabyte
DISK = "/var/tmp"


def main() -> int:
    """Runs the chosen parts and returns the exit status."""
    options = _options()
    parts = options.only or [part for part in PARTS if part != ASKED_ALONE]
    started = time.monotonic()
    try:
        wrk.check_installed()
        with tempfile.TemporaryDirectory(
            prefix="metrics-server-bench-", dir=os.environ.get("TMPDIR", DISK)
        ) as directory:
            measured = _measure(parts, options.rounds, options.seconds, Path(directory))
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores"
    print(f"{machine}; medians of {options.rounds} rounds of {options.seconds} s")
    _print(measured, is_complete=not options.only)
    print(
        f"\n{time.monotonic() - started:.0f} s in all.",
        "Ratios hold within one run: compare them, not the rates of two.",
    )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--rounds",
        type=_positive,
        default=3,
        metavar="N",
        help="rounds, in each of which everything is measured (default: 3)",
    )
    parser.add_argument(
        "--seconds", type=_positive, default=4, metavar="N", help="length of one measurement (default: 4)"
    )
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="NAME", help=f"a part, may be repeated: {', '.join(PARTS)}"
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text}: want a positive number")
    return number


def _measure(parts: list[str], rounds: int, seconds: int, directory: Path) -> Measured:
    needed = {name for part in parts for name in PARTS[part]}
    measured = Measured(compete([name for name in CONTESTANTS if name in needed], rounds, seconds, directory))
    if "batch" in parts:
        measured.decoded = decodings(BATCHED, rounds, directory)
    if "start" in parts:
        measured.starts = state.starts(rounds, directory)
    if "families" in parts:
        measured.costs = families.costs()
    if "scrape" in parts:
        measured.renderings = [state.renderings(rounds, shape) for shape in (state.SCRAPE_SHAPE, state.FLEET_SHAPE)]
    if "ingest" in parts:
        measured.disturbed = state.disturbed(rounds, directory)
    if "page" in parts:
        measured.visits = browser.visits(rounds, directory)
    if "replay" in parts:
        measured.replays = replays(rounds, directory)
    if "peers" in parts:
        measured.standings = peers.standings(rounds, seconds, directory)
    return measured


def _print(measured: Measured, *, is_complete: bool) -> None:
    if measured.results.runs:
        print(*report.table(measured.results), sep="\n")
    if measured.costs:
        print("", *report.costs_table(measured.costs), sep="\n")
    if measured.standings:
        print("", *report.peers_table(measured.standings), sep="\n")
    print()
    print(*report.lines_of(list(report.targets(measured))), *(report.left_out() if is_complete else ()), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
