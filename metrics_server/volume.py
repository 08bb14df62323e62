"""Whether the state would go with the container it is kept in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROOT = Path("/")
MARKS = (".dockerenv", "run/.containerenv")  # files that Docker and Podman put into a container


def in_container(environment: Mapping[str, str], root: Path = ROOT) -> bool:
    """Whether this is a container, as far as Kubernetes, Docker or Podman tell."""
    return "KUBERNETES_SERVICE_HOST" in environment or any((root / mark).exists() for mark in MARKS)


def on_volume(file: Path, root: Path = ROOT) -> bool:
    """Whether a file is kept elsewhere than the root file system, which goes with its container."""
    return file.parent.stat().st_dev != root.stat().st_dev
