"""A configuration file may hold anything: it gives settings, or an error of ours that names the file or the setting."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from metrics_server.errors import BadConfiguration
from metrics_server.settings import load


def _endless() -> str:
    """Ten lists in each other of ten references each: written out, 10 GB."""
    lists = [f"  - &l{level} [{', '.join([f'*l{level - 1}' if level else 'x'] * 10)}]\n" for level in range(10)]
    return f"host:\n{''.join(lists)}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"host: \xff", "--config"),
        (b"host: a\x00b", "--config"),
        (b"host: 2026-02-30", "--config"),
        (b"host: !!bool maybe", "--config"),
        (b"host: !!int ''", "--config"),
        (b"host: !!timestamp soon", "--config"),
        (b"max_series: " + b"9" * 5000, "--config"),
        (b"host: " + b"[" * 3000, "--config"),
        (b"http_port: " + b"1:" * 3000 + b"1", "--http_port: want a port"),
        (b'http_port: "\\ud83d\\ude00"', "in a setting is no valid Unicode"),
        (b"deployments: [{1: 1}]", r"--deployments\[0\]: want a text for the name of each member"),
        (b"slices: &a [*a]", "--slices .*: want texts"),
        (_endless().encode(), "--host .*: want a text"),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    """Bytes that are no text, scalars that do not fit, endless lists and wrong keys are an error in a few words."""
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadConfiguration, match=f"^.*{said}") as refused:
        load(["--config", str(path)], {})
    assert len(str(refused.value)) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 2**10, "KiB"


def test_a_configuration_in_utf_16_is_read(tmp_path: Path) -> None:
    """YAML 1.1, 5.2: the mark at the beginning tells how the file is written."""
    path = tmp_path / "settings.yaml"
    path.write_bytes("model_name: Äpfel\n".encode("utf-16"))
    assert load(["--config", str(path)], {}).model_name == "Äpfel"
