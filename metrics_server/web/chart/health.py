"""Charts of the server's own health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from metrics_server.web import wording
from metrics_server.web.chart.form import MILLISECONDS, Chart, Columns, lone

_OUTCOMES = ("accepted", "duplicate", "ignored", "rejected", "unavailable")


class Beat(NamedTuple):
    """What the server did since the beat before.

    Attributes:
        at: Unix seconds.
        events: events per second by outcome.
        commits: per second.
        commit_seconds: the mean time of a commit; None without any.
        commit_p99: the 0.99 quantile of these times, in seconds.
        queue: events that wait now.
        pending: halves that wait for their other half now.
    """

    at: float
    events: Mapping[str, float]
    commits: float
    commit_seconds: float | None
    commit_p99: float | None
    queue: float
    pending: float


def event_rates(beats: Sequence[Beat]) -> Chart | None:
    """Events per second by outcome: those accepted, and what else there was. One beat is no line."""
    if len(beats) < 2:
        return None
    names = [name for name in _OUTCOMES if name == "accepted" or any(beat.events.get(name) for beat in beats)]
    columns: Columns = {"at": [beat.at * MILLISECONDS for beat in beats], "when": [_when(beat) for beat in beats]}
    for number, name in enumerate(names):
        columns[f"value_{number}"] = [beat.events.get(name, 0.0) for beat in beats]
        columns[f"said_{number}"] = [f"{name}: {_rate(beat.events.get(name, 0.0))}" for beat in beats]
    headings = {"at": "time (UTC)", **{f"value_{number}": f"{name} per second" for number, name in enumerate(names)}}
    last = ", ".join(f"{name} {_rate(beats[-1].events.get(name, 0.0))}" for name in names)
    highest = max(sum(beat.events.values()) for beat in beats)
    # An outcome has its own colour and dash, whatever else there is.
    layout = {"names": names, "styles": [_OUTCOMES.index(name) for name in names]}
    return Chart("event_rates", "Events by outcome", f"Now: {last}; at most {_rate(highest)} in all.", columns, headings, layout)


def commit_times(beats: Sequence[Beat]) -> Chart | None:
    """How long commits take, and under it the events that wait."""
    taken = [beat for beat in beats if beat.commit_seconds is not None]
    if not taken or len(beats) < 2:
        return None
    columns: Columns = {
        "at": [beat.at * MILLISECONDS for beat in beats],
        **_times("0", [beat.commit_seconds for beat in beats]),
        **_times("1", [beat.commit_p99 for beat in beats]),
        "commits": [beat.commits for beat in beats],
        "queue": [beat.queue for beat in beats],
        "pending": [beat.pending for beat in beats],
        "when": [_when(beat) for beat in beats],
        "said_0": [f"mean: {_time(beat.commit_seconds)}" for beat in beats],
        "said_1": [f"99 %: {_time(beat.commit_p99)}" for beat in beats],
        "said_2": [f"{_rate(beat.commits)} commits" for beat in beats],
        "said_3": [f"{wording.count(beat.queue)} in the queue" for beat in beats],
    }
    headings = {"at": "time (UTC)", "value_0": "mean (ms)", "value_1": "0.99 quantile (ms)", "commits": "commits per second"}
    headings |= {"queue": "in the queue", "pending": "waiting for their other half"}
    last = taken[-1]
    waiting = f"{wording.count(beats[-1].queue)} events wait"
    summary = f"A commit takes {_time(last.commit_seconds)} in the mean, 99 % of them up to {_time(last.commit_p99)}; {waiting}."
    return Chart("commit_times", "Time of a commit", summary, columns, headings, {"names": ["mean", "0.99 quantile"]})


def _when(beat: Beat) -> str:
    return f"{wording.moment(beat.at)} UTC"


def _rate(per_second: float) -> str:
    return f"{wording.number(per_second)}/s"


def _times(number: str, found: Sequence[float | None]) -> Columns:
    """A line in milliseconds, and the spots of those without a neighbour."""
    times = [None if seconds is None else seconds * MILLISECONDS for seconds in found]
    return {f"value_{number}": times, f"lone_{number}": lone(times)}


def _time(seconds: float | None) -> str:
    return wording.UNNAMED if seconds is None else f"{wording.number(seconds * MILLISECONDS)} ms"
