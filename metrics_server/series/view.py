"""What a server keeps in memory of its store: the registry of series and their running totals, brought up to date."""

from __future__ import annotations

from collections.abc import Callable

from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Change, News, Store


class StoreView:
    """The registry and the totals of one store; only the writer's thread changes them.

    `on_restored` is called with the time when all was read anew.
    """

    def __init__(
        self, store: Store, registry: SeriesRegistry, totals: Totals, on_restored: Callable[[float], None]
    ) -> None:
        self._store = store
        self._registry = registry
        self._totals = totals
        self._on_restored = on_restored

    def restore(self, now: float) -> None:
        """Reads everything anew."""
        with self._store.snapshot():
            self._store.catch_up()  # what it tells of is read below; it tells from where on there is news
            self._read(now)

    def restore_registry(self) -> None:
        """Reads the series anew: after a batch was given up that had made some."""
        self._registry.restore(self._store.series())

    def catch_up(self, now: float) -> None:
        """Takes what other writers have committed."""
        news = self._store.catch_up()
        if news.is_complete:
            self._take(news)
        else:
            self.restore(now)

    def slide(self, now: float) -> None:
        """Moves the far edge of every window to where it is now. Must precede a roll-up at the same time.

        What leaves a window is read from the store, and so with the commits of others that are read at that moment.
        """
        with self._store.snapshot():
            news = self._store.catch_up()
            if news.is_complete:
                self._take(news)
                self._totals.slide(self._store, now)
            else:
                self._read(now)

    def add(self, change: Change) -> None:
        """Adds what was committed."""
        self._totals.add(change.sums)
        self._totals.put(change.registers)

    def drop(self, series_id: int) -> None:
        """Forgets a series that was deleted from the store."""
        self._registry.drop(series_id)
        self._totals.drop([series_id])

    def _take(self, news: News) -> None:
        if news.series:
            self._registry.update(news.series)
        for change in news.changes:
            self._registry.note_used(change.series.values())
            self.add(change)

    def _read(self, now: float) -> None:
        self.restore_registry()
        self._totals.rebuild(self._store, now)
        self._on_restored(now)
