"""Title, help and unit of a panel, from the name of its metric.

The sources are the metric families of the server, and its telemetry.
"""

from __future__ import annotations

from metrics_server.series.families import COUNTER, MODEL
from metrics_server.telemetry import all_families

PER_SECOND = "suffix: /s"
LESS_TAKEN_BACK = " Less what was taken back."
# By the last word of a name. Other values have the unit of the target, or none.
_UNITS = {"ratio": "percentunit", "seconds": "s", "bytes": "bytes", "total": PER_SECOND}
_WORDS = {"roc": "ROC", "auc": "AUC", "f1": "F1", "r2": "R²", "ndcg": "nDCG"}


def _telemetry() -> dict[str, tuple[str, str]]:
    return {family.name: (family.type, family.documentation) for family in all_families()}


# Type and help of every family that the server exposes.
FAMILIES: dict[str, tuple[str, str]] = {
    name: (family.type, family.help) for name, family in MODEL.items()
} | _telemetry()


def help_of(name: str) -> str:
    """Returns the help of a family, by its name without a suffix such as `_total`.

    Raises:
        KeyError: the server has no such family.
    """
    return FAMILIES[name][1]


def unit_of(name: str) -> str:
    """Returns Grafana's unit for the values of a family; for a counter, that of its rate."""
    kind = FAMILIES[name][0]
    return PER_SECOND if kind == COUNTER else _UNITS.get(name.rpartition("_")[2], "short")


def title_of(name: str) -> str:
    """Returns the name of a family as a title: "ROC AUC" for `model_roc_auc_ratio`."""
    words = name.removeprefix("model_").removeprefix("metrics_server_").removesuffix("_ratio").split("_")
    text = " ".join(_WORDS.get(word, word) for word in words)
    return text[0].upper() + text[1:]
