"""Places that settings name: how they are spelt, and what stands there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metrics_server.errors import BadConfiguration
from metrics_server.ingest.payload.body_id import id_in_body
from metrics_server.ingest.sender_rules import as_sent
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.model import MetricModel
from metrics_server.series.series import Labels
from metrics_server.settings import Settings, load


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("--request_id_from=cookie:x", "--request_id_from cookie:x: want header:NAME, attribute:NAME or body:PATH"),
        ("--request_id_from=header:", "--request_id_from header:: want header:NAME"),
        ("--request_id_from=header:X Id", "want header:NAME"),
        ("--request_id_from=attribute:OrderId", "--request_id_from attribute:OrderId: want header:NAME"),
        ("--request_id_from=body:meta..id", "--request_id_from body:meta..id: want header:NAME"),
        ("--request_id_from=body:id,X-Request-Id", "--request_id_from X-Request-Id: want header:NAME"),
        ("--request_id_from=annotation:arm", "want header:NAME, attribute:NAME or body:PATH"),
        ("--predictor_from=body:arm", "--predictor_from body:arm: want annotation:NAME"),
        ("--predictor_from=arm", "--predictor_from arm: want annotation:NAME, header:NAME, attribute:NAME or tag:NAME"),
    ],
)
def test_a_place_that_is_misspelt_is_named(option: str, wanted: str) -> None:
    """What was set, and what is wanted, stand in the error."""
    with pytest.raises(BadConfiguration) as error:
        load([option], {})
    assert wanted in str(error.value)


@pytest.mark.parametrize("part", ["predictor", "model"])
@pytest.mark.parametrize("setting", [{"request_id_from": ["body:id"]}, {"predictor_from": ["annotation:arm"]}])
def test_places_are_of_whole_deployments(part: str, setting: dict[str, list[str]], tmp_path: Path) -> None:
    """An entry that is about a predictor or a model cannot have them: a truth names neither, and the predictor is not
    known yet."""
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"deployments": [{"threshold": 0.3}, {part: "a", **setting}]}))
    with pytest.raises(BadConfiguration, match=r"--deployments\[1\].*without predictor and model"):
        load(["--config", str(path)], {})


def test_a_misspelt_place_of_a_deployment_is_named(tmp_path: Path) -> None:
    """So it is in the list of deployments."""
    path = tmp_path / "config.yaml"
    path.write_text("deployments: [{deployment: chat, request_id_from: [id]}]")
    with pytest.raises(BadConfiguration, match=r"--deployments\[0\]\.request_id_from id: want header:NAME"):
        load(["--config", str(path)], {})


def _no_model(path: str, parameters: object) -> MetricModel:
    raise BadConfiguration(path)


def test_the_first_entry_of_a_whole_deployment_decides(tmp_path: Path) -> None:
    """An entry with its own list, even an empty one, replaces the general list; entries of models are passed over."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "request_id_from: [body:id]\n"
        "deployments: [{deployment: a, model: m, threshold: 0.3}, {deployment: a, request_id_from: []},"
        " {deployment: b, threshold: 0.3}]"
    )
    rules_of = load(["--config", str(path)], {}).sender_rules(_no_model)
    places = {name: rules_of(Labels("", name, "", "m")).request_id_from for name in "abc"}
    assert places == {"a": (), "b": (("body", "id"),), "c": (("body", "id"),)}


def test_without_rules_nothing_is_looked_up() -> None:
    """The default configuration asks nothing of an event beyond what its platform states."""
    assert Settings().sender_rules(_no_model) is as_sent


@pytest.mark.parametrize(
    ("kind", "body", "path", "found"),
    [
        (EventKind.RESPONSE, b'{"id": "a"}', "id", "a"),
        (EventKind.RESPONSE, b'{"id": 7}', "id", "7"),
        (EventKind.RESPONSE, b'{"meta": {"call": {"id": "a"}}}', "meta.call.id", "a"),
        (EventKind.RESPONSE, b'{"meta": "a"}', "meta.id", ""),
        (EventKind.RESPONSE, b'{"id": 1e400}', "id", ""),
        (EventKind.RESPONSE, b'["id"]', "id", ""),
        (EventKind.RESPONSE, b'data: {"id": "a"}\r\n\r\ndata: [DONE]\n', "id", "a"),
        (EventKind.RESPONSE, b"data: {", "id", ""),
        (EventKind.RESPONSE, b'{"id": "a"} \x00\x01}', "id", ""),
        (EventKind.RESPONSE, b"\x0a\x03abc", "id", ""),
        (EventKind.FEEDBACK, b'{"id": "f", "request": {"id": "q"}, "response": {"id": "a"}}', "id", "a"),
        (EventKind.FEEDBACK, b'{"id": "f", "request": {"id": "q"}, "response": {}}', "id", "q"),
        (EventKind.FEEDBACK, b'{"id": "f"}', "id", ""),
        (EventKind.RESPONSE, b"[" * 5000, "id", ""),
    ],
)
def test_ids_in_bodies(kind: EventKind, body: bytes, path: str, found: str) -> None:
    """A text or a whole number at the path is found; anything else is none, and no error."""
    assert id_in_body(kind, body, path) == found
