"""The catalogue of exposed series: every name with its type and help, in one table that docs and exposition share."""

from __future__ import annotations

from typing import NamedTuple

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

_WINDOW = "By prediction time, in the window."
_ARRIVAL = "By arrival of the label."


class Family(NamedTuple):
    """A metric family: its type, its help text, and the labels it has beside those of the series."""

    type: str
    help: str
    labels: tuple[str, ...] = ()


MODEL: dict[str, Family] = {
    "model_predictions": Family(COUNTER, "Rows seen in the request log, by arrival."),
    "model_predicted_class": Family(COUNTER, "Rows seen in the request log by predicted class, by arrival.", ("class",)),
    "model_labels": Family(COUNTER, f"Rows of truth by what became of them. {_ARRIVAL}", ("status",)),
    "model_confusion": Family(
        COUNTER, f"Labelled predictions by true and predicted class, each time applied. {_ARRIVAL}", ("truth", "prediction")
    ),
    "model_confusion_retracted": Family(
        COUNTER, f"Labelled predictions that a correction took back, by true and predicted class. {_ARRIVAL}", ("truth", "prediction")
    ),
    "model_rewards": Family(COUNTER, "Feedback that carried a reward, by arrival."),
    "model_reward_mean": Family(GAUGE, f"Mean reward. {_WINDOW}", ("window",)),
    "model_label_coverage_ratio": Family(
        GAUGE,
        "Labelled rows by rows of the request log; absent when nothing was logged, or more was labelled than logged. " + _WINDOW,
        ("window",),
    ),
    "model_label_delay_seconds": Family(
        HISTOGRAM, f"From the prediction to its first label, of rows of the request log, by the times of both events. {_ARRIVAL}"
    ),
    "model_prediction_latency_seconds": Family(
        HISTOGRAM, "From the request event to the response event, by the times of both; of those that came close together. By arrival."
    ),
    "model_last_prediction_timestamp_seconds": Family(GAUGE, "When the last row of the request log arrived."),
    "model_last_label_timestamp_seconds": Family(GAUGE, "When the last label that met a prediction arrived."),
    "model_support": Family(GAUGE, f"Labelled predictions. {_WINDOW}", ("window",)),
    "model_accuracy_ratio": Family(GAUGE, f"Share of labelled predictions that are right. {_WINDOW}", ("window",)),
    "model_accuracy_ratio_lower": Family(GAUGE, f"Lower end of the 95 % Wilson interval of the accuracy. {_WINDOW}", ("window",)),
    "model_accuracy_ratio_upper": Family(GAUGE, f"Upper end of the 95 % Wilson interval of the accuracy. {_WINDOW}", ("window",)),
    "model_precision_ratio": Family(GAUGE, f"tp / (tp + fp) of a class. {_WINDOW}", ("window", "class")),
    "model_recall_ratio": Family(GAUGE, f"tp / (tp + fn) of a class. {_WINDOW}", ("window", "class")),
    "model_f1_ratio": Family(GAUGE, f"2 tp / (2 tp + fp + fn) of a class. {_WINDOW}", ("window", "class")),
    "model_precision_macro_ratio": Family(GAUGE, f"Mean precision of the classes for which it is defined. {_WINDOW}", ("window",)),
    "model_precision_weighted_ratio": Family(GAUGE, f"Precision of the classes weighted by their support. {_WINDOW}", ("window",)),
    "model_recall_macro_ratio": Family(GAUGE, f"Mean recall of the classes for which it is defined. {_WINDOW}", ("window",)),
    "model_recall_weighted_ratio": Family(GAUGE, f"Recall of the classes weighted by their support. {_WINDOW}", ("window",)),
    "model_f1_macro_ratio": Family(GAUGE, f"Mean F1 of the classes for which it is defined. {_WINDOW}", ("window",)),
    "model_f1_weighted_ratio": Family(GAUGE, f"F1 of the classes weighted by their support. {_WINDOW}", ("window",)),
    "model_mean_error": Family(GAUGE, f"Mean of prediction minus truth, in the unit of the target. {_WINDOW}", ("window",)),
    "model_mean_absolute_error": Family(GAUGE, f"Mean of |prediction - truth|, in the unit of the target. {_WINDOW}", ("window",)),
    "model_mean_squared_error": Family(GAUGE, f"Mean of (prediction - truth)², in the unit of the target squared. {_WINDOW}", ("window",)),
    "model_root_mean_squared_error": Family(GAUGE, f"Root of the mean squared error, in the unit of the target. {_WINDOW}", ("window",)),
    "model_output_mean": Family(GAUGE, f"Mean of numeric predictions in the request log, labelled or not. {_WINDOW}", ("window",)),
    "model_output_min": Family(GAUGE, f"Smallest numeric prediction in the request log, to 2.5 %. {_WINDOW}", ("window",)),
    "model_output_max": Family(GAUGE, f"Largest numeric prediction in the request log, to 2.5 %. {_WINDOW}", ("window",)),
    "model_output_quantile": Family(GAUGE, f"Quantile of numeric predictions in the request log, to 2.5 %. {_WINDOW}", ("window", "q")),
}

_SELDON = "Counted as Seldon's MetricsServer does, once for each prediction by its first truth; corrections move only model_ series. {}"
SELDON: dict[str, Family] = {
    "seldon_metric_true_positive": Family(COUNTER, _SELDON.format("Truth and prediction are this class."), ("class",)),
    "seldon_metric_true_negative": Family(
        COUNTER, _SELDON.format("For classes the same number as true_positive, as existing dashboards expect."), ("class",)
    ),
    "seldon_metric_false_positive": Family(COUNTER, _SELDON.format("Predicted as this class, and is another."), ("class",)),
    "seldon_metric_false_negative": Family(COUNTER, _SELDON.format("Is this class, and was predicted as another."), ("class",)),
}


def family_of(name: str, kind: str) -> Family:
    """The family of this name; of a name that only a user's own metric model knows, a general one."""
    known = MODEL.get(name) or SELDON.get(name)
    clock = _WINDOW if kind == GAUGE else _ARRIVAL
    return known or Family(kind, f"{name} of a metric model of this deployment. {clock}")
