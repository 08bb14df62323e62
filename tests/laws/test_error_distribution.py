"""The distribution of the errors of a regression: its table, and the quantiles of their magnitudes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cm_models.regression import Regression
from metrics_server.metrics.sums import add_into
from metrics_server.pairing.scoring import weighted

MODEL = Regression()
QUANTILES = {"median_absolute_error", "absolute_error_quantile"}
AT_AN_EDGE = 1e-9  # an error so near to an edge may be on either side of it

errors = st.one_of(
    st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) >= 1e-12),
    st.builds(lambda sign, power: sign * 10.0**power, st.sampled_from([-1, 1]), st.floats(-12, 12)),
    st.integers(-5, 5).map(float),
)


def sums_of(found: Sequence[float], weight: float = 1.0) -> dict[str, float]:
    """Sums of pairs with these errors."""
    sums = MODEL.increments(np.zeros(len(found)), np.array(found, dtype=float))
    return dict(sums if weight == 1 or not sums else weighted(sums, len(found), weight))


@settings(max_examples=200, deadline=None)
@given(st.lists(errors, min_size=1, max_size=200), st.lists(errors, max_size=5), st.sampled_from([1.0, 0.1, 3.0]))
@example([0.0, *(sign * 1.05**power for sign in (-1, 1) for power in range(-566, 566))], [0.0], 1.0)
def test_rows_count_the_errors(found: list[float], gone: list[float], weight: float) -> None:
    """Of at most 200 rows, ascending and apart, each has the pairs whose error is within it; also when others were
    taken back."""
    sums = sums_of(found, weight)
    add_into(sums, sums_of(gone, weight))
    add_into(sums, sums_of(gone, weight), -1)
    rows = MODEL.tables(sums)["errors"]
    edges = np.array([(row["lower"], row["upper"]) for row in rows])
    assert len(rows) <= 200
    assert sum(row["pairs"] for row in rows) == pytest.approx(weight * len(found))
    assert (edges[:, 0] < edges[:, 1]).all()
    assert (edges[:-1, 1] <= edges[1:, 0] + AT_AN_EDGE * np.abs(edges[1:, 0])).all()
    assert (edges.prod(axis=1) < 0).sum() == (np.abs(found) < 1e-12).any(), "only zeros have a row of both signs"
    for lower, upper, pairs in [tuple(row.values()) for row in rows]:
        fewest, most = (
            weight
            * np.count_nonzero(
                np.greater_equal(found, lower + edge * abs(lower)) & np.less_equal(found, upper - edge * abs(upper))
            )
            for edge in (AT_AN_EDGE, -AT_AN_EDGE)
        )
        assert fewest - 1e-6 <= pairs <= most + 1e-6


def test_rows_of_few_errors_are_fine() -> None:
    """While there are few, errors that differ by more than 5 % have rows of their own, which are 5 % wide."""
    rows = MODEL.tables(sums_of([-30.0, -28.0, -0.5, 0.0, 0.5, 0.53]))["errors"]
    assert [row["pairs"] for row in rows] == [1.0] * 6
    assert [row["lower"] / row["upper"] for row in rows] == pytest.approx([1.05, 1.05, 1.05, -1, 1 / 1.05, 1 / 1.05])


def test_wide_rows_are_wide_everywhere() -> None:
    """Where rows are put together, each is as wide on the scale as any other, of either sign."""
    rows = MODEL.tables(sums_of([*(1.05**power for power in range(-300, 300)), -1.0]))["errors"]
    ratios = [max(row["upper"] / row["lower"], row["lower"] / row["upper"]) for row in rows]
    assert ratios == pytest.approx([ratios[0]] * len(rows))
    assert 100 <= len(rows) <= 200


def test_no_pair_has_no_table() -> None:
    """Before the first pair, or when all were taken back, there is no table."""
    sums = sums_of([1.0, -2.0])
    add_into(sums, sums_of([1.0, -2.0]), -1)
    assert MODEL.tables({}) == MODEL.tables(sums) == {}


def test_quantiles_are_of_magnitudes() -> None:
    """The median of absolute errors lies between the sizes of errors of either sign, and so does that of equal ones."""
    for found, median in (([-7.0, 3.0], 5.0), ([7.0, -3.0], 5.0), ([-2.0, 2.0, 9.0], 2.0)):
        values = {sample.name: sample.value for sample in MODEL.compute(sums_of(found))}
        assert values["median_absolute_error"] == pytest.approx(median, rel=0.025)


@pytest.mark.parametrize("weight", [0.001, 0.1, 1.0, 1000.0])
def test_quantiles_stay_when_other_pairs_leave(weight: float) -> None:
    """What is left after a thousand pairs of another weight were taken back has its quantiles and its table."""
    sums, away = sums_of([0.5, -1.5, 2.5], weight), np.random.default_rng(5).normal(0, 3, 1000)
    for sign in (1, -1):
        for part in np.split(away, 100):
            add_into(sums, sums_of(part.tolist(), 0.7), sign)
    assert {sample.name for sample in MODEL.compute(sums)} >= QUANTILES
    rows = MODEL.tables(sums)["errors"]
    assert [row["pairs"] for row in rows] == pytest.approx([weight] * 3)
