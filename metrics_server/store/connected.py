"""What stores have in common that write by one connection and read histories by others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import Bucket
from metrics_server.store.interface import StepSumsStream, never


class Closable(Protocol):
    """A connection, whatever it leads to."""

    def close(self) -> None:
        """Closes the connection; what it had not committed is lost."""


class HistoryReading(Protocol):
    """Reads the time buckets of a series in any thread; see `Store.history` and `Store.steps`."""

    def history(self, series_id: int, since: int, until: int | None) -> Mapping[Bucket, Sums]:
        """Returns the sums by time bucket, of all buckets with since <= start < until."""

    def steps(self, series_id: int, since: int, until: int, step: int, is_over: Callable[[], bool]) -> StepSumsStream:
        """Yields the same buckets added up by step, in the order of time; `is_over` ends it."""

    def close(self) -> None:
        """Interrupts all readers and refuses new ones."""


Connection = TypeVar("Connection", bound=Closable)


class ConnectedStore(Generic[Connection]):
    """A connection that is dropped after a failure and opened again when it is needed, and readers beside it."""

    _connection: Connection | None
    _history: HistoryReading

    def history(self, series_id: int, since: int, until: int | None = None) -> Mapping[Bucket, Sums]:
        return self._history.history(series_id, since, until)

    def steps(
        self, series_id: int, since: int, until: int, step: int, is_over: Callable[[], bool] = never
    ) -> StepSumsStream:
        return self._history.steps(series_id, since, until, step, is_over)

    def recover(self) -> None:
        """Drops the connection; the next call opens a new one."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()
