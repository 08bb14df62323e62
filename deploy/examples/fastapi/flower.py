# ruff: noqa: INP001 - it lies beside the programs that import it
"""Flowers to ask about, made up, with their true species; and what is posted for them."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

# Mean and deviation of each measure in the Iris data set: length and width of sepals and petals in centimetres.
MEASURES = {
    "setosa": ((5.01, 0.35), (3.43, 0.38), (1.46, 0.17), (0.25, 0.11)),
    "versicolor": ((5.94, 0.52), (2.77, 0.31), (4.26, 0.47), (1.33, 0.20)),
    "virginica": ((6.59, 0.64), (2.97, 0.32), (5.55, 0.55), (2.03, 0.27)),
}


class Flower(NamedTuple):
    """One flower: its measures, and what it is."""

    measures: list[float]
    species: str


def flower(random: Random) -> Flower:
    """Returns a flower of any species, which a good model mostly gets right."""
    species = random.choice(list(MEASURES))
    return Flower([round(random.gauss(mean, deviation), 1) for mean, deviation in MEASURES[species]], species)


def question(asked: Flower) -> dict[str, Any]:
    """Returns the body of `POST /predict`."""
    return {"rows": [asked.measures]}


def statement(asked: Flower, request_id: str) -> dict[str, Any]:
    """Returns the body of `POST /v1/feedback` of the feedback metrics server: the true class, as a column of scores."""
    return {
        "namespace": "examples",
        "deployment": "iris",
        "request_id": request_id,
        "row": 0,
        "truth": list(MEASURES).index(asked.species),
    }
