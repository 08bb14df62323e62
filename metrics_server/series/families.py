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


_OWN: dict[str, Family] = {
    "model_predictions": Family(COUNTER, "Rows seen in the request log, by arrival."),
    "model_predicted_class": Family(
        COUNTER, "Rows seen in the request log by predicted class, by arrival.", ("class",)
    ),
    "model_labels": Family(COUNTER, f"Rows of truth by what became of them. {_ARRIVAL}", ("status",)),
    "model_confusion": Family(
        COUNTER,
        f"Labelled predictions by true and predicted class, each time applied. {_ARRIVAL}",
        ("truth", "prediction"),
    ),
    "model_confusion_retracted": Family(
        COUNTER,
        f"Labelled predictions that a correction took back, by true and predicted class. {_ARRIVAL}",
        ("truth", "prediction"),
    ),
    "model_ratings": Family(COUNTER, f"Ratings by value, each time applied. {_ARRIVAL}", ("value",)),
    "model_ratings_retracted": Family(
        COUNTER, f"Ratings that a correction took back, by value. {_ARRIVAL}", ("value",)
    ),
    "model_rewards": Family(COUNTER, "Feedback that carried a reward, by arrival."),
    "model_reward_values": Family(
        COUNTER, "The same by the reward, of whole numbers from -10 to 10. By arrival.", ("value",)
    ),
    "model_label_coverage_ratio": Family(
        GAUGE,
        "Labelled rows by rows of the request log; absent when nothing was logged, or more was labelled than logged. "
        + _WINDOW,
        ("window",),
    ),
    "model_label_delay_seconds": Family(
        HISTOGRAM,
        f"From the prediction to its first label, of rows of the request log, by the times of both events. {_ARRIVAL}",
    ),
    "model_prediction_latency_seconds": Family(
        HISTOGRAM,
        "From the request event to the response event, by the times of both; of those that came close together. By arrival.",
    ),
    "model_last_prediction_timestamp_seconds": Family(GAUGE, "When the last row of the request log arrived."),
    "model_last_label_timestamp_seconds": Family(GAUGE, "When the last label that met a prediction arrived."),
    "model_support": Family(GAUGE, f"Labelled predictions. {_WINDOW}", ("window",)),
}


class GaugeSpec(NamedTuple):
    """A gauge by window: what it is, its further labels, and whether the ends of its 95 % interval are gauges too.

    Attributes:
        better: 1 if more of it is better, -1 if less is, 0 if neither.
    """

    help: str
    labels: tuple[str, ...] = ()
    has_interval: bool = False
    better: int = 1


def _averaged(name: str, of: str, *, micro: str) -> dict[str, GaugeSpec]:
    """A ratio of classes and its averages over them."""
    return {
        f"model_{name}_ratio": GaugeSpec(f"{of} of a class, or of a label of many.", ("class",)),
        f"model_{name}_micro_ratio": GaugeSpec(micro, (), has_interval=True),
        f"model_{name}_macro_ratio": GaugeSpec(
            f"Mean {name} of the classes for which it is defined.", (), has_interval=True
        ),
        f"model_{name}_weighted_ratio": GaugeSpec(
            f"Mean {name} of the classes weighted by their support.", (), has_interval=True
        ),
    }


