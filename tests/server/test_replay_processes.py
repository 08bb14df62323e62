"""`metrics-server replay --processes`: what several processes print, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from metrics_server.commands.replay.command import main
from tests.support.replay_files import pair_lines, written
from tests.support.waiting import until


def _started(path: Path, processes: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "metrics_server", "replay", str(path), "--processes", str(processes)]
    # Whoever runs the tests in the background of a shell has had SIGINT ignored, and so would the command.
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True,
    )


def _children(pid: int) -> list[int]:
    """Lists the processes that read lines for this one; another one of Python's cleans up after them."""
    found = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_two_print_what_one_prints(tmp_path: Path) -> None:
    """Output, refusals with their lines, and the status are the same."""
    path = written(tmp_path / "a.jsonl", [*pair_lines(6_000), "no record", *pair_lines(100)])
    found = []
    for processes in (1, 2):
        with _started(path, processes) as process:
            output, errors = process.communicate(timeout=60)
        found.append((process.returncode, output, errors))
    assert found[0] == found[1]
    assert found[0][0] == 1
    assert "a.jsonl:6001: malformed_feedback" in found[0][2]


def test_ctrl_c_ends_all_of_them(tmp_path: Path) -> None:
    """Ctrl-C, which a terminal sends to all, ends all with one word and no traceback."""
    path = written(tmp_path / "a.jsonl", ["no object", *pair_lines(100) * 4000])
    with _started(path, 2) as process:
        assert process.stderr is not None
        assert "malformed_feedback" in process.stderr.readline()  # it is under way
        children = _children(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        try:
            output, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, output, errors) == (130, "", "Stopped.\n")
    assert len(children) == 2
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_process_that_is_killed_is_told(tmp_path: Path) -> None:
    """When the kernel ends one of them nothing is shown that lacks its lines: status 2 and a sentence."""
    path = written(tmp_path / "a.jsonl", ["no object", *pair_lines(100) * 4000])
    with _started(path, 2) as process:
        assert process.stderr is not None
        assert "malformed_feedback" in process.stderr.readline()
        os.kill(_children(process.pid)[0], signal.SIGKILL)
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (2, "")
    assert errors.startswith("metrics-server replay: a process that reads lines has ended with status -9")


def test_none_is_left_when_the_first_is_killed(tmp_path: Path) -> None:
    """Those that read end with the one that they read for, however that ends."""
    path = written(tmp_path / "a.jsonl", ["no object", *pair_lines(100) * 4000])
    with _started(path, 2) as process:
        assert process.stderr is not None
        assert "malformed_feedback" in process.stderr.readline()
        children = _children(process.pid)
        process.kill()
        until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 20, "those that read have ended")
    assert len(children) == 2


@pytest.mark.parametrize("count", ["0", "-1", "two", "65"])
def test_a_number_that_is_none_is_refused(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--processes wants a number from 1 to 64."""
    with pytest.raises(SystemExit, match="2"):
        main(["a.jsonl", f"--processes={count}"])
    assert "want a number from 1 to 64" in capsys.readouterr().err
