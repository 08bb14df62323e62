"""What the start says of a server that others can reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics_server.__main__ import is_loopback
from tests.conftest import Serve
from tests.support.running import RunningServer

WARNING = "[W "


def _warnings(server: RunningServer) -> list[str]:
    return [line.partition("] ")[2] for line in server.log.read_text().splitlines() if line.startswith(WARNING)]


def _guarded(directory: Path, *names: str) -> list[str]:
    """Options with a file of tokens for each."""
    (directory / "token").write_text("s3cret")
    return [word for name in names for word in (f"--{name}_token_file", str(directory / "token"))]


@pytest.mark.parametrize(
    ("names", "what"), [((), "send events and read what models do"), (("read", "delete"), "send events")]
)
def test_an_open_server_says_so(serve: Serve, tmp_path: Path, names: tuple[str, ...], what: str) -> None:
    """On an address that other machines reach, a server that asks senders for nothing warns in one line of what is
    open."""
    server = serve("--store", "memory://", "--host", "0.0.0.0", *_guarded(tmp_path, *names))  # noqa: S104 - the promise
    assert _warnings(server) == [
        f"Any client that reaches 0.0.0.0 may {what}; --send_token_file and --read_token_file ask for tokens"
    ]


def test_who_asks_senders_or_hides_warns_of_nothing(serve: Serve, tmp_path: Path) -> None:
    """A server that asks senders for a token, or listens on its own machine alone, starts without a warning."""
    for host, names in (("0.0.0.0", ("send",)), ("127.0.0.1", ()), ("localhost", ())):  # noqa: S104 - as above
        assert not _warnings(serve("--store", "memory://", "--host", host, *_guarded(tmp_path, *names)))


@pytest.mark.parametrize(
    ("host", "is_alone"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - as above
        ("::", False),
        ("10.0.0.1", False),
        ("", False),
        ("metrics.example.com", False),
    ],
)
def test_an_address_is_of_this_machine_alone(host: str, is_alone: bool) -> None:
    """Of a name other than localhost nobody knows, so it counts as reached from elsewhere, like the empty address."""
    assert is_loopback(host) is is_alone