_ERROR = "prediction - truth"
_VALUES: dict[str, GaugeSpec] = {
    "model_reward_mean": GaugeSpec("Mean reward.", (), has_interval=True),
    "model_reward_ratio": GaugeSpec(
        "Share of rewards that are this whole number, from -10 to 10.", ("value",), better=0
    ),
    "model_output_mean": GaugeSpec(
        "Mean of numeric predictions in the request log, labelled or not.", (), has_interval=True, better=0
    ),
    "model_output_min": GaugeSpec("Smallest numeric prediction in the request log, to 2.5 %.", better=0),
    "model_output_max": GaugeSpec("Largest numeric prediction in the request log, to 2.5 %.", better=0),
    "model_output_quantile": GaugeSpec(
        "Quantile of numeric predictions in the request log, to 2.5 %.", ("q",), better=0
    ),
    "model_predicted_class_ratio": GaugeSpec(
        "Share of predictions in the request log that are this class, labelled or not.", ("class",), better=0
    ),
    "model_accuracy_ratio": GaugeSpec("Share of labelled predictions that are right.", (), has_interval=True),
    "model_balanced_accuracy_ratio": GaugeSpec("Mean recall of the classes that occur.", (), has_interval=True),
    **_averaged(
        "precision", "tp / (tp + fp)", micro="tp / (tp + fp) of all classes together; of one label each the accuracy."
    ),
    **_averaged(
        "recall", "tp / (tp + fn)", micro="tp / (tp + fn) of all classes together; of one label each the accuracy."
    ),
    **_averaged(
        "f1",
        "2 tp / (2 tp + fp + fn)",
        micro="2 tp / (2 tp + fp + fn) of all classes together; of one label each the accuracy.",
    ),
    "model_specificity_ratio": GaugeSpec("tn / (tn + fp) of a class.", ("class",)),
    "model_matthews_correlation": GaugeSpec("Correlation of truth and prediction, -1 to 1.", (), has_interval=True),
    "model_cohen_kappa": GaugeSpec("Agreement beyond chance, -1 to 1.", (), has_interval=True),
    "model_top_k_accuracy_ratio": GaugeSpec(
        "Share of rows whose true class is among the k highest scores.", ("k",), has_interval=True
    ),
    "model_log_loss": GaugeSpec(
        "Mean of -ln of the probability given to the true class.", (), has_interval=True, better=-1
    ),
    "model_brier_score": GaugeSpec(
        "Mean squared distance of the probabilities from the truth: 0 to 2, of two classes 0 to 1.",
        (),
        has_interval=True,
        better=-1,
    ),
    "model_calibration_error_ratio": GaugeSpec(
        "Mean distance of probability and share of hits, over ten bins of probability.", better=-1
    ),
    "model_roc_auc_ratio": GaugeSpec(
        "Area under the ROC curve of a class against the rest, from binned scores.", ("class",)
    ),
    "model_roc_auc_macro_ratio": GaugeSpec(
        "Mean area under the ROC curve of the classes for which it is defined.", (), has_interval=True
    ),
    "model_average_precision_ratio": GaugeSpec(
        "Average precision of a class against the rest, from binned scores.", ("class",)
    ),
    "model_average_precision_macro_ratio": GaugeSpec(
        "Mean average precision of the classes for which it is defined.", (), has_interval=True
    ),
    "model_exact_match_ratio": GaugeSpec(
        "Share of labelled predictions all of whose labels are right.", (), has_interval=True
    ),
    "model_hamming_loss": GaugeSpec(
        "Mean share of a prediction's labels that are wrong.", (), has_interval=True, better=-1
    ),
    "model_jaccard_samples_ratio": GaugeSpec(
        "Mean over predictions of the labels that hold and were predicted by those that hold or were; of predictions with any.",
        (),
        has_interval=True,
    ),
    "model_ndcg": GaugeSpec(
        "Mean nDCG of the first k candidates, of predictions with a relevant one; equal scores share their ranks.",
        ("k",),
        has_interval=True,
    ),
    "model_mean_average_precision": GaugeSpec(
        "Mean average precision of the first k candidates, of predictions with a relevant one.",
        ("k",),
        has_interval=True,
    ),
    "model_hit_ratio": GaugeSpec(
        "Share of predictions with a relevant candidate among the first k, of those that have one.",
        ("k",),
        has_interval=True,
    ),
    "model_mean_reciprocal_rank": GaugeSpec(
        "Mean of 1 / rank of the first relevant candidate, of predictions with a relevant one.", (), has_interval=True
    ),
    "model_rating_mean": GaugeSpec("Mean rating; a thumb up is 1, down -1, a boolean 1 or 0.", (), has_interval=True),
    "model_rating_ratio": GaugeSpec(
        "Share of ratings of this value, an integer from -10 to 10, or other.", ("value",), better=0
    ),
    "model_thumbs_up_ratio": GaugeSpec(
        "Share of thumbs up; absent when any rating of the window is none of 1, 0 and -1.", (), has_interval=True
    ),
    "model_mean_error": GaugeSpec(f"Mean of {_ERROR}, in the unit of the target.", (), has_interval=True, better=0),
    "model_mean_absolute_error": GaugeSpec(
        f"Mean of |{_ERROR}|, in the unit of the target.", (), has_interval=True, better=-1
    ),
    "model_mean_squared_error": GaugeSpec(
        f"Mean of ({_ERROR})², in the unit of the target squared.", (), has_interval=True, better=-1
    ),
    "model_root_mean_squared_error": GaugeSpec(
        "Root of the mean squared error, in the unit of the target.", (), has_interval=True, better=-1
    ),
    "model_mean_absolute_percentage_error_ratio": GaugeSpec(
        f"Mean of |{_ERROR}| / |truth|, of pairs whose truth is not 0.", (), has_interval=True, better=-1
    ),
    "model_weighted_absolute_percentage_error_ratio": GaugeSpec(
        f"Sum of |{_ERROR}| by the sum of |truth|.", (), has_interval=True, better=-1
    ),
    "model_r2": GaugeSpec("1 - mean squared error / variance of the truths."),
    "model_median_absolute_error": GaugeSpec(
        f"Median of |{_ERROR}|, in the unit of the target, to 2.5 %.", (), has_interval=True, better=-1
    ),
    "model_absolute_error_quantile": GaugeSpec(
        f"Quantile of |{_ERROR}|, in the unit of the target, to 2.5 %.", ("q",), has_interval=True, better=-1
    ),
}


def _gauges() -> dict[str, Family]:
    found = {}
    for name, value in _VALUES.items():
        labels = ("window", *value.labels)
        found[name] = Family(GAUGE, f"{value.help} {_WINDOW}", labels)
        if value.has_interval:
            for end, word in (("lower", "Lower"), ("upper", "Upper")):
                found[f"{name}_{end}"] = Family(GAUGE, f"{word} end of the 95 % interval of {name}. {_WINDOW}", labels)
    return found


MODEL: dict[str, Family] = _OWN | _gauges()

_SELDON = "Counted as Seldon's MetricsServer does, once for each prediction by its first truth; corrections move only model_ series. {}"
SELDON: dict[str, Family] = {
    "seldon_metric_true_positive": Family(COUNTER, _SELDON.format("Truth and prediction are this class."), ("class",)),
    "seldon_metric_true_negative": Family(
        COUNTER,
        _SELDON.format("For classes the same number as true_positive, as existing dashboards expect."),
        ("class",),
    ),
    "seldon_metric_false_positive": Family(
        COUNTER, _SELDON.format("Predicted as this class, and is another."), ("class",)
    ),
    "seldon_metric_false_negative": Family(
        COUNTER, _SELDON.format("Is this class, and was predicted as another."), ("class",)
    ),
}


def direction_of(name: str) -> int:
    """1 if more of the value of this name is better, -1 if less is, 0 if neither or if only a user's own metric model
    knows.
    """
    return _VALUES[name].better if name in _VALUES else 0


def family_of(name: str, kind: str) -> Family:
    """The family of this name; of a name that only a user's own metric model knows, a general one."""
    known = MODEL.get(name) or SELDON.get(name)
    clock = _WINDOW if kind == GAUGE else _ARRIVAL
    return known or Family(kind, f"{name} of a metric model of this deployment. {clock}")
