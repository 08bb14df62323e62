"""What a page was asked for: the path and query of the request, and when."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metrics_server.api.schema import History
from metrics_server.api.service import Api
from metrics_server.errors import BadRequest, StoreUnavailable
from metrics_server.http.worker_pools import Deadline
from metrics_server.metrics.window import edge_of


@dataclass(frozen=True)
class PageRequest:
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
    deadline: Deadline

    @property
    def window(self) -> str:
        """The window that was asked for, or the first; raises `Refusal` for one that is not configured."""
        name: str = self.found.get("window", next(iter(self.windows)))
        if name not in self.windows:
            raise BadRequest(f"window: want one of {', '.join(self.windows)}")
        return name

    @property
    def span(self) -> dict[str, float]:
        """The time that the window covers, as the history of a series is asked for."""
        return {"from": float(edge_of(self.windows[self.window], self.now)), "to": self.now}

    @property
    def asked(self) -> dict[str, Any]:
        """What stood in the query of the page, for links that change a part of it."""
        return {name: value for name, value in self.found.items() if name != "figures"}

    def choose(self, name: str, among: Collection[str], default: str | None) -> str | None:
        """One of several by this parameter; the default for one that is not there, or is no longer: an open page must
        not turn into an error.
        """
        chosen: str | None = self.found.get(name)
        return chosen if chosen in among else default

    def history(self, api: Api, parts: Sequence[str], **part: str) -> History | None:
        """The history of a series, or of a `slice` of it, in the window; None while the store cannot be used."""
        try:
            return api.history(parts, {**self.span, **part}, self.deadline)
        except StoreUnavailable:
            return None
