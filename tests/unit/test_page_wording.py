"""What a page says of numbers, and which of them it puts first."""

from __future__ import annotations

import re
from typing import Any

import pytest

from metrics_server.api.schema import History, MetricValue, ObjectiveReport, Point, SeriesSummary, WindowSummary
from metrics_server.web import formatting as wording
from metrics_server.web.notices import BAD, NOTE, WARN, ranked
from metrics_server.web.sparkline import sparkline
from metrics_server.web.ttl_cache import TtlCache


def test_who_looks_at_the_same_shares_it() -> None:
    """What was made a moment ago is not made again; later it is, and no more is kept than that."""
    now, made = [0.0], list[int]()

    def make() -> int:
        made.append(len(made))
        return made[-1]

    recent: TtlCache[int] = TtlCache(1.0, 2, lambda: now[0])
    assert [recent.get("a", make), recent.get("a", make), recent.get("b", make)] == [0, 0, 1]
    now[0] = 0.9
    assert recent.get("a", make) == 0
    now[0] = 1.0
    assert [recent.get("a", make), recent.get("b", make), recent.get("c", make), recent.get("a", make)] == [2, 3, 4, 5]


def _value(
    value: float, lower: float, upper: float, name: str = "model_accuracy_ratio", support: float = 100
) -> MetricValue:
    return MetricValue(name=name, labels={}, value=value, lower=lower, upper=upper, support=support)


def _entry(
    predictor: str, headline: MetricValue | None, support: float, predictions: float = 0.0, **more: Any
) -> SeriesSummary:
    longest = more.pop("longest", headline)
    counts = {"support": support, "predictions": predictions, "rewards": more.pop("rewards", 0.0)}
    standing = WindowSummary(**counts, headline=headline)
    given = {
        "namespace": "shop",
        "deployment": "wine",
        "predictor": predictor,
        "model": "classifier",
        "path": "/v1/models/…",
        "slices": [],
        "task": "multiclass",
        "metric_model": "m",
        "created_at": 0.0,
        "baseline": "main",
        "last_prediction_at": 900.0,
        "last_label_at": 900.0,
        "labels": {},
        "objectives": [],
    }
    windows = {"1h": standing, "1d": WindowSummary(**counts, headline=longest)}
    return SeriesSummary(**{**given, "windows": windows, **more})


