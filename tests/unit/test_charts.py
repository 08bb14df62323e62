"""Charts: what they say of the API's answers, and that Bokeh draws them in both looks, up to date by new columns
alone."""

from __future__ import annotations

import importlib
import itertools
import json
import logging
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from cm_models.binary_metrics import BinaryMetrics
from cm_models.regression import Regression
from metrics_server.api.responses import value_of, with_costs
from metrics_server.api.schema import Confusion, History, LabelDelay, MetricValue, Point
from metrics_server.metrics.log_histogram import LogHistogram, Moments
from metrics_server.metrics.prediction_stats import compute, increments, shares
from metrics_server.metrics.sums import Sums
from metrics_server.web import chart
from metrics_server.web.chart import Chart, SelfSample
from metrics_server.web.chart.chart import value_with_interval
from metrics_server.web.figure.theme import THEMES, contrast, ink, shades
from metrics_server.web.formatting import number

STEP, SINCE, STEPS = 900, 1_714_521_600, 24
GAP = (5, 6, 7)
ACCURACY, COVERAGE = "model_accuracy_ratio", "model_label_coverage_ratio"
HOSTILE = ["<img src=x onerror=alert(1)>", "$$x$$", "@name{x}", "\\(x\\)", "$$$", "\\[x\\]", "$index"]


