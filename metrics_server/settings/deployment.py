"""Settings by deployment, which only the configuration file can hold."""

from __future__ import annotations

from typing import Annotated

from metrics_server.settings.field_types import (
    AbsentReward,
    Amount,
    CustomNames,
    Exposed,
    GroupReferences,
    IdPlaces,
    PositiveInt,
    PredictorPlaces,
    Share,
    Shares,
    Text,
    Texts,
)
from metrics_server.settings.selection import Selection
from metrics_server.settings.value_matrix import DeclaredValues


class Deployment(Selection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the predictions of some deployments are scored and compared; a part left out matches any. Only in the
    configuration file.
    """

    storage_uri: Text | None = None
    threshold: Share | None = None
    class_names: Texts | None = None
    max_classes: PositiveInt | None = None
    absent_reward: AbsentReward | None = None
    baseline: Text | None = None  # the predictor that the others of the deployment are compared with
    margin: Amount | None = None  # how large a difference from the baseline does not matter, in units of the metric
    traffic: Shares | None = None  # of requests by predictor, such as main: 75, canary: 25
    expose: Exposed | None = None
    request_id_from: IdPlaces | None = None
    predictor_from: PredictorPlaces | None = None
    custom_metrics: CustomNames | None = None
    groups: GroupReferences | None = None
    value_matrix: DeclaredValues | None = None

    @property
    def is_of_whole_deployments(self) -> bool:
        """Tells whether the entry holds for all predictors and models of the deployments that it matches."""
        return not (self.predictor or self.model)


Deployments = Annotated[tuple[Deployment, ...], "a list of deployments"]
