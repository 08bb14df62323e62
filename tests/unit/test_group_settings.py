"""Groups are declared by a dimension and a value of it; what cannot be is refused with what would be right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metrics_server.errors import BadConfiguration
from metrics_server.series.series import Labels
from metrics_server.settings import Settings, load, reloaded

SLICES = ["--slices", "gender=tag:gender,age=header:X-Age"]


def test_a_reference_is_any_value() -> None:
    """With spaces, an equals sign and letters of any alphabet; blanks around commas are none of it."""
    found = load([*SLICES, "--groups", "gender=m, age=60 = älter"], {})
    assert found.group_references_of(Labels("", "", "", "")) == {"gender": "m", "age": "60 = älter"}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("gender", "--groups gender: want dimensions of --slices, each with a value, such as gender=m"),
        ("gender=", "--groups gender=: want dimensions of --slices"),
        ("1=m", "--groups 1=m: want"),
        ("country=de", "--groups country: want a dimension of --slices"),
        ("gender=m,gender=f", "--groups: want one reference for each dimension"),
    ],
)
def test_groups_that_cannot_be_are_refused(groups: str, message: str) -> None:
    """One without a value, of a dimension that nothing is sliced by, or of one that has a reference already."""
    with pytest.raises(BadConfiguration) as refused:
        load([*SLICES, "--groups", groups], {})
    assert message in str(refused.value)


@pytest.mark.parametrize("groups", [["country=de"], ["gender=m", "gender=f"], "gender", ["gender"], [1]])
def test_groups_of_a_deployment_are_checked_alike(groups: object, tmp_path: Path) -> None:
    """The refusal names the entry, and the server does not start."""
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"deployments": [{}, {"deployment": "wine", "groups": groups}]}))
    with pytest.raises(BadConfiguration, match=r"--deployments\[1\]"):
        load([*SLICES, "--config", str(path)], {})


def test_groups_are_taken_without_a_restart() -> None:
    """Neither what a series is nor what is paired depends on them."""
    one, other = (Settings(slices=("gender=tag:gender",), groups=(f"gender={value}",)) for value in "mf")
    assert reloaded(one, other) == (other, ["groups"], [])