def scores(seed: int = 1, pairs: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """(truths, scores); many stand on the edges of bins, and some are 0 or 1."""
    random = np.random.default_rng(seed)
    truth = (random.random(pairs) < 0.2).astype(int)
    score = np.clip(random.beta(2, 5, pairs) + 0.35 * truth - 0.05, 0, 1)
    score[: pairs // 4] = np.round(score[: pairs // 4] * 20) / 20
    return truth, score


def errors(seed: int = 1, pairs: int = 3000) -> Sums:
    random = np.random.default_rng(seed)
    truth = random.normal(100, 20, pairs)
    wrong = random.normal(1.5, 6, pairs) * np.where(random.random(pairs) < 0.02, 30, 1)
    wrong[:100] = 0
    return Regression(pivot=100.0).increments(truth, truth + wrong)


def point(step: int, random: np.random.Generator, labelled: int = 40) -> Point:
    truth, score = scores(int(random.integers(1000)), labelled)
    outputs = increments([(str(value), 100.0 + value) for value in random.integers(0, 30, 80).tolist()])
    model = BinaryMetrics()
    samples = [*model.compute(model.increments(truth, score)), *compute(outputs), *shares(outputs, [], 5)]
    values = [value_of(sample, labelled) for sample in samples]
    coverage = MetricValue(name=COVERAGE, labels={}, value=labelled / 80, support=80.0)
    since = SINCE + step * STEP
    return Point(since=since, until=since + STEP, support=labelled, values=[*values, coverage])


def history(seed: int = 1, missing: Sequence[int] = GAP) -> History:
    random = np.random.default_rng(seed)
    points = [point(step, random) for step in range(STEPS) if step not in missing]
    return History(since=SINCE, until=SINCE + STEPS * STEP, step=STEP, points=points)


def beats(seed: int = 1) -> list[SelfSample]:
    random = np.random.default_rng(seed)
    outcomes = {
        "accepted": float(random.integers(900)),
        "duplicate": 3.0,
        "ignored": 0.0,
        "rejected": 0.5,
        "unavailable": 0.0,
    }
    taken = [(None, None) if n in (4, 5) else (0.004, 0.02) for n in range(30)]
    return [
        SelfSample(SINCE + 10.0 * n, outcomes, 50.0, *taken[n], float(random.integers(100)), 7.0) for n in range(30)
    ]


def confusion(seed: int = 1, classes: Sequence[str] = ("cat", "dog", "bird")) -> Confusion:
    counts = np.random.default_rng(seed).integers(1, 5000, (len(classes), len(classes)))
    return Confusion(classes=list(classes), counts=counts.astype(float).tolist())


def delay(seed: int = 1) -> LabelDelay:
    upto = np.cumsum(np.random.default_rng(seed).integers(0, 90, 4)).tolist()
    return LabelDelay(
        buckets=list(zip((1.0, 60.0, 3600.0, 86400.0), map(float, upto), strict=True)), count=upto[-1] + 5.0, sum=9e5
    )


def tables(seed: int = 1) -> Any:
    return BinaryMetrics().tables(BinaryMetrics().increments(*scores(seed)))


def class_values(seed: int = 1) -> list[MetricValue]:
    predicted = np.random.default_rng(seed).integers(0, 8, 500).tolist()
    return [
        value_of(sample, 0.0)
        for sample in shares(increments([(f"c{n}", None) for n in predicted]), [f"c{n}" for n in range(8)], 100)
    ]


def compared(seed: int = 1) -> Chart | None:
    return chart.compared_over_time({"main": history(seed), "canary": history(seed + 1, ())}, ACCURACY)


# Every chart of some answers, which differ by their seed.
MADE: dict[str, Callable[[int], Chart | None]] = {
    "metric_over_time": lambda seed: chart.metric_over_time(history(seed), ACCURACY),
    "compared_over_time": compared,
    "output_quantiles": lambda seed: chart.output_quantiles(history(seed)),
    "event_rates": lambda seed: chart.event_rates(beats(seed)),
    "commit_times": lambda seed: chart.commit_times(beats(seed)),
    "confusion_matrix": lambda seed: chart.confusion_matrix(confusion(seed)),
    "reliability": lambda seed: chart.reliability(tables(seed)["reliability"]),
    "score_histogram": lambda seed: chart.score_histogram(tables(seed)["thresholds"], "1"),
    "threshold_curve": lambda seed: chart.threshold_curve(
        with_costs(tables(seed), 1, 5)["thresholds"], "1", 0.5 + seed / 20
    ),
    "error_distribution": lambda seed: chart.error_distribution(Regression().tables(errors(seed))["errors"], "km"),
    "label_delay": lambda seed: chart.label_delay(delay(seed)),
    "class_shares": lambda seed: chart.class_shares(class_values(seed)),
}


def made(name: str, seed: int = 1) -> Chart:
    found = MADE[name](seed)
    assert found is not None
    return found


# What charts say


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_chart_is_whole(name: str) -> None:
    """Its columns are equally long, headings name columns, words are there, and all of it is strict JSON, where gaps
    are null."""
    one = made(name)
    assert one.name == name
    assert len({len(cells) for cells in one.columns.values()}) == 1
    assert set(one.headings) <= set(one.columns)
    assert one.title
    assert one.summary.endswith(".")
    assert not re.search(r"\bnan\b|None|\d\.\d{6}", one.summary), one.summary
    json.dumps([one.columns, one.layout], allow_nan=False)
    for cells in one.columns.values():
        assert all(isinstance(cell, str) for cell in cells) or all(
            cell is None or isinstance(cell, (int, float)) for cell in cells
        )


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_layout_stays_while_numbers_move(name: str) -> None:
    """Other numbers of the same series change columns, not the title nor the layout: a live page need not draw anew."""
    one, other = made(name), made(name, 2)
    assert one.columns != other.columns
    assert (one.title, one.layout, one.headings) == (other.title, other.layout, other.headings)


def test_what_is_not_there_has_no_chart() -> None:
    """Without values of that name, pairs, rows or beats there is nothing to draw."""
    nothing = History(since=SINCE, until=SINCE + 2 * STEP, step=STEP, points=[])
    assert chart.metric_over_time(nothing, ACCURACY) is None
    assert chart.metric_over_time(history(), "model_r2") is None
    assert chart.compared_over_time({}, ACCURACY) is None
    assert chart.compared_over_time({"main": nothing}, ACCURACY) is None
    assert chart.output_quantiles(nothing) is None
    assert chart.confusion_matrix(Confusion(classes=["a"], counts=[[0.0]])) is None
    assert chart.reliability([]) is None
    assert chart.score_histogram(tables()["thresholds"], "no such class") is None
    assert chart.threshold_curve([], "1", 0.5) is None
    assert chart.error_distribution([]) is None
    assert chart.label_delay(LabelDelay(buckets=[(1.0, 0.0)], count=0.0, sum=0.0)) is None
    assert chart.class_shares([]) is None
    assert chart.event_rates([]) is None
    assert chart.commit_times([beat._replace(commit_seconds=None) for beat in beats()]) is None


def test_gaps_stay_gaps() -> None:
    """Every step has its row, in the middle of its time; one that is missing has no number, so that no line bridges an
    outage."""
    points = history()
    columns = made("metric_over_time").columns
    assert columns["at"] == [(SINCE + (step + 0.5) * STEP) * 1000 for step in range(STEPS)]
    for name in ("value", "lower", "upper", "coverage", "predictions"):
        assert [step for step, cell in enumerate(columns[name]) if cell is None] == list(GAP)
    found = {point.since: next(value for value in point.values if value.name == ACCURACY) for point in points.points}
    shown = zip(columns["value"], columns["lower"], columns["upper"], strict=True)
    assert {SINCE + step * STEP: row for step, row in enumerate(shown) if row[0] is not None} == {
        at: (value.value, value.lower, value.upper) for at, value in found.items()
    }
    assert columns["support"] == [0.0 if step in GAP else 40.0 for step in range(STEPS)]
    assert "3 of 24 steps have none" in made("metric_over_time").summary


def test_a_value_between_gaps_is_seen() -> None:
    """Where no line leads to a value, it is marked by itself."""
    found = chart.metric_over_time(history(missing=[1, 3, 23]), ACCURACY)
    assert found is not None
    assert [step for step, cell in enumerate(found.columns["lone"]) if cell is not None] == [0, 2]


def test_a_metric_of_a_class_can_be_shown() -> None:
    """Of a name that only values of classes have it is the first, throughout, and the title says which."""
    points = [
        Point(
            since=SINCE + step * STEP,
            until=SINCE + (step + 1) * STEP,
            support=1.0,
            values=[
                MetricValue(name="model_recall_ratio", labels={"class": label}, value=step / 10, support=1.0)
                for label in labels
            ],
        )
        for step, labels in enumerate((["2", "7"], ["7", "2"], ["7"]))
    ]
    found = chart.metric_over_time(
        History(since=SINCE, until=SINCE + 3 * STEP, step=STEP, points=points), "model_recall_ratio"
    )
    assert found is not None
    assert found.title == "Recall, class 2 over time"
    assert found.columns["value"] == [0.0, 0.1, None]
    assert found.columns["lower"] == [None] * 3


def test_predictors_are_compared_step_by_step() -> None:
    """Values of one time stand in one row, also when one history was asked for a step later; beyond six they are left
    out, and that is said."""
    later = history(3)
    later.since, later.until = later.since + STEP, later.until + STEP
    found = chart.compared_over_time(
        {"main": history(), "canary": later, **{f"p{n}": history(n) for n in range(6)}}, ACCURACY
    )
    assert found is not None
    assert len(found.columns["at"]) == STEPS + 1
    assert found.columns["value_0"][-1] is None
    alone = chart.metric_over_time(later, ACCURACY)
    assert alone is not None
    assert found.columns["value_1"][1:] == alone.columns["value"]
    assert found.layout["names"] == ["main", "canary", "p0", "p1", "p2", "p3"]
    assert "2 further predictors are left out" in found.summary


def test_shares_of_the_matrix_are_of_the_truths_row() -> None:
    """Each row of truths adds up to 1, in the order of the classes; a row without pairs has no shares; names stand
    beside labels."""
    found = chart.confusion_matrix(
        Confusion(classes=["0", "1", "__other__"], counts=[[6, 2, 0], [0, 0, 0], [1, 1, 2]]), ["cat", "dog"]
    )
    assert found is not None
    cells = {
        (cell[0], cell[1]): cell[2:]
        for cell in zip(*(found.columns[name] for name in ("truth", "prediction", "share", "count", "y")), strict=True)
    }
    assert cells["0 cat", "1 dog"] == (0.25, 2, 0)
    assert cells["__other__", "0 cat"] == (0.25, 1, 2)
    assert cells["1 dog", "0 cat"] == (None, 0, 1)
    assert (
        found.summary
        == "50.0 % of 12 labelled predictions are on the diagonal. Most often mistaken: 0 cat for 1 dog, 2 of 8."
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [(7, "7"), (0.5, "0.5"), (999, "999"), (1000, "1.0k"), (9960, "10k"), (12_345, "12k"), (999_700, "1.0M")],
)
def test_counts_fit_their_cells(count: float, text: str) -> None:
    """A count has at most four letters; beyond fifteen classes there is no room for any."""
    small = chart.confusion_matrix(Confusion(classes=["a"], counts=[[count]]))
    large = chart.confusion_matrix(confusion(classes=[str(n) for n in range(16)]))
    assert small is not None
    assert large is not None
    assert small.columns["text"] == [text]
    assert set(large.columns["text"]) == {""}


def test_the_histogram_is_that_of_the_scores() -> None:
    """From thresholds that a real metric model read: the same counts as numpy counts in twenty equal bins, and each
    side adds up to 1."""
    truth, score = scores()
    columns = made("score_histogram").columns
    for side, chosen in (("positive", truth == 1), ("negative", truth == 0)):
        wanted = np.histogram(score[chosen], [n / 20 for n in range(21)])[0]
        assert columns[f"{side}s"] == wanted.tolist()
        assert columns[f"{side}_share"] == pytest.approx((wanted / wanted.sum()).tolist())


def test_one_threshold_is_marked() -> None:
    """The mark is a column, at the row that is nearest to the threshold chosen; nothing is marked where none is."""
    rows = tables()["thresholds"]
    found = chart.threshold_curve(rows, "1", 0.52)
    none = chart.threshold_curve(rows, "1", None)
    assert found is not None
    assert none is not None
    assert [cell for cell in found.columns["chosen"] if cell is not None] == [0.5]
    assert set(none.columns["chosen"]) == {None}
    assert found.layout == none.layout
    assert found.summary.startswith(f"At threshold {number(0.5)}, precision ")
    assert found.columns["threshold"] == sorted(found.columns["threshold"])


def test_the_least_cost_is_told() -> None:
    """Where rows have costs they are a curve, and the words say where it is lowest."""
    rows = with_costs(tables(), 1, 5)["thresholds"]
    best = min(rows, key=lambda row: float(row["cost"]))
    one = made("threshold_curve")
    assert one.columns["cost"] == [row["cost"] for row in rows]
    assert f"The cost of a pair is least at threshold {number(best['threshold'])}" in one.summary


def test_errors_stand_in_bars_of_equal_width() -> None:
    """At most forty, one with 0 in its middle; no pair is lost, and at most a hundredth lies in the outermost of each
    side with its own."""
    sums = errors()
    columns = made("error_distribution").columns
    widths = np.subtract(columns["right"], columns["left"])
    assert 10 < len(widths) <= 40
    assert widths == pytest.approx([widths[0]] * len(widths))
    assert columns["left"][1:] == pytest.approx(columns["right"][:-1])
    assert min(abs(left + right) for left, right in zip(columns["left"], columns["right"], strict=True)) < 1e-9
    assert sum(columns["pairs"]) == pytest.approx(sums["pairs"])
    assert columns["pairs"][0] <= 0.01 * sums["pairs"] + 1e-6 >= columns["pairs"][-1]
    half = LogHistogram.of("error", sums, Moments(sums["error"], sums["squared_error"]))
    assert half is not None
    below = sum(
        pairs for right, pairs in zip(columns["right"], columns["pairs"], strict=True) if right <= half.quantile(0.5)
    )
    assert below / sums["pairs"] == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("rows", [[(0, 0, 7)], [(5, 5, 1), (5, 5, 1)], [(-1e12, -9e11, 1), (1e-12, 2e-12, 1)]])
def test_errors_that_hardly_differ_are_drawn(rows: list[tuple[float, float, float]]) -> None:
    """One error, equal errors and errors of very different size all make some bars with every pair in them."""
    found = chart.error_distribution([{"lower": lower, "upper": upper, "pairs": pairs} for lower, upper, pairs in rows])
    assert found is not None
    assert len(found.columns["pairs"]) <= 40
    assert sum(found.columns["pairs"]) == pytest.approx(sum(pairs for _, _, pairs in rows))


def test_delays_stand_by_bucket() -> None:
    """Counts are those of each bucket alone, those beyond the last bound too, under bounds that people read."""
    found = chart.label_delay(LabelDelay(buckets=[(1.0, 2.0), (60.0, 2.0), (86400.0, 7.0)], count=8.0, sum=1000.0))
    assert found is not None
    assert found.columns["name"] == ["up to 1 s", "1 s to 1 min", "1 min to 1 d", "over 1 d"]
    assert found.columns["count"] == [2, 0, 5, 1]
    assert sum(found.columns["share"]) == 1


def test_rare_classes_are_left_out() -> None:
    """The twenty most frequent stand in an order that does not change with their shares; the words say how many more
    there are."""
    labels = [*map(str, range(23)), "b", "a", "__other__"]
    values = [
        MetricValue(name="model_predicted_class_ratio", labels={"class": label}, value=(n + 1) / 400, support=9.0)
        for n, label in enumerate(labels)
    ]
    for given in (values, values[::-1]):
        found = chart.class_shares(given)
        assert found is not None
        assert found.columns["name"] == [*map(str, range(6, 23)), "a", "b", "__other__"]
        assert "6 rarer classes are left out" in found.summary


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("model_accuracy_ratio", "accuracy"),
        ("model_roc_auc_macro_ratio", "ROC AUC macro"),
        ("model_f1_ratio", "F1"),
        ("model_r2", "R²"),
        ("model_cohen_kappa", "Cohen's kappa"),
        ("model_own", "own"),
    ],
)
def test_titles_of_metrics(name: str, title: str) -> None:
    """Values are called as people call them."""
    assert chart.metric_title(name) == title


