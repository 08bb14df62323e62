"""Whether the log tells that the state would go with its container."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics_server.__main__ import in_container, on_volume


def test_a_container_is_known_by_its_marks(tmp_path: Path) -> None:
    """Kubernetes tells by the environment, Docker and Podman by a file; a machine of one's own has neither."""
    assert not in_container({}, tmp_path)
    assert in_container({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.containerenv").touch()
    assert in_container({}, tmp_path)


def test_a_volume_is_another_file_system(tmp_path: Path) -> None:
    """A file beside the root is on no volume, one on a mount is."""
    assert not on_volume(tmp_path / "state.db", tmp_path)
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    assert on_volume(shared / "state.db", tmp_path)
