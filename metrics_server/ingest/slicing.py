"""Selects the nodes of a graph whose predictions are scored, and the slices that a prediction belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from metrics_server.errors import BadConfiguration
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.payload.rows import is_label
from metrics_server.ingest.place import value_at

_SPELLING = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(attribute|tag|header|annotation):(.+)")


class Dimension(msgspec.Struct, frozen=True):
    """One way to slice: the name it is shown under, and where its value stands.

    Attributes:
        place: attribute of the event; tag of the payload's meta.tags; header or annotation that KServe logs along.
        key: its name there.
    """

    name: str
    place: str
    key: str


def dimension_of(text: str) -> Dimension:
    """The dimension written as name=place:key, such as tenant=header:X-Tenant.

    Raises:
        BadConfiguration: it is not written so.
    """
    match = _SPELLING.fullmatch(text)
    if match is None:
        raise BadConfiguration(
            f"--slices {text}: want name=attribute:…, name=tag:…, name=header:… or name=annotation:…"
        )
    return Dimension(*match.groups())


def dimensions_of(texts: Iterable[str]) -> tuple[Dimension, ...]:
    """The dimensions of --slices.

    Raises:
        BadConfiguration: one is not written so, or two have one name: a prediction would count twice in a slice.
    """
    dimensions = tuple(map(dimension_of, texts))
    if len({dimension.name for dimension in dimensions}) < len(dimensions):
        raise BadConfiguration("--slices: each dimension needs a name of its own")
    return dimensions


class SlicingRules(msgspec.Struct, frozen=True):
    """Selects predictions that count, and their slices.

    Attributes:
        dimensions: how predictions are sliced.
        score_models: the models, as events name them, whose predictions count; of none, all.
    """

    dimensions: tuple[Dimension, ...] = ()
    score_models: frozenset[str] = frozenset()

    def scores(self, model: str) -> bool:
        """Tells whether predictions of this model count."""
        return not self.score_models or model in self.score_models

    def slices_of(self, event: Event, tags: Mapping[str, Any]) -> list[str]:
        """The slices that a prediction belongs to, such as "tenant=b 7"; what cannot be a label is in none."""
        found = []
        for dimension in self.dimensions:
            value = value_at(dimension.place, dimension.key, event.attributes, tags)
            if value is not None and is_label(value):
                found.append(f"{dimension.name}={value}")
        return found