def test_an_interval_is_said() -> None:
    """A value stands with the ends of its interval, if it has one, in words."""
    assert (
        value_with_interval(MetricValue(name="model_x", labels={}, value=0.9312, lower=0.921, upper=0.945, support=1.0))
        == f"{number(0.9312, (0.921, 0.945))} (0.921 to 0.945)"
    )
    assert value_with_interval(MetricValue(name="model_x", labels={}, value=0.9312, support=1.0)) == number(0.9312)


# How they look

BACKGROUNDS = {"light": ("#ffffff", "#f7f8fa"), "dark": ("#14171c", "#1b1f26")}
# Machado, Oliveira, Fernandes 2009, severity 1; rows of linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour: str, sight: str) -> np.ndarray:
    share = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SIGHTS[sight]) @ linear, 0, 1)
    xyz = (
        np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        @ seen
        / [0.9505, 1, 1.089]
    )
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("name", sorted(THEMES))
def test_colours_can_be_seen(name: str) -> None:
    """On the page and its panels text has a contrast of 4.5, marks of 3; whoever sees colours differently can tell
    series apart."""
    look = THEMES[name]
    for background in BACKGROUNDS[name]:
        assert min(contrast(colour, background) for colour in (look.text, look.soft)) >= 4.5
        assert min(contrast(colour, background) for colour in (*look.series, look.all)) >= 3
    assert min(contrast(colour, ink(colour)) for colour in shades(look)) >= 4.5
    assert (shades(look)[0], shades(look)[-1]) == (look.none, look.all)
    for sight, (one, other) in itertools.product(SIGHTS, itertools.combinations(look.series, 2)):
        assert np.linalg.norm(lab(one, sight) - lab(other, sight)) > 20, (sight, one, other)
    assert len(look.series) == chart.MOST_COMPARED


