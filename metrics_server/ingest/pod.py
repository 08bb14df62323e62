"""What Seldon tells a pod about itself, in its environment."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from metrics_server.series.series import Labels

UNKNOWN = "NOT_IMPLEMENTED"  # what the ancestor writes where it knows nothing


def default_labels(environment: Mapping[str, str]) -> Labels:
    """The labels for what an event leaves open, from the variables that Seldon sets in a pod."""
    names = ("SELDON_DEPLOYMENT_NAMESPACE", "SELDON_DEPLOYMENT_ID", "PREDICTOR_ID", "PREDICTIVE_UNIT_ID")
    return Labels(*(environment.get(name, "") for name in names))


def image_of(environment: Mapping[str, str]) -> tuple[str, str, str]:
    """Image name, image version and predictor version as the ancestor's labels have them."""
    name, _, version = environment.get("PREDICTIVE_UNIT_IMAGE", "").rpartition(":")
    try:
        predictor_version = msgspec.json.decode(environment.get("PREDICTOR_LABELS", "{}"), type=dict[str, str]).get(
            "version"
        )
    except msgspec.MsgspecError:
        predictor_version = None
    return name or UNKNOWN, (version if name else "") or UNKNOWN, predictor_version or UNKNOWN
