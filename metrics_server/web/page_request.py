"""The request for a page: its path, its query, and its time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metrics_server.api.history import FEW_POINTS
from metrics_server.api.schema import History
from metrics_server.api.service import Api
from metrics_server.errors import BadRequest, StoreUnavailable
from metrics_server.http.worker_pools import Deadline
from metrics_server.metrics.window import edge_of


@dataclass(frozen=True)
class PageRequest:
    """A request for a page.

    Attributes:
        segments: those of the path that name something.
        arguments: those of the query.
        windows: all windows with their seconds.
        now: Unix seconds.
        deadline: the end of the time that somebody waits for the response.
    """

    segments: Sequence[str]
    arguments: Mapping[str, Any]
    windows: Mapping[str, int]
    now: float
    deadline: Deadline

    @property
    def window(self) -> str:
        """The requested window, or the first; raises `BadRequest` for one that is not configured."""
        name: str = self.arguments.get("window", next(iter(self.windows)))
        if name not in self.windows:
            raise BadRequest(f"window: want one of {', '.join(self.windows)}")
        return name

    @property
    def span(self) -> dict[str, float]:
        """The time that the window covers, as arguments for the history of a series."""
        return {"from": float(edge_of(self.windows[self.window], self.now)), "to": self.now}

    @property
    def query(self) -> dict[str, Any]:
        """The arguments of the page itself, for links that change some of them."""
        return {name: value for name, value in self.arguments.items() if name != "figures"}

    def choose(self, name: str, among: Collection[str], default: str | None) -> str | None:
        """Returns the argument of this name if it is one of several, else the default.

        What was a choice once may be none any more, and an open page must not turn into an error.
        """
        chosen: str | None = self.arguments.get(name)
        return chosen if chosen in among else default

    def history(
        self, api: Api, segments: Sequence[str], few: int = FEW_POINTS, **slice_argument: str
    ) -> History | None:
        """Reads the history of a series, or of a `slice` of it, in the window and at most so many steps; None while the
        store is down.
        """
        try:
            return api.history(segments, {**self.span, **slice_argument}, self.deadline, few=few)
        except StoreUnavailable:
            return None