# How they are drawn


@pytest.fixture(scope="module")
def figure() -> Any:
    pytest.importorskip("bokeh", reason="the extra `web` is not installed")
    return importlib.import_module("metrics_server.web.figure")


def drawn(figure: Any, one: Chart, look: str = "light") -> Any:
    """The figure as JSON, its ids replaced by the order in which they come."""
    item = figure.item(one, THEMES[look])
    text = json.dumps({"doc": item["doc"]["roots"]}, allow_nan=False)
    order: dict[str, str] = {}
    return json.loads(re.sub(r'"p\d+"', lambda found: f'"#{order.setdefault(found[0], str(len(order)))}"', text))


def nodes(tree: Any) -> list[dict[str, Any]]:
    """Every object of the JSON."""
    if isinstance(tree, list):
        return [node for part in tree for node in nodes(part)]
    return [tree, *(node for part in tree.values() for node in nodes(part))] if isinstance(tree, dict) else []


def source_of(tree: Any) -> dict[str, Any]:
    (found,) = [node for node in nodes(tree) if node.get("name") == "ColumnDataSource"]
    return dict(found["attributes"])


def test_every_chart_has_a_drawing(figure: Any) -> None:
    """The table of drawings has the names that charts have, no more and no fewer."""
    assert set(figure.DRAWINGS) == set(MADE)


