"""The head of the page of a deployment: what to do with each candidate, and since when that has been looked at."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from metrics_server.api.schema import CanaryVerdict
from metrics_server.metrics.sequential.verdict import Verdict
from metrics_server.web import formatting
from metrics_server.web.chart.chart import metric_title
from metrics_server.web.notices import BAD, NOTE, WARN, Notice

_ADVICE = {
    Verdict.BETTER: (NOTE, "Promote {candidate}: it is better than {baseline}."),
    Verdict.WORSE: (BAD, "Roll {candidate} back: it is worse than {baseline}."),
    Verdict.EQUIVALENT: (NOTE, "{candidate} is as good as {baseline}, within {margin}: decide by cost or speed."),
    Verdict.UNDECIDED: (NOTE, "Wait with {candidate}: {detail}."),
    Verdict.INCOMPARABLE: (WARN, "Do not decide about {candidate} yet: {detail}. Find out why labels are missing."),
}


def verdict_notices(verdicts: Sequence[CanaryVerdict]) -> list[Notice]:
    """Says of each candidate what to do, and of a split of traffic that is not the declared one that it is not."""
    notices = [_notice(verdict) for verdict in verdicts]
    return notices + [
        Notice(WARN, _traffic_text(one)) for one in verdicts if one.traffic is not UNSET and one.traffic.differs
    ]


def _notice(verdict: CanaryVerdict) -> Notice:
    severity, advice = _ADVICE[Verdict(verdict.verdict)]
    text = advice.format(
        candidate=_name(verdict.predictor),
        baseline=_name(verdict.baseline),
        margin=formatting.number(verdict.margin),
        detail=verdict.detail,
    )
    return Notice(severity, " ".join(filter(None, (text, _difference_text(verdict), _labels_text(verdict)))))


def _name(predictor: str) -> str:
    return predictor or formatting.UNNAMED


def _difference_text(verdict: CanaryVerdict) -> str:
    """Writes the difference with the interval that holds at every look: "Accuracy 0.021 better (0.004 to 0.038)."."""
    if verdict.difference is UNSET or verdict.lower is UNSET or verdict.upper is UNSET or verdict.metric is None:
        return ""
    ends = verdict.lower, verdict.upper
    lower, upper = (formatting.number(end, ends) for end in ends)
    size = formatting.number(abs(verdict.difference), ends)
    title = metric_title(verdict.metric)
    way = "better" if verdict.difference >= 0 else "worse"
    return f"{title[:1].upper()}{title[1:]} {size} {way} ({lower} to {upper} at every look)."


def _labels_text(verdict: CanaryVerdict) -> str:
    """Writes how many labels that rests on, and since when they count."""
    if verdict.since is None or not verdict.arms:
        return ""
    counts = " and ".join(f"{formatting.count(arm.support)} of {_name(arm.predictor)}" for arm in verdict.arms)
    return f"Labels since {formatting.moment(verdict.since)}: {counts}."


def _traffic_text(verdict: CanaryVerdict) -> str:
    assert verdict.traffic is not UNSET
    observed, declared = (formatting.percent(share) for share in (verdict.traffic.observed, verdict.traffic.declared))
    return (
        f"{_name(verdict.predictor)} gets {observed} of the rows of the two, where {declared} is declared: requests of"
        " one were lost, or the split is another."
    )
