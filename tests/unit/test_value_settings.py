"""A value matrix has four numbers, or one for right and one for wrong ones; what cannot be is refused with what would
be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from metrics_server.errors import BadConfiguration
from metrics_server.series.series import Labels
from metrics_server.settings import Settings, load, reloaded
from tests.support.valued import VALUES

WINE = Labels("shop", "wine", "main", "classifier")


def _loaded(directory: Path, **entry: Any) -> Settings:
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump({"deployments": [{"deployment": "beer"}, {"deployment": "wine", **entry}]}))
    return load(["--config", str(path)], {})


def test_it_is_of_its_deployment(tmp_path: Path) -> None:
    """The first entry that matches has it; others have none."""
    settings = _loaded(tmp_path, value_matrix=VALUES)
    found = settings.value_matrix_of(WINE)
    assert found is not None
    assert found.values == {("1", "1"): 10, ("0", "1"): -45, ("0", "0"): 0, ("1", "0"): -20}
    assert found.bounds == (-45, 10)
    assert settings.value_matrix_of(WINE._replace(deployment="beer")) is None


def test_classes_are_named_or_indexes(tmp_path: Path) -> None:
    """An index need not be quoted, as YAML reads it as a number; one beyond the names is one."""
    cells = {"red": {1: -3, "white": 2}, 7: {"0": 1}}
    found = _loaded(tmp_path, value_matrix={"right": 1, "wrong": -1, "cells": cells}, class_names=["red", "white"])
    matrix = found.value_matrix_of(WINE)
    assert matrix is not None
    assert (matrix.right, matrix.wrong) == (1, -1)
    assert matrix.values == {("red", "1"): -3, ("red", "white"): 2, ("7", "0"): 1}


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ({"true_positive": 1.0}, ": want true_positive, false_positive, true_negative and false_negative; or right,"),
        ({**VALUES, "right": 1}, ": want true_positive, false_positive"),
        ({"right": 1}, ": want true_positive, false_positive"),
        ({"cells": {"red": {"white": 1}}}, ": want true_positive, false_positive"),
        ({}, ": want true_positive, false_positive"),
        ({**VALUES, "true_negativ": 1}, ": Object contains unknown field `true_negativ`"),
        ({**VALUES, "true_positive": "much"}, ".true_positive much: want a number"),
        ({**VALUES, "true_positive": float("nan")}, ".true_positive nan: want a number"),
        ({**VALUES, "true_positive": -1e13}, "want a number up to 1e12, and from -1e12"),
        ({"right": 1, "wrong": float("inf")}, ".wrong inf: want a number"),
        (7, " 7: want numbers by what a pair is, such as true_positive"),
        ({"right": 1, "wrong": 0, "cells": {"red": -1}}, "want numbers by the class that is true, then predicted"),
        ({"right": 1, "wrong": 0, "cells": {"red": {"white": "x"}}}, "want numbers by the class that is true"),
        ({"right": 1, "wrong": 0, "cells": {"": {"white": 1}}}, ".cells: want a text for the name of each member"),
        ({"right": 1, "wrong": 0, "cells": {True: {"white": 1}}}, ".cells: want a text for the name of each member"),
        (
            {"right": 1, "wrong": 0, "cells": {"red": {"wihte": 1}}},
            ".cells 'wihte': want one of class_names, red, white",
        ),
    ],
)
def test_a_matrix_that_cannot_be_is_refused(matrix: object, message: str, tmp_path: Path) -> None:
    """The refusal names the entry and says what would be right, also of a class that is misspelt."""
    with pytest.raises(BadConfiguration) as refused:
        _loaded(tmp_path, value_matrix=matrix, class_names=["red", "white"])
    assert str(refused.value).startswith("--deployments[1].value_matrix")
    assert message in str(refused.value)


def test_it_is_taken_without_a_restart(tmp_path: Path) -> None:
    """Values are read from the sums that there are: no series depends on it."""
    one, other = (_loaded(tmp_path, value_matrix={**VALUES, "true_positive": value}) for value in (1, 2))
    assert reloaded(one, other) == (other, ["deployments"], [])