@pytest.mark.parametrize("look", sorted(THEMES))
@pytest.mark.parametrize("name", sorted(MADE))
def test_it_can_be_drawn(figure: Any, caplog: pytest.LogCaptureFixture, name: str, look: str) -> None:
    """In both looks, as strict JSON and without a complaint of Bokeh, from one source of its name, with nothing that
    needs more scripts."""
    with caplog.at_level(logging.WARNING):
        tree = drawn(figure, made(name), look)
    assert not caplog.records
    assert source_of(tree)["name"] == name
    kinds = {node["name"] for node in nodes(tree) if node.get("type") == "object"}
    assert not [kind for kind in kinds if re.search("CustomJS|TeX|MathML|Div|Image|Toolbox|Widget", kind)]
    assert {
        node["attributes"]["output_backend"] for node in nodes(tree) if "output_backend" in node.get("attributes", {})
    } <= {"canvas"}


@pytest.mark.parametrize("name", sorted(MADE))
def test_new_columns_bring_it_up_to_date(figure: Any, name: str) -> None:
    """Two charts of one layout are drawn alike but for the columns of the source, so those are all that a live page
    replaces."""
    one, other = (drawn(figure, made(name, seed)) for seed in (1, 2))
    assert one != other
    sources = [next(node for node in nodes(tree) if node.get("name") == "ColumnDataSource") for tree in (one, other)]
    sources[0]["attributes"]["data"] = sources[1]["attributes"]["data"]
    assert one == other


