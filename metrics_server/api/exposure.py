"""How much of a series is on /v1/metrics: each series costs Prometheus memory, whether it is asked for or not."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

# What tells whether a model is served, labelled and right; the headline of its metric model goes with it.
_ESSENTIAL = frozenset(
    (
        "model_predictions",
        "model_labels",
        "model_labels_retracted",
        "model_rewards",
        "model_rewards_retracted",
        "model_decisions",
        "model_decisions_retracted",
        "model_last_prediction_timestamp_seconds",
        "model_last_label_timestamp_seconds",
        "model_vocabularies_differ",
        "model_support",
        "model_label_coverage_ratio",
        "model_reward_mean",
        "model_output_mean",
    )
)
# Labels of few values, which no class or value of a payload adds to.
_BOUNDED = frozenset(("status", "correct", "indexes"))


class Exposure(StrEnum):
    """How much is exposed: what alerts ask for, all values of a model as a whole, or those of its classes too."""

    ESSENTIAL = "essential"
    STANDARD = "standard"
    FULL = "full"

    @property
    def shows_custom_metrics(self) -> bool:
        """Tells whether the custom metrics of models are exposed."""
        return self is not Exposure.ESSENTIAL

    def shows(self, name: str, labels: Mapping[str, str], *, is_headline: bool = False) -> bool:
        """Tells whether a family of this name, without the suffix of its type, is exposed with these labels.

        >>> Exposure.STANDARD.shows("model_recall_ratio", {"class": "cat"})
        False
        """
        if self is Exposure.FULL:
            return True
        if not _BOUNDED.issuperset(labels):
            return False
        return self is Exposure.STANDARD or is_headline or name in _ESSENTIAL
