"""Files that options name, read again when they change: tokens and certificates are renewed without a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from metrics_server.errors import BadConfiguration
from metrics_server.telemetry import OutageLog

logger = logging.getLogger(__name__)

EVERY_SECONDS = 1.0

Content = TypeVar("Content")
_Mark: TypeAlias = tuple[tuple[int, ...], ...]


class WatchedFiles(Generic[Content]):
    """What some files hold that are used together, such as a certificate and its key, as they were last read well.

    Files may be replaced, as by a rename or by the links of a mounted Secret, or written anew. While they cannot be
    read, or hold what cannot be used, what they held before stays.

    Args:
        paths: of the files.
        read: makes the content; raises BadConfiguration where it cannot be used. Called in any thread.
    """

    def __init__(self, paths: Sequence[str], read: Callable[[], Content]) -> None:
        self._paths = paths
        self._read = read
        # Taken before the read, so that a change in the middle of it is seen later; None while there is nothing to look
        # at yet, as the read itself tells best what is wrong with a path.
        self._mark = self._mark_now()
        self.content = read()
        self._outages = OutageLog(logger)

    def _mark_now(self) -> _Mark | None:
        """Tells what changes with the files; the last of it changes also when somebody sets the others back."""
        try:
            found = [Path(path).stat() for path in self._paths]
        except OSError:
            return None
        return tuple((one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found)

    async def refresh(self, *, anyhow: bool = False) -> bool:
        """Reads the files again if they have changed, or `anyhow`, beside the event loop; tells whether it has."""
        try:
            changed = await asyncio.get_running_loop().run_in_executor(None, self._changed, anyhow)
        except BadConfiguration as error:
            self._outages.note_failure("What a changed file held before stays in use: %s", error)
            return False
        self._outages.note_success("%s can be used again", " and ".join(self._paths))
        if changed is None:
            return False
        self._mark, self.content = changed
        return True

    def _changed(self, anyhow: bool) -> tuple[_Mark | None, Content] | None:  # noqa: FBT001 - of `run_in_executor`
        mark = self._mark_now()
        return None if mark == self._mark and mark is not None and not anyhow else (mark, self._read())
