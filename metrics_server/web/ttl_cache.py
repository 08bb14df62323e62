"""What was made a moment ago, for everybody who asks for the same: many people look at the same pages."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class TtlCache(Generic[T]):
    """Keeps what was made for some seconds. Any thread may ask; two that ask at once may both make it."""

    def __init__(self, seconds: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """At most so many are kept, the latest."""
        self._seconds, self._most, self._clock = seconds, most, clock
        self._kept: dict[Hashable, tuple[float, T]] = {}
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for this key, or is made now."""
        now = self._clock()
        with self._lock:
            made_at, kept = self._kept.get(key, (-self._seconds, None))
        if kept is not None and now < made_at + self._seconds:
            return kept
        made = make()
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = (now, made)
            while len(self._kept) > self._most or next(iter(self._kept.values()))[0] + self._seconds <= now:
                del self._kept[next(iter(self._kept))]
        return made
