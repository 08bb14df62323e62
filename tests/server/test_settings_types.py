"""Settings are checked by their types: one field says what may be set, what it is for, and what is wanted instead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metrics_server.errors import BadConfiguration
from metrics_server.metrics.window import seconds_of
from metrics_server.settings import HELP, OPTIONS, Deployment, Settings, load
from tests.conftest import Serve

HINTS = get_type_hints(Settings, include_extras=True)
# A value of the wrong sort for each sort of setting, and what is wanted instead.
WRONG = {
    "max_series": ("0", "a whole number from 1"),
    "max_pending": ("many", "a whole number from 1"),
    "min_support": ("-1", "a whole number from 1"),
    "max_body_bytes": ("1.5", "a whole number from 1"),
    "http_port": ("65536", "a port from 1 to 65535"),
    "threshold": ("1.01", "a number from 0 to 1"),
    "shutdown_delay": ("-1", "seconds from 0"),
    "drain_seconds": ("nan", "seconds from 0"),
    "history": ("0d", "a duration such as 90s, 15m, 1h or 35d"),
    "series_retention": ("1w", "a duration such as 90s, 15m, 1h or 35d"),
    "windows": ("soon", "durations such as 1h, separated by commas"),
    "log_level": ("LOUD", "DEBUG, INFO, WARNING or ERROR"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_message_is_the_same_from_every_source(name: str, tmp_path: Path) -> None:
    """Option, what was set and what is wanted stand in one line, whether it was set on the command line, in the
    environment or in the file."""
    value, wanted = WRONG[name]
    path = tmp_path / "config.yaml"
    path.write_text(f"{name}: '{value}'\n")
    sources: tuple[tuple[list[str], dict[str, str]], ...] = (
        ([f"--{name}={value}"], {}),
        ([], {f"METRICS_SERVER_{name.upper()}": value}),
        (["--config", str(path)], {}),
    )
    for words, environment in sources:
        with pytest.raises(BadConfiguration) as raised:
            load(words, environment)
        assert str(raised.value) == f"--{name} {value}: want {wanted}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seldon_metrics: maybe", "--seldon_metrics maybe: want true or false"),
        ("max_series: 0", "--max_series 0: want a whole number from 1"),
        ("host: 5", "--host 5: want a text"),
        ("windows: []", "--windows: want durations such as 1h, separated by commas"),
        ("windows: [1h, x]", "--windows x: want durations such as 1h, separated by commas"),
        ("class_names: 3", "--class_names 3: want texts, separated by commas"),
        ("deployments: 5", "--deployments 5: want a list of deployments"),
        ("deployments: [5]", "--deployments 5: want a list of deployments"),
        ("deployments: [{}, {max_classes: 0}]", "--deployments[1].max_classes 0: want a whole number from 1"),
        ("deployments: [{class_names: [1]}]", "--deployments[0].class_names 1: want texts, separated by commas"),
        ("deployments: [{namespace: 7}]", "--deployments[0].namespace 7: want a text"),
        ("deployments: [{name: x}]", "--deployments[0]: Object contains unknown field `name`"),
    ],
)
def test_what_only_a_file_can_hold_is_explained(text: str, message: str, tmp_path: Path) -> None:
    """A value of another kind, a wrong element of a list and a wrong part of a deployment are named by their place."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(BadConfiguration) as raised:
        load(["--config", str(path)], {})
    assert str(raised.value) == message


def _told(hint: Any) -> list[str]:
    """What is told of a type, or of the one that is not None."""
    annotated = hint if get_origin(hint) is Annotated else get_args(hint)[0]
    return [text for text in annotated.__metadata__ if isinstance(text, str)]


@pytest.mark.parametrize("name", HINTS)
def test_every_field_says_what_is_wanted_and_what_it_is_for(name: str) -> None:
    """A new setting is one field: its type tells what is wanted, its help is the only other text."""
    wanted, told = _told(HINTS[name])
    assert wanted != told == HELP[name]


def test_every_part_of_a_deployment_says_what_is_wanted() -> None:
    """So does each part of an entry of `deployments`."""
    assert all(_told(hint) for hint in get_type_hints(Deployment, include_extras=True).values())


def test_a_default_can_be_set() -> None:
    """Each default passes the check of its own type when it is set as a text."""
    for name in OPTIONS:
        default = getattr(Settings(), name)
        text = ",".join(default) if isinstance(default, tuple) else str(default)
        assert getattr(load([], {f"METRICS_SERVER_{name.upper()}": text}), name) == default, name


@given(st.from_regex(r"\s*[0-9]{1,6}[smhdw]?\s*", fullmatch=True))
@example("00d")
@example(" 1h ")
@example("1h1m")
def test_a_duration_is_what_can_be_read_as_one(text: str) -> None:
    """The type takes exactly what `seconds_of` reads."""
    try:
        seconds_of(text)
        readable = True
    except BadConfiguration:
        readable = False
    try:
        load([], {"METRICS_SERVER_RETENTION": text})
        taken = True
    except BadConfiguration:
        taken = False
    assert taken == readable


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({}, "--event_type and --event_source"),
        ({"event_type": "a.b"}, "--event_source"),
        ({"event_source": "x"}, "--event_type"),
        ({"event_type": "a.b", "event_source": "x"}, ""),
    ],
)
def test_a_reply_url_without_reply_events_is_told(serve: Serve, options: dict[str, str], missing: str) -> None:
    """A server whose --reply_url gets nothing says so in one warning at the start, which names what is missing."""
    url = "http://127.0.0.1:9/"
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    server = serve("--store", "memory://", "--reply_url", url, *words)
    assert server.stop() == 0
    warnings = [line for line in server.log.read_text().splitlines() if line.startswith("[W ")]
    assert [line.partition("] ")[2] for line in warnings] == (
        [f"--reply_url {url} gets no replies without {missing}"] if missing else []
    )
