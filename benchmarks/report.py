"""The output: a table of the contestants, and a line for each target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.browser import Visits
from benchmarks.contest import CONTESTANTS, Results
from benchmarks.families import Cost
from benchmarks.peers import Standing
from benchmarks.replay import Replayed
from benchmarks.state import WATCHERS, Disturbed, Renderings, Starts


@dataclass
class Measured:
    """All measurements of a run; None for those that were left out."""

    results: Results
    starts: Starts | None = None
    costs: list[Cost] | None = None
    renderings: list[Renderings] | None = None
    disturbed: Disturbed | None = None
    visits: Visits | None = None
    decoded: list[float] | None = None  # events a second
    replays: list[Replayed] | None = None
    standings: list[Standing] | None = None


@dataclass(frozen=True)
class Target:
    """A target, the measured value, and whether that is enough. Without an aim it is information only."""

    what: str
    aim: str
    seen: str
    met: bool = True


MAX_START_SECONDS = 1.5
MIN_REPLAYED = 150_000  # rows a second, on two cores
MAX_LOAD_SECONDS = 1.0
MAX_DISTURBED_P99 = 2.0  # times the p99 of ingest by itself
MIN_BATCHED_RATE = 50_000  # events a second
MIN_LATE = 0.6  # times the pairs/s at once
MAX_RESIDENT_MB = 120
MAX_GROWTH_MIB = 16
NOT_MEASURED = ("peers (--only peers)", "single events: >= 8 x Seldon's MetricsServer")

HEAD = ("", "events/s", "p50 ms", "p99 ms", "/ tornado", "by round", "MiB before", "after", "")


def table(results: Results) -> Iterator[str]:
    """Writes the table of the contestants: medians over the rounds."""
    yield from _aligned([HEAD, *(_row(results, name) for name in CONTESTANTS if name in results)])


COSTS_HEAD = ("family", "us a pair alone", "of 1,000", "us a window", "sums", "values", "")


def costs_table(costs: Sequence[Cost]) -> Iterator[str]:
    """Writes the table of the costs of metric families."""
    yield from _aligned([COSTS_HEAD, *(_cost_row(cost) for cost in costs)])


def _cost_row(cost: Cost) -> Sequence[str]:
    numbers = (
        f"{cost.alone:.0f}",
        f"{cost.together:.1f}",
        f"{cost.values:.0f}",
        f"{cost.components:,}",
        str(cost.samples),
    )
    return cost.family, *numbers, ""


PEERS_HEAD = ("", "feedback/s", "p99 ms", "of ours", "kept after SIGKILL", "sent twice", "")


def peers_table(standings: Sequence[Standing]) -> Iterator[str]:
    """Writes the table of the peers, with what each promises."""
    measured = [standing for standing in standings if standing.rates]
    ours = measured[0].rate if measured else 1.0
    yield from _aligned([PEERS_HEAD, *(_peer_row(standing, ours) for standing in measured)])
    yield from (f"not measured: {standing.missing}" for standing in standings if standing.missing)


def _peer_row(standing: Standing, ours: float) -> Sequence[str]:
    kept = "{:,} of {:,}".format(*standing.kept) if standing.kept else "nothing to keep"
    counts = {1: "counts once", 2: "counts twice", None: ""}[standing.twice]
    rates = (f"{standing.rate:,.0f}", f"{median(standing.p99):.1f}", f"{standing.rate / ours:.2f}")
    return standing.peer.name, *rates, kept, counts, standing.peer.promise


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Writes rows as lines: numbers to the right, the first column and the last, which has no head, to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)),
            row[-1],
        ]
        yield "  ".join(cells).rstrip()


def _row(results: Results, name: str) -> Sequence[str]:
    of_tornado = results.ratios(name, "tornado") if "tornado" in results else []
    return (
        name,
        f"{results.median(name, 'rate'):,.0f}",
        *(f"{results.median(name, field):.1f}" for field in ("p50", "p99")),
        f"{median(of_tornado):.2f}" if of_tornado else "",
        _by_round(of_tornado),
        *(f"{results.median(name, field):.0f}" for field in ("resident_before", "resident_after")),
        CONTESTANTS[name].what,
    )


def _by_round(ratios: Sequence[float]) -> str:
    return " ".join(f"{ratio:.2f}" for ratio in ratios)


def lines_of(targets: Sequence[Target]) -> Iterator[str]:
    """Writes a line for each target: aim / seen."""
    width = max((len(target.what) for target in targets), default=0)
    for target in targets:
        aim = f"aim {target.aim} / " if target.aim else ""
        yield f"{target.what.ljust(width)}  {aim}seen {target.seen}{'' if target.met else '  MISSED'}"


def left_out() -> Iterator[str]:
    """Writes a line for each target that no run of this benchmark can judge."""
    yield from (f"not measured here: {what}" for what in NOT_MEASURED)


def targets(measured: Measured) -> Iterator[Target]:
    """Yields the targets that this run can judge."""
    yield from _rates(measured.results)
    yield from _batches(measured)
    yield from _late(measured.results)
    yield from _memory(measured)
    if found := measured.starts:
        seconds = median(found.seconds)
        yield Target(
            f"start to ready with {found.sums:,} stored sums",
            f"< {MAX_START_SECONDS:g} s",
            f"{seconds:.2f} s",
            seconds < MAX_START_SECONDS,
        )
    for rendered in measured.renderings or ():
        yield from _renderings(rendered)
    if measured.disturbed:
        yield from _disturbed(measured.disturbed)
    if seen := measured.visits:
        for page, seconds in (
            ("the list of models, first of a server", seen.overview),
            ("the page of a model", seen.model),
        ):
            yield Target(
                f"{page}: loaded",
                f"< {MAX_LOAD_SECONDS:g} s",
                f"{median(seconds):.2f} s",
                median(seconds) < MAX_LOAD_SECONDS,
            )
        yield Target("the page of a model: charts drawn", "", f"{median(seen.drawn):.2f} s")
    yield from map(_replayed, measured.replays or ())


def _replayed(file: Replayed) -> Target:
    rate = median(file.together)
    seen = f"{rate:,.0f} rows/s, {file.ratio:.2f} x one process ({median(file.alone):,.0f} rows/s)"
    return Target(f"replay of {file.name}", f">= {MIN_REPLAYED:,}/s", seen, rate >= MIN_REPLAYED)


def _disturbed(ingest: Disturbed) -> Iterator[Target]:
    beside = f"a scrape of {ingest.samples:,} samples every 5 s"
    for by, seconds in ((beside, ingest.scraped), (f"{WATCHERS} people with pages open", ingest.watched)):
        ratio = ingest.ratio(seconds)
        seen = f"{ratio:.2f} x ({median(ingest.alone):.1f} ms alone, {median(seconds):.1f} ms with)"
        yield Target(f"ingest p99 with {by}", f"< {MAX_DISTURBED_P99:g} x without", seen, ratio < MAX_DISTURBED_P99)


def _renderings(rendered: Renderings) -> Iterator[Target]:
    theirs = median(rendered.prometheus_client) * 1000
    what = f"rendering {rendered.samples:,} samples of {rendered.series:,} series"
    for state, ratio, seconds in (
        ("all quiet", rendered.quiet_ratio, rendered.quiet),
        ("all changed", rendered.ratio, rendered.ours),
    ):
        seen = f"{ratio:.2f} x ({median(seconds) * 1000:.0f} ms, prometheus_client {theirs:.0f} ms)"
        yield Target(f"{what}, {state}, speed", ">= 1 x prometheus_client", seen, ratio >= 1)


_RATIOS = (
    ("durable single events", "sqlite", "tornado", 1.2),
    ("batched events, over single ones", "batch", "sqlite", 8.0),
    ("1 -> 1,000 series", "series-1000", "sqlite", 0.7),
    ("3 -> 1,000 classes", "classes-1000", "classes-3", 0.5),
    ("single events in PostgreSQL", "postgres", "sqlite", 1.0),
    ("batched events, two workers on PostgreSQL", "workers-batch", "postgres-batch", 1.4),
    ("prediction and later truth, two workers", "workers-late-batch", "sqlite-late-batch", 1.8),
    ("four workers, a flush takes 3 ms", "workers-slow-flush", "slow-flush", 3.0),
)


def _rates(results: Results) -> Iterator[Target]:
    for what, name, other, least in _RATIOS:
        if name in results and other in results:
            ratios = results.ratios(name, other)
            seen = f"{median(ratios):.2f} x ({_by_round(ratios)})"
            yield Target(what, f">= {least:g} x {other}", seen, median(ratios) >= least)


def _batches(measured: Measured) -> Iterator[Target]:
    results = measured.results
    if "batch" not in results:
        return
    rate = results.median("batch", "rate")
    yield Target("durable batched events", f">= {MIN_BATCHED_RATE:,}/s", f"{rate:,.0f}/s", rate >= MIN_BATCHED_RATE)
    if measured.decoded:
        bare = median(measured.decoded)
        yield Target(
            "batched events, of bare decoding", "", f"{rate / bare:.0%} of {bare:,.0f} events/s by msgspec.json.decode"
        )
    if "tornado-batch" in results:
        most = results.median("tornado-batch", "rate")
        yield Target("what wrk can send in batches", "", f"{most:,.0f} events/s, {most / rate:.0f} x what was taken")


def _late(results: Results) -> Iterator[Target]:
    for name, other in (("late", "at-once"), ("late-batch", "at-once-batch")):
        if name in results and other in results:
            ratios = results.ratios(name, other, "pairs")
            rates = [results.median(each, "pairs") for each in (name, other)]
            seen = f"{median(ratios):.2f} x ({_by_round(ratios)}; {rates[0]:,.0f} of {rates[1]:,.0f} pairs/s)"
            aim = f">= {MIN_LATE:g} x {other}" if name == "late" else ""
            yield Target(f"pairs of a later truth, {name}", aim, seen, not aim or median(ratios) >= MIN_LATE)
    if "late" in results:
        run = max(results.runs["late"], key=lambda run: run.resident_after - run.resident_warm)
        growth = run.resident_after - run.resident_warm
        stages = f"{run.resident_before:.0f} before, {run.resident_warm:.0f} warm, {run.resident_after:.0f} after"
        seen = f"{growth:.1f} MiB ({stages})"
        yield Target("growth of resident memory, late", f"< {MAX_GROWTH_MIB} MiB", seen, growth < MAX_GROWTH_MIB)


def _memory(measured: Measured) -> Iterator[Target]:
    seen = {"after its start": [run.resident_before for run in measured.results.runs.get("sqlite", [])]}
    seen["after single events"] = [run.resident_after for run in measured.results.runs.get("sqlite", [])]
    seen["with 100,000 sums"] = measured.starts.resident if measured.starts else []
    for when, values in seen.items():
        if values:
            megabytes = max(values) * 2**20 / 1e6
            yield Target(
                f"resident memory {when}", f"< {MAX_RESIDENT_MB} MB", f"{megabytes:.0f} MB", megabytes < MAX_RESIDENT_MB
            )
