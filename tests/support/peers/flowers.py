"""Flowers of three classes as a client sees them: features, and what turns out."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

CLASSES = 3
CENTRES = ((0.0, 0.0), (4.0, 0.0), (0.0, 4.0))


class Flower(NamedTuple):
    """Two features, and the class that turns out."""

    features: list[float]
    truth: int


def pick(number: int, seed: int) -> list[Flower]:
    """So many flowers, scattered about the centres of their classes: some look like another class."""
    chance = random.Random(seed)
    truths = [chance.randrange(CLASSES) for _ in range(number)]
    return [Flower([round(chance.gauss(middle, 1.5), 3) for middle in CENTRES[truth]], truth) for truth in truths]


def one_hot(truth: int) -> list[int]:
    return [int(index == truth) for index in range(CLASSES)]


def truth_forms(truth: int) -> list[dict[str, Any]]:
    """The data of a truth of one row, in each form that leaves no doubt."""
    return [
        {"ndarray": [truth]},
        {"ndarray": [one_hot(truth)]},
        {"tensor": {"shape": [1, CLASSES], "values": one_hot(truth)}},
        {"tensor": {"shape": [1, 1], "values": [truth]}},
    ]


def rows_of(response: dict[str, Any]) -> list[list[float]]:
    """The rows of an answer of a classifier."""
    data = response["data"]
    if "ndarray" in data:
        return data["ndarray"]
    width = data["tensor"]["shape"][1]
    values = data["tensor"]["values"]
    return [values[start : start + width] for start in range(0, len(values), width)]


def classes_of(response: dict[str, Any]) -> list[int]:
    """The class of each row of an answer."""
    return [row.index(max(row)) for row in rows_of(response)]
