"""What a page was asked for: the path and query of the request, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metrics_server.api import Patience
from metrics_server.query import Refusal
from metrics_server.window import edge_of


@dataclass(frozen=True)
class Question:
    """A request for a page.

    Attributes:
        parts: of the path, those that name something.
        found: what stood in the query.
        windows: all windows with their seconds.
        now: Unix seconds.
        patience: of who waits for the answer.
    """

    parts: Sequence[str]
    found: Mapping[str, Any]
    windows: Mapping[str, int]
    now: float
    patience: Patience

    @property
    def window(self) -> str:
        """The window that was asked for, or the first; raises `Refusal` for one that is not configured."""
        name: str = self.found.get("window", next(iter(self.windows)))
        if name not in self.windows:
            raise Refusal(f"window: want one of {', '.join(self.windows)}")
        return name

    @property
    def span(self) -> dict[str, float]:
        """The time that the window covers, as the history of a series is asked for."""
        return {"from": float(edge_of(self.windows[self.window], self.now)), "to": self.now}

    @property
    def asked(self) -> dict[str, Any]:
        """What stood in the query of the page, for links that change a part of it."""
        return {name: value for name, value in self.found.items() if name != "figures"}

    def choose(self, name: str, among: Sequence[str], default: str | None) -> str | None:
        """One of several by this parameter; raises `Refusal` for another."""
        chosen: str | None = self.found.get(name) or default
        if chosen is not None and chosen not in among:
            raise Refusal(f"{name}: want one of {', '.join(among) or 'nothing yet'}")
        return chosen
