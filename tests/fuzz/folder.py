"""What is kept of the searches of one target from one run to the next."""

from __future__ import annotations

import hashlib
from pathlib import Path


class Folder:
    """Inputs that are worth keeping: those that reach something new, and those that fail."""

    def __init__(self, path: Path) -> None:
        self.corpus, self.crashes, self.examples = path / "corpus", path / "crashes", path / "examples"
        for folder in (self.corpus, self.crashes, self.examples):
            folder.mkdir(parents=True, exist_ok=True)

    def failing(self) -> list[Path]:
        return sorted(self.crashes.iterdir())

    def keep(self, data: bytes) -> None:
        """Keeps an input that fails."""
        (self.crashes / f"crash-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
