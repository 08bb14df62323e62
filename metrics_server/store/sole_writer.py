"""The part of the contract of `Store` that is trivial where a store has one writer."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

from metrics_server.store.interface import News


class SoleWriter:
    """A store that no other process writes to: nobody has news, and all upkeep is its own."""

    upkeep_delay = 0.0
    sharing = None

    def now(self) -> float:
        return time.time()

    def catch_up(self) -> News:
        return News()

    def snapshot(self) -> AbstractContextManager[None]:
        return nullcontext()

    def takes_upkeep(self) -> bool:
        return True

    def tidy(self) -> bool:
        return False

    def other_writers(self) -> int:
        return 0
