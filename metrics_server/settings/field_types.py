"""The types of settings: what may be set, and how that is told to who set something else."""

from __future__ import annotations

import logging
from typing import Annotated, Literal

from msgspec import Meta

from metrics_server.api.exposure import Exposure
from metrics_server.metrics.custom_metric import NAME_PATTERN

Text = Annotated[str, "a text"]
Texts = Annotated[tuple[str, ...], "texts, separated by commas"]
Switch = Annotated[bool, "true or false"]
PositiveInt = Annotated[int, Meta(ge=1), "a whole number from 1"]
Port = Annotated[int, Meta(ge=1, le=65535), "a port from 1 to 65535"]
Share = Annotated[float, Meta(ge=0, le=1), "a number from 0 to 1"]
Between = Annotated[float, Meta(gt=0, lt=1), "a number between 0 and 1"]
Positive = Annotated[float, Meta(gt=0), "a number above 0"]
Amount = Annotated[float, Meta(ge=0), "a number from 0"]
Shares = Annotated[dict[str, Annotated[float, Meta(gt=0)]], "numbers above 0 by predictor"]
Seconds = Annotated[float, Meta(ge=0), "seconds from 0"]
Duration = Annotated[str, Meta(pattern=r"^\s*[0-9]*[1-9][0-9]*[smhd]\s*$"), "a duration such as 90s, 15m, 1h or 35d"]
Exposed = Annotated[Exposure, "essential, standard or full"]
LogFormat = Annotated[str, Meta(pattern="^(text|json)$"), "text or json"]
AbsentReward = Annotated[Literal["none", "zero"], "none or zero"]
Durations = Annotated[tuple[Duration, ...], Meta(min_length=1), "durations such as 1h, separated by commas"]
# Names as their standards have them: a token (RFC 9110, 5.6.2), an attribute (CloudEvents 1.0.2, naming conventions).
_IN_EVENT = "header:[A-Za-z0-9!#$%&'*+.^_`|~-]+|attribute:[a-z0-9]+"
IdPlace = Annotated[
    str,
    Meta(pattern=rf"^({_IN_EVENT}|body:[^.\s]+(\.[^.\s]+)*)$"),
    "header:NAME, attribute:NAME in lower case, or body:PATH such as body:meta.id",
]
IdPlaces = Annotated[tuple[IdPlace, ...], "header:NAME, attribute:NAME or body:PATH, separated by commas"]
PredictorPlace = Annotated[
    str,
    Meta(pattern=rf"^({_IN_EVENT}|annotation:\S+|tag:\S.*)$"),
    "annotation:NAME, header:NAME, attribute:NAME in lower case, or tag:NAME",
]
PredictorPlaces = Annotated[
    tuple[PredictorPlace, ...], "annotation:NAME, header:NAME, attribute:NAME or tag:NAME, separated by commas"
]
_CUSTOM = "for Prometheus that do not begin with model_, metrics_server_, seldon_metric_ or __"
CustomName = Annotated[str, Meta(pattern=rf"^(\*|{NAME_PATTERN})$"), "a name, or * for all"]
CustomNames = Annotated[tuple[CustomName, ...], f"names {_CUSTOM}, separated by commas, or * for all"]
GroupReference = Annotated[
    str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*=.+$"), "a dimension of --slices and a value of it, such as gender=m"
]
GroupReferences = Annotated[
    tuple[GroupReference, ...], "dimensions of --slices, each with a value, such as gender=m, separated by commas"
]
PathPrefix = Annotated[str, Meta(pattern=r"^(/[A-Za-z0-9._~-]+)*$"), "a path such as /seldon-events"]
LogLevel = Annotated[
    str, Meta(pattern=f"(?i)^({'|'.join(logging.getLevelNamesMapping())})$"), "DEBUG, INFO, WARNING or ERROR"
]
