"""Assembles a dashboard from its rows: the settings that all dashboards share, and the ids of the panels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync

from deploy.dashboards.builder.panel import Panel
from deploy.dashboards.builder.variable import TAG, links


class Row(NamedTuple):
    """A heading and the panels beneath it. The panels of a folded row query nothing until somebody opens the row."""

    title: str
    panels: Sequence[Panel]
    folded: bool = False


class Board(NamedTuple):
    """The parts of a dashboard that are its own."""

    uid: str
    title: str
    description: str
    variables: Sequence[Any]
    annotations: Sequence[dashboard.AnnotationQuery]
    rows: Sequence[Row]


def assembled(board: Board) -> str:
    """Returns the dashboard as JSON, byte for byte the same each time."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("30s")
        .link(links())
        .annotations(list(board.annotations))
        .variables(list(board.variables))
    )
    numbers = count(1)
    for row in board.rows:
        heading = dashboard.Row(row.title).id(next(numbers))
        panels = [panel.id(next(numbers)) for panel in row.panels]
        for panel in panels if row.folded else ():
            heading.with_panel(panel)
        built.with_row(heading)
        for panel in () if row.folded else panels:
            built.with_panel(panel)
    return json.dumps(built.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
