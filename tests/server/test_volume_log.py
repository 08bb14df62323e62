"""A server tells when its state lies in the container itself."""

from __future__ import annotations

from pathlib import Path

from metrics_server.__main__ import on_volume
from tests.conftest import Serve


def test_the_log_tells_of_state_without_a_volume(serve: Serve, tmp_path: Path) -> None:
    """In a container, a state on the root file system is named with its directory; one on a volume or in memory is
    not."""
    told = f"The state goes with this container; a volume at {tmp_path} would keep it longer"
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    for options, expected in (((), not on_volume(tmp_path / "state.db")), (("--store", "memory://"), False)):
        server = serve(*options, environment=pod)
        assert server.stop() == 0
        assert (told in server.log.read_text()) is expected
