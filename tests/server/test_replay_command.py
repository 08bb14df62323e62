"""The command `metrics-server replay` in a process of its own: what it prints, how it ends, what it needs, and that
a server says the same.
"""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from metrics_server.commands.replay.engine import replay
from tests.conftest import Serve
from tests.support.numbers import assert_same_text
from tests.support.replay_files import everything, gauges, mixed_events, pair_lines, written
from tests.support.running import ROOT

GUIDE = ROOT / "docs" / "how-to" / "replay-a-file.md"


def test_a_file_gives_what_a_server_shows(serve: Serve, tmp_path: Path) -> None:
    """Statements and events give, from a file, every gauge that a server has of them: names, labels, values and
    intervals."""
    since = float(int(time.time()) - 3600)
    statements = everything(since)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
    events = mixed_events(at)
    options = ["--slices", "country=attribute:country", "--threshold", "0.4", "--max_exported_classes", "2"]
    server = serve("--store", "memory://", "--windows", "7d", *options)
    assert server.post(statements, {"Content-Type": "application/json"}, "/v1/feedback").status == 200
    for event in events:
        assert server.post(event, {"Content-Type": "application/cloudevents+json"}).status == 200
    shown = {
        (
            sample.name,
            frozenset((name, value) for name, value in sample.labels.items() if name != "window"),
        ): sample.value
        for family in text_string_to_metric_families(server.get("/v1/metrics").body.decode())
        for sample in family.samples
        if "window" in sample.labels
    }
    settings: dict[str, Any] = {"slices": ["country=attribute:country"], "threshold": 0.4, "max_exported_classes": 2}
    found = gauges(replay(written(tmp_path / "all.jsonl", [*statements, *events]), **settings))
    assert len(found) > 150
    assert found.keys() == shown.keys()
    assert found == pytest.approx(shown, rel=1e-9)


def _command(*words: str, **how: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "metrics_server", "replay", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    """Ctrl-C ends it soon with status 130, one word and no traceback."""
    path = written(tmp_path / "a.jsonl", ["no object", *pair_lines(100) * 2000])
    # Not measured: coverage never lets go of its lock when the interrupt finds it there.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    # Whoever runs the tests in the background of a shell has had SIGINT ignored, and so would the command.
    with _command(
        str(path), env=unmeasured, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    ) as process:
        assert process.stderr is not None
        assert "malformed_feedback" in process.stderr.readline()  # it is under way
        process.send_signal(signal.SIGINT)
        try:
            output, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, output, errors) == (130, "", "Stopped.\n")


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    """When nobody reads the output, as after `| head`, there is no traceback."""
    path = written(tmp_path / "a.jsonl", pair_lines(10))
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "metrics_server", "replay", str(path)]
    process = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (process.returncode, process.stderr) == (1, "")


@pytest.mark.parametrize(
    "name", ["a.jsonl", *(pytest.param(name, marks=pytest.mark.long) for name in ("a.jsonl.gz", ""))]
)
def test_progress_is_for_terminals(tmp_path: Path, name: str) -> None:
    """On a terminal a bar counts the bytes of the file, compressed or not, or of all files of a directory; elsewhere
    nothing is written."""
    plain = written(tmp_path / "a.jsonl", pair_lines(20_000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    terminal, end = os.openpty()
    termios.tcsetwinsize(end, (24, 100))
    command = [sys.executable, "-m", "metrics_server", "replay", str(tmp_path / name)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=end) as process:
        os.close(end)
        shown = b""
        try:
            while part := os.read(terminal, 4096):
                shown += part
        except OSError:  # how a terminal tells that all others have left
            pass
    os.close(terminal)
    assert process.returncode == 0
    shares = [int(share) for share in re.findall(rb"\r *(\d+)%", shown)]
    assert shares == sorted(shares)
    assert 50 < shares[-1] <= 100
    assert b"B/s" in shown
    with _command(str(tmp_path / name)) as quiet:
        output, errors = quiet.communicate(timeout=60)
    assert "model_accuracy_ratio" in output
    assert errors == ""


@pytest.mark.long
def test_memory_is_that_of_what_waits(tmp_path: Path) -> None:
    """A file of pairs without ids is not held: ten times the lines take about the same memory."""
    code = (
        "import resource,sys; from metrics_server.commands.replay.engine import replay; replay(sys.argv[1]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    taken = []
    for count in (20_000, 200_000):
        path = tmp_path / f"{count}.jsonl"
        path.write_text('{"truth": 1, "prediction": 0.9}\n' * count)
        taken.append(
            int(subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=True).stdout)
        )
    assert taken[1] < taken[0] + 20 * 1024


def _blocks() -> list[tuple[str, str]]:
    return re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


def test_the_guide_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands and the Python of the page print what it shows; an output that is cut there ends with three dots."""
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    found, ran = _blocks(), 0
    for (language, code), (following, shown) in zip(found, [*found[1:], ("", "")], strict=True):
        if language == "python":
            exec(compile(code, GUIDE.name, "exec"), {"__name__": "guide"})
            printed = capsys.readouterr().out
        elif language == "sh" and "pip install" not in code:
            result = subprocess.run(
                ["bash", "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            printed = result.stdout
        else:
            continue
        if following == "text":
            begin, cut, _ = shown.partition("...\n")
            lines = printed.splitlines(keepends=True)
            assert_same_text("".join(lines[: begin.count("\n")]) if cut else printed, begin if cut else shown)
            ran += 1
    assert ran >= 3
