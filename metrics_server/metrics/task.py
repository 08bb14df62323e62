"""Tasks: what a raw truth row and a raw prediction row mean together, and which metric model suits them.

A raw row is what a payload holds for one prediction: a number, a boolean, a string, or a list of two or more numbers;
None is a retracted truth, or a prediction that no metric can read. Each task turns a pair of raw rows into the two
values its models take, or says why it cannot. That is decided here, once, so that no model looks at types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from metrics_server.errors import BadConfiguration
from metrics_server.metrics.labels import LabelStatus
from metrics_server.metrics.model import Array, MetricModel, load

RowValue: TypeAlias = "float | int | bool | str | list[float] | None"
Resolved: TypeAlias = "tuple[RowValue, RowValue] | LabelStatus"
Resolver: TypeAlias = Callable[[RowValue, RowValue, Sequence[str]], Resolved]


MOST_LABELS = 1000  # of a row of many labels, each of which takes three sums
COUNTED_INDEXES = 100  # numbers below are counted as the classes that they may turn out to be
LONGEST_LABEL = 256  # characters; a longer string is text, not a class

_INTEGRAL = re.compile(r"(-?(?:0|[1-9][0-9]{0,15}))(?:\.0+)?")


# Indexes of columns as labels; making a text of a number is a tenth of all that is done for a pair.
_INDEXES = tuple(map(str, range(1000)))


def label_of(value: RowValue, class_names: Sequence[str] = ()) -> str | None:
    """The class that a scalar names, or None: 2, 2.0 and "2" are one class; with class names, index 2 is the third
    name.

    A boolean is class 1 or 0. A fraction or a text longer than 256 characters is no class.
    """
    if isinstance(value, str):
        if len(value) > LONGEST_LABEL:
            return None
        if not (match := _INTEGRAL.fullmatch(value)):
            return value
        value = int(match[1])
    if not isinstance(value, (bool, int, float)) or value != int(value):
        return None
    index = int(value)
    return class_names[index] if 0 <= index < len(class_names) else str(index)


def class_of(value: RowValue, class_names: Sequence[str] = ()) -> str | None:
    """The class of a raw row: its label, or the first largest column of a row of probabilities or a one-hot row."""
    if isinstance(value, list):
        index = value.index(max(value))
        return _INDEXES[index] if not class_names and index < len(_INDEXES) else label_of(index, class_names)
    return label_of(value, class_names)


def _multiclass(truth: RowValue, prediction: RowValue, class_names: Sequence[str]) -> Resolved:
    """Two class labels."""
    if prediction is None or (
        isinstance(truth, list) and isinstance(prediction, list) and len(truth) != len(prediction)
    ):
        return LabelStatus.UNSCORABLE
    y_true, y_pred = class_of(truth, class_names), class_of(prediction, class_names)
    if y_true is None or y_pred is None:
        return LabelStatus.TASK_MISMATCH
    if isinstance(prediction, list) and not isinstance(truth, list) and _is_name(y_true, class_names):
        return LabelStatus.UNSCORABLE  # a name against columns that nobody has named
    return y_true, y_pred


def _one_hot(truth: RowValue, prediction: RowValue, class_names: Sequence[str]) -> Resolved:
    """The class label of the truth; of the prediction the row of scores, or the label that stands in its place."""
    resolved = _multiclass(truth, prediction, class_names)
    return (resolved[0], prediction) if isinstance(prediction, list) and not isinstance(resolved, str) else resolved


def _is_name(label: str, class_names: Sequence[str]) -> bool:
    return label not in class_names and not _INTEGRAL.fullmatch(label)


def _binary(truth: RowValue, prediction: RowValue, class_names: Sequence[str]) -> Resolved:
    """The truth as 0 or 1, and the score of class 1 in [0, 1]."""
    if prediction is None:
        return LabelStatus.UNSCORABLE
    y_true, y_score = _binary_class(truth, class_names), _binary_score(prediction, class_names)
    if y_true is None or y_score is None:
        return LabelStatus.TASK_MISMATCH
    return y_true, y_score


def _binary_class(value: RowValue, class_names: Sequence[str]) -> float | None:
    label = class_of(value, class_names)
    if isinstance(value, list) and len(value) != 2:
        return None
    names = class_names if len(class_names) == 2 else ("0", "1")
    return float(names.index(label)) if label in names else None


def _binary_score(value: RowValue, class_names: Sequence[str]) -> float | None:
    if isinstance(value, list):
        return float(value[1]) if len(value) == 2 and 0 <= value[1] <= 1 else None
    if isinstance(value, (bool, int, float)):
        return float(value) if 0 <= value <= 1 else None
    return _binary_class(value, class_names)


def decision_of(value: RowValue, threshold: float, class_names: Sequence[str] = ()) -> str | None:
    """The class that a binary prediction comes to: "1" when its score reaches the threshold; None if it is no score."""
    score = _binary_score(value, class_names)
    return None if score is None else str(int(score >= threshold))


def class_of_output(value: RowValue, task: str, threshold: float, class_names: Sequence[str] = ()) -> str | None:
    """The class that a prediction is, as far as a task that is not settled yet ("") may make it one; None if it is
    none.

    A number may be the index of a class, up to a hundred, or the score of class 1.
    """
    if task == "binary" or (isinstance(value, float) and 0 < value < 1):
        return decision_of(value, threshold, class_names)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return class_of(value, class_names) if not is_number or 0 <= value < COUNTED_INDEXES else None  # type: ignore[operator]


def _regression(truth: RowValue, prediction: RowValue, class_names: Sequence[str]) -> Resolved:
    """Two numbers."""
    if prediction is None:
        return LabelStatus.UNSCORABLE
    if not isinstance(truth, (int, float)) or not isinstance(prediction, (int, float)):
        return LabelStatus.TASK_MISMATCH
    return float(truth), float(prediction)


def _multilabel(truth: RowValue, prediction: RowValue, class_names: Sequence[str]) -> Resolved:
    """Of each label whether it holds, 0 or 1, and its score in [0, 1]."""
    if prediction is None:
        return LabelStatus.UNSCORABLE
    if not isinstance(truth, list) or not isinstance(prediction, list):
        return LabelStatus.TASK_MISMATCH
    if len(truth) != len(prediction):
        return LabelStatus.UNSCORABLE
    if len(truth) > MOST_LABELS:
        return LabelStatus.TASK_MISMATCH
    fits = {0.0, 1.0}.issuperset(truth) and min(prediction) >= 0 and max(prediction) <= 1
    return (truth, prediction) if fits else LabelStatus.TASK_MISMATCH


def _ranking(truth: RowValue, prediction: RowValue, class_names: Sequence[str]) -> Resolved:
    """Of each candidate how relevant it is, 0 or more, and its score."""
    if prediction is None:
        return LabelStatus.UNSCORABLE
    if not isinstance(prediction, list):
        return LabelStatus.TASK_MISMATCH
    grades = truth if isinstance(truth, list) else _only_relevant(truth, len(prediction), class_names)
    if grades is not None and len(grades) != len(prediction):
        return LabelStatus.UNSCORABLE
    return LabelStatus.TASK_MISMATCH if grades is None or min(grades) < 0 else (grades, prediction)


def _only_relevant(value: RowValue, candidates: int, class_names: Sequence[str]) -> list[float] | None:
    """The grades when one candidate is relevant, given by its index or its name; None if it is not among them."""
    label = None if isinstance(value, bool) else label_of(value, class_names)
    if label is None or _is_name(label, class_names):
        return None
    index = class_names.index(label) if label in class_names else int(label)
    return [float(candidate == index) for candidate in range(candidates)] if 0 <= index < candidates else None


_THUMBS = {"up": 1.0, "thumbs_up": 1.0, "down": -1.0, "thumbs_down": -1.0}


def _feedback(truth: RowValue, prediction: RowValue, class_names: Sequence[str]) -> Resolved:
    """The rating, up being 1 and down -1; and 0 for the prediction, which may be anything, also what no metric can
    read.
    """
    if isinstance(truth, str):
        rating = _THUMBS.get(truth.lower())
        return LabelStatus.TASK_MISMATCH if rating is None else (rating, 0.0)
    return (float(truth), 0.0) if isinstance(truth, (int, float)) else LabelStatus.TASK_MISMATCH


def _any(truth: RowValue, prediction: RowValue, class_names: Sequence[str]) -> Resolved:
    """Both as they came."""
    return LabelStatus.UNSCORABLE if prediction is None else (truth, prediction)


TASKS: dict[str, Resolver] = {
    "multiclass": _multiclass,
    "one_hot": _one_hot,
    "binary": _binary,
    "regression": _regression,
    "multilabel": _multilabel,
    "ranking": _ranking,
    "feedback": _feedback,
    "any": _any,
}
# Those whose values are classes, each of which is given a slot in its series.
CLASSIFYING = frozenset(("multiclass", "one_hot"))


# Tasks whose rows may be lists on both sides, as they stand.
OF_ROWS = frozenset(("one_hot", "multilabel", "ranking"))


def is_row(values: Sequence[RowValue], task: str) -> bool:
    """Tells whether a flat list may be one row of a task rather than a list of rows.

    For many labels it holds 0 and 1, for a ranking grades; for all others it is one-hot.

    >>> is_row([0, 0, 1], "one_hot"), is_row([2, 0, 1], "one_hot"), is_row([2, 0, 1], "ranking")
    (True, False, True)
    """
    if not all(isinstance(value, (bool, int, float)) for value in values):
        return False
    if task == "ranking":
        return min(values) >= 0  # type: ignore[type-var,operator]
    if task == "multilabel":
        return {0, 1}.issuperset(values)
    return values.count(1) == 1 and values.count(0) == len(values) - 1


def infer_model_path(
    truth: RowValue, prediction: RowValue, max_classes: int, class_names: Sequence[str] = ()
) -> str | None:
    """The dotted path of the metric model that suits the first pair of a series, from both sides; None for no model.

    >>> infer_model_path(2, [0.1, 0.2, 0.7], 1000)
    'cm_models.multiclass_one_hot.MulticlassOneHot'
    >>> infer_model_path(1, 0.83, 1000), infer_model_path(12.5, 11.0, 1000)
    ('cm_models.binary_metrics.BinaryMetrics', 'cm_models.regression.Regression')
    """
    if prediction is None or truth is None:
        return None
    if isinstance(prediction, list) or isinstance(truth, list):
        return _PATHS["one_hot"] if _is_pair_of_rows(truth, prediction, class_names) else None
    if _is_boolean_pair(truth, prediction) or _is_score_against_class(truth, prediction):
        return _PATHS["binary"]
    are_classes = None not in (label_of(truth), label_of(prediction))
    if isinstance(truth, str) or isinstance(prediction, str):
        return _PATHS["numeric"] if are_classes else None
    are_indexes = are_classes and all(0 <= value < max_classes for value in (truth, prediction))
    return _PATHS["numeric" if are_indexes else "regression"]


_PATHS = {
    "one_hot": "cm_models.multiclass_one_hot.MulticlassOneHot",
    "binary": "cm_models.binary_metrics.BinaryMetrics",
    "numeric": "cm_models.multiclass_numeric.MultiClassNumeric",
    "regression": "cm_models.regression.Regression",
}


def _is_pair_of_rows(truth: RowValue, prediction: RowValue, class_names: Sequence[str]) -> bool:
    """Tells whether a row of scores and a class, or a one-hot row, can be scored together."""
    if isinstance(prediction, list):
        failures = (LabelStatus.UNSCORABLE, LabelStatus.TASK_MISMATCH)
        return _multiclass(truth, prediction, class_names) not in failures
    return label_of(prediction) is not None


def _is_boolean_pair(truth: RowValue, prediction: RowValue) -> bool:
    both = (truth, prediction)
    return any(isinstance(value, bool) for value in both) and all(value in (0, 1) for value in both)


def _is_score_against_class(truth: RowValue, prediction: RowValue) -> bool:
    return isinstance(prediction, float) and truth in (0, 1) and 0 <= prediction <= 1 and not prediction.is_integer()


def model_of(path: str, parameters: Mapping[str, object], *, allow_pickle: bool) -> MetricModel:
    """The metric model at a dotted path, made with those of these parameters that it takes.

    Raises:
        BadConfiguration: it cannot be loaded, or its task is none of the table.
    """
    model = load(path, parameters, allow_pickle=allow_pickle)
    if (wanted := getattr(model, "task", "any")) not in TASKS:
        raise BadConfiguration(f"--storage_uri {path}: its task is {wanted!r}; want one of {', '.join(TASKS)}")
    return model


def array_of(values: Sequence[RowValue]) -> Array:
    """Values of one kind as an array: float of shape (n,) or (n, k), or an object array of strings of shape (n,)."""
    if values and isinstance(values[0], str):
        return np.array(values, dtype=object)
    return np.array(values, dtype=float)


def array_kind(value: RowValue) -> int:
    """Values of one kind fit one array: -1 for strings, 0 for numbers, the width for rows."""
    if isinstance(value, list):
        return len(value)
    return -1 if isinstance(value, str) else 0
