"""Charts of the server's own health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from metrics_server.web import formatting
from metrics_server.web.chart.chart import MILLISECONDS, Chart, Columns, lone

_OUTCOMES = ("accepted", "duplicate", "erased", "ignored", "rejected", "unavailable")


class SelfSample(NamedTuple):
    """The activity of the server since the sample before.

    Attributes:
        at: Unix seconds.
        events: events per second by outcome.
        commits: per second.
        commit_seconds: the mean time of a commit; None without any.
        commit_p99: the 0.99 quantile of these times, in seconds.
        queue: events that wait now.
        pending: predictions that wait for their truth now, and truths that wait for their prediction.
    """

    at: float
    events: Mapping[str, float]
    commits: float
    commit_seconds: float | None
    commit_p99: float | None
    queue: float
    pending: float


def event_rates(samples: Sequence[SelfSample]) -> Chart | None:
    """Draws events per second by outcome: accepted ones, and all others that occur. One sample makes no line."""
    if len(samples) < 2:
        return None
    names = [name for name in _OUTCOMES if name == "accepted" or any(sample.events.get(name) for sample in samples)]
    columns: Columns = {
        "at": [sample.at * MILLISECONDS for sample in samples],
        "when": [_when(sample) for sample in samples],
    }
    for number, name in enumerate(names):
        columns[f"value_{number}"] = [sample.events.get(name, 0.0) for sample in samples]
        columns[f"tooltip_{number}"] = [f"{name}: {_rate(sample.events.get(name, 0.0))}" for sample in samples]
    headings = {"at": "time (UTC)", **{f"value_{number}": f"{name} per second" for number, name in enumerate(names)}}
    last = ", ".join(f"{name} {_rate(samples[-1].events.get(name, 0.0))}" for name in names)
    highest = max(sum(sample.events.values()) for sample in samples)
    # An outcome has its own colour and dash, whatever else there is.
    layout = {"names": names, "styles": [_OUTCOMES.index(name) for name in names]}
    return Chart(
        "event_rates", "Events by outcome", f"Now: {last}; at most {_rate(highest)} in all.", columns, headings, layout
    )


def commit_times(samples: Sequence[SelfSample]) -> Chart | None:
    """Draws how long commits take, and under it the events that wait."""
    with_commits = [sample for sample in samples if sample.commit_seconds is not None]
    if not with_commits or len(samples) < 2:
        return None
    columns: Columns = {
        "at": [sample.at * MILLISECONDS for sample in samples],
        **_times("0", [sample.commit_seconds for sample in samples]),
        **_times("1", [sample.commit_p99 for sample in samples]),
        "commits": [sample.commits for sample in samples],
        "queue": [sample.queue for sample in samples],
        "pending": [sample.pending for sample in samples],
        "when": [_when(sample) for sample in samples],
        "tooltip_0": [f"mean: {_time(sample.commit_seconds)}" for sample in samples],
        "tooltip_1": [f"99 %: {_time(sample.commit_p99)}" for sample in samples],
        "tooltip_2": [f"{_rate(sample.commits)} commits" for sample in samples],
        "tooltip_3": [f"{formatting.count(sample.queue)} in the queue" for sample in samples],
    }
    headings = {
        "at": "time (UTC)",
        "value_0": "mean (ms)",
        "value_1": "0.99 quantile (ms)",
        "commits": "commits per second",
    }
    headings |= {"queue": "in the queue", "pending": "waiting for the other side"}
    last = with_commits[-1]
    waiting = f"{formatting.count(samples[-1].queue)} events wait"
    times = f"{_time(last.commit_seconds)} in the mean, 99 % of them up to {_time(last.commit_p99)}"
    summary = f"A commit takes {times}; {waiting}."
    return Chart("commit_times", "Time of a commit", summary, columns, headings, {"names": ["mean", "0.99 quantile"]})


def _when(sample: SelfSample) -> str:
    return f"{formatting.moment(sample.at)} UTC"


def _rate(per_second: float) -> str:
    return f"{formatting.number(per_second)}/s"


def _times(number: str, durations: Sequence[float | None]) -> Columns:
    """Returns the columns of a line in milliseconds, and of the spots of values without a neighbour."""
    times = [None if seconds is None else seconds * MILLISECONDS for seconds in durations]
    return {f"value_{number}": times, f"lone_{number}": lone(times)}


def _time(seconds: float | None) -> str:
    return formatting.UNNAMED if seconds is None else f"{formatting.number(seconds * MILLISECONDS)} ms"