def test_a_missing_number_is_not_zero(figure: Any) -> None:
    """BokehJS takes null for 0, so what a figure holds for it is NaN."""
    (source,) = figure.draw(made("metric_over_time")).select({"name": "metric_over_time"})
    assert [step for step, cell in enumerate(source.data["value"]) if math.isnan(cell)] == list(GAP)


def formulas(text: str) -> list[str]:
    """What BokehJS would set as a formula, as its source has it."""
    return [
        found
        for pattern in (r"\$\$.*?\$\$", r"\\\[.*?\\\]", r"\\\(.*?\\\)")
        for found in re.findall(pattern, text, re.DOTALL)
    ]


def test_names_are_text(figure: Any) -> None:
    """Whatever a class or a predictor is called: outside of columns, which a hover shows as text, nothing is a formula,
    markup or a placeholder."""
    charts = [
        chart.confusion_matrix(confusion(classes=HOSTILE)),
        chart.class_shares(
            [
                MetricValue(name="model_predicted_class_ratio", labels={"class": name}, value=0.1, support=9.0)
                for name in HOSTILE
            ]
        ),
        chart.compared_over_time(dict.fromkeys(HOSTILE, history()), ACCURACY),
        chart.score_histogram([{**row, "class": "$$x$$"} for row in tables()["thresholds"]], "$$x$$"),
    ]
    for one in charts:
        assert one is not None
        tree = drawn(figure, one)
        source_of(tree)["data"].clear()
        for node in nodes(tree):
            for tip in node.get("attributes", {}).get("tooltips", ()):
                assert re.fullmatch(r"@\w+", tip[1])
        shown = [part for node in nodes(tree) for part in node.values() if isinstance(part, str)]
        entries = [
            part for node in nodes(tree) for entry in node.get("entries", ()) for part in entry if isinstance(part, str)
        ]
        assert not [text for text in (*shown, *entries) if formulas(text)]
        assert any("$$x$$" in text.replace("\u200b", "") for text in (*shown, *entries)), "the names are there"