@pytest.mark.parametrize(
    ("entry", "severity", "words"),
    [
        (_entry("main", _value(0.9, 0.85, 0.93), 500), None, ""),
        (
            _entry("main", _value(0.7, 0.66, 0.74), 500, longest=_value(0.9, 0.89, 0.91)),
            BAD,
            "accuracy 0.700 is worse than the 0.900 of 1d",
        ),
        (_entry("main", _value(0.95, 0.94, 0.96), 500, longest=_value(0.9, 0.89, 0.91)), None, ""),
        (
            _entry(
                "main",
                _value(5, 4.5, 5.5, "model_mean_absolute_error"),
                500,
                longest=_value(3, 2.9, 3.1, "model_mean_absolute_error"),
            ),
            BAD,
            "worse",
        ),
        (
            _entry(
                "main", _value(5, 4.5, 5.5, "model_output_mean"), 500, longest=_value(3, 2.9, 3.1, "model_output_mean")
            ),
            None,
            "",
        ),
        (_entry("main", None, 0, 60, last_label_at=None), WARN, "no labels yet for 60 predictions; none has ever come"),
        (_entry("main", None, 0, 60), NOTE, "no labels yet for 60 predictions; the last came 1.7 min ago"),
        (
            _entry("main", None, 0, 60, last_label_at=-4000.0),
            WARN,
            "no labels yet for 60 predictions; the last came 1.4 h ago",
        ),
        (_entry("main", None, 0, 60, rewards=9.0), None, ""),
        (_entry("main", None, 0, 0, rewards=9.0), None, ""),
        (_entry("main", None, 0, 49), None, ""),
        (_entry("main", None, 0, 0), WARN, "no prediction was made in 1h; the last event came 1.7 min ago"),
        (_entry("main", _value(0.9, 0.85, 0.93), 40, 500), WARN, "only 8.0 % of the predictions are labelled"),
        (_entry("main", _value(0.9, 0.5, 0.99), 9, 9), NOTE, "few labels: 9"),
        (
            _entry("main", _value(0.9, 0.85, 0.93), 500, labels={"task_mismatch": 3.0}),
            WARN,
            "3 truths so far did not fit the task multiclass",
        ),
        (
            _entry("main", _value(0.9, 0.85, 0.93), 500, labels={"task_mismatch": 3.0, "matched": 500.0}),
            NOTE,
            "--storage_uri",
        ),
        (_entry("main", _value(0.0, 0.0, 0.79, support=1), 1, longest=_value(0.9, 0.89, 0.91)), NOTE, "few labels: 1"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_what_deserves_a_look(entry: SeriesSummary, severity: int | None, words: str) -> None:
    """Each notice has its cause, its severity and its words; a change that chance explains has none."""
    ((_, notices),) = ranked([entry], "1h", {"1h": 3600, "1d": 86400}, 1000.0)
    assert [notice.severity for notice in notices] == ([] if severity is None else [severity])
    assert words in "".join(notice.text for notice in notices)


def test_a_worse_predictor_leads_the_list() -> None:
    """It is compared with the baseline, and the series are in the order of their gravest
    notices."""
    fine = _entry("main", _value(0.9, 0.89, 0.91), 500)
    worse = _entry("canary", _value(0.6, 0.5, 0.7), 100)
    quiet = _entry("other", None, 0, deployment="beer", baseline="other")
    order = ranked([fine, quiet, worse], "1h", {"1h": 3600, "1d": 86400}, 1000.0)
    assert [one.series for one in order] == [worse, quiet, fine]
    assert "accuracy is 0.30 (95 %: 0.20 to 0.40) lower than that of predictor main" in order[0].notices[0].text
    few = _entry("canary", _value(0.0, 0.0, 0.4, support=5), 5)
    assert [
        notice.severity for _, notices in ranked([fine, few], "1h", {"1h": 3600}, 1000.0) for notice in notices
    ] == [NOTE]


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (0.91377, (0.858, 0.949), "0.914"),
        (0.91377, None, "0.914"),
        (0.9996, (0.9991, 0.9998), "0.99960"),
        (1.0, (0.2, 1.0), "1.00"),
        (36.987, (36.0, 37.9), "37.0"),
        (123456.7, (123000.0, 124000.0), "123,457"),
        (0.0, None, "0"),
        (1500.0, None, "1,500"),
        (2.5e-7, None, "2.5e-07"),
        (3e12, None, "3e+12"),
        (-0.333, (-0.37, -0.3), "-0.333"),
        (None, None, "–"),
    ],
)
def test_numbers_have_the_digits_that_mean_something(
    value: float | None, interval: tuple[float, float] | None, text: str
) -> None:
    """Two digits of the interval's width, three without one."""
    assert wording.number(value, interval) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.004, "4 ms"), (1, "1 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2.0 h"), (86400 * 35, "35 d")],
)
def test_durations_have_a_unit_that_fits(seconds: float, text: str) -> None:
    """One unit, the largest that is not a fraction."""
    assert wording.duration(seconds) == text


def _history(values: dict[int, float]) -> History:
    points = [
        Point(since=60.0 * step, until=60.0 * step + 60, support=9, values=[_value(value, value - 0.1, value + 0.1)])
        for step, value in values.items()
    ]
    return History(since=0, until=600, step=60, points=points)


def test_a_trend_does_not_bridge_what_is_missing() -> None:
    """Steps that follow each other are one line, a step by itself is a dot, and nothing is an empty picture."""
    text = sparkline(_history({0: 0.9, 1: 0.8, 2: 0.7, 5: 0.9, 8: 0.9, 9: 0.8})).decode()
    assert (text.count("<polyline"), text.count("<circle"), text.count("<polygon")) == (2, 1, 3)
    first = re.search(r'<polyline points="([^"]+)"', text)
    assert first is not None
    spots = [tuple(map(float, spot.split(","))) for spot in first[1].split()]
    assert [x for x, _ in spots] == sorted(x for x, _ in spots)
    assert [y for _, y in spots] == sorted(y for _, y in spots), "downwards is larger in a picture"
    assert "<p" not in sparkline(_history({})).decode()


def test_a_missed_objective_is_a_notice() -> None:
    """It says since when, and how rare that is while the objective is met; the rule of a single look is left out."""
    now_worse, longest = _value(0.7, 0.65, 0.75), _value(0.9, 0.89, 0.91)
    missed = ObjectiveReport(
        metric="model_accuracy_ratio",
        level=0.9,
        false_alarms_a_year=0.1,
        degraded=True,
        evidence=0.5,
        since=0.0,
        hours=9,
    )
    (by_one_look,) = _entry_notices(_entry("main", now_worse, 100, longest=longest))
    assert "is worse than" in by_one_look
    (text,) = _entry_notices(_entry("main", now_worse, 100, longest=longest, objectives=[missed]))
    assert text.startswith("accuracy is below its objective of 0.9")
    assert "since 1970-01-01 00:00:00" in text
    assert "10 years or more on average" in text


def _entry_notices(entry: SeriesSummary) -> list[str]:
    (one,) = ranked([entry], "1h", {"1h": 3600, "1d": 86400}, 1000.0)
    return [notice.text for notice in one.notices]
