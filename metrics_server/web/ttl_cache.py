"""A cache of what was made a moment ago: many people look at the same pages."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class TtlCache(Generic[T]):
    """Caches values for some seconds. Any thread may use it; two threads at once may both make a value."""

    def __init__(self, seconds: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Caches at most `most` values, the latest."""
        self._seconds, self._most, self._clock = seconds, most, clock
        self._made: dict[Hashable, tuple[float, T]] = {}  # when and what, the oldest first
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Returns the value of a key, made now unless a fresh one is cached."""
        now = self._clock()
        with self._lock:
            made_at, cached = self._made.get(key, (-self._seconds, None))
        if cached is not None and now < made_at + self._seconds:
            return cached
        value = make()
        with self._lock:
            self._made.pop(key, None)
            self._made[key] = (now, value)
            self._drop_stale(now)
        return value

    def _drop_stale(self, now: float) -> None:
        while self._made:
            oldest, (made_at, _) = next(iter(self._made.items()))
            if len(self._made) <= self._most and now < made_at + self._seconds:
                return
            del self._made[oldest]
