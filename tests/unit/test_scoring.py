"""What a metric model may return: whatever it is harms only its own pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from metrics_server.metrics.model import Sample
from metrics_server.pairing.scoring import increments_of
from metrics_server.series.series import Identity, Labels, Scoring, Series

PAIRS = [(1.0, 0.0), (1.0, 1.0)]
PATH = "tests.unit.test_scoring.Returning"


class Returning:
    """A metric model that returns what it was made with."""

    def __init__(self, sums: Any) -> None:
        self.sums = sums

    def increments(self, y_true: Any, y_pred: Any) -> Mapping[str, float]:
        returned: Mapping[str, float] = self.sums
        return returned

    def compute(self, sums: Mapping[str, float]) -> Iterable[Sample]:
        return ()


class Items:
    """What has no more of a mapping than its items, as a table's column has `values` that are no method."""

    values = np.array([1.0])

    def items(self) -> Iterator[tuple[str, float]]:
        yield "n", 1.0


def scored(model: Returning) -> tuple[Mapping[str, float], int]:
    series = Series(Identity(Labels("", "d", "", "m"), Scoring(storage_uri=PATH)), lambda *_: model, 0.0, 0.0, {})
    return increments_of(series, model, PAIRS)


@pytest.mark.parametrize(
    "sums",
    [{"n": 1}, {"n": np.float64(1)}, {np.str_("n"): True}, MappingProxyType({"n": 1.0}), Items()],
    ids=["an int", "of numpy", "a subclass", "read-only", "items alone"],
)
def test_any_mapping_to_numbers_is_taken(sums: Any) -> None:
    """Whatever tells its items is taken, as plain names and floats."""
    found, refused = scored(Returning(sums))
    assert (found, refused) == ({"n": 1.0}, 0)
    assert [(type(name), type(value)) for name, value in found.items()] == [(str, float)]


def test_what_a_model_keeps_is_its_own() -> None:
    """A model that changes later what it returned changes nothing that was taken."""
    model = Returning({"n": 1.0})
    found, _ = scored(model)
    model.sums["n"] = 2.0
    assert found == {"n": 1.0}


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e300, -1e300])
def test_sums_that_could_not_be_taken_back_are_refused(bad: float) -> None:
    """NaN, an infinity, and numbers of which some pairs of some weight come to one, also where their sum is small."""
    assert scored(Returning({"n": 1.0, "x": bad, "y": -bad})) == ({}, len(PAIRS))
