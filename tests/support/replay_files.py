"""Files of events and of rows as a replay reads them, and the values that it or a server tells of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from metrics_server.commands.replay.result import ReplayResult
from tests.support.running import FEEDBACK, REQUEST, RESPONSE

MIDNIGHT = 1_772_409_600  # 2026-03-02T00:00:00Z
LABELS = {
    "deployment_namespace": "namespace",
    "deployment_name": "deployment",
    "predictor_name": "predictor",
    "model_name": "model",
}

# A class without any true pair has no variance of its average precision; a server is not stopped by numpy's warning of
# that.

Key = tuple[str, frozenset[tuple[str, str]]]


def written(path: Path, records: Iterable[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def gauges(readings: Iterable[ReplayResult]) -> dict[Key, float]:
    """The values as the page for Prometheus has them."""
    found: dict[Key, float] = {}
    for reading in readings:
        whose = {name: reading[key] for name, key in LABELS.items()}  # type: ignore[literal-required]
        if part := reading.get("slice"):
            whose["slice"] = part
        for value in reading["values"]:
            labels = frozenset({**whose, **value["labels"]}.items())
            found[value["name"], labels] = value["value"]
            if "lower" in value and not {"class", "value"} & value["labels"].keys():
                found[f"{value['name']}_lower", labels] = value["lower"]
                found[f"{value['name']}_upper", labels] = value["upper"]
    return found


def pair_lines(count: int, since: float = MIDNIGHT, **members: Any) -> list[dict[str, Any]]:
    """Scores and classes of which most agree, all with times of their own."""
    random = Random(7)
    made = []
    for number in range(count):
        truth = int(random.random() < 0.4)
        score = round(min(1.0, max(0.0, random.gauss(0.3 + 0.4 * truth, 0.2))), 3)
        times = {"predicted_at": since + 600.0 * number, "labelled_at": since + 600.0 * number + 60}
        made.append({"request_id": f"r{number}", "truth": truth, "prediction": score, **times, **members})
    return made


def _event(kind: str, event_id: str, request_id: str, data: Any, at: str, **extensions: str) -> dict[str, Any]:
    about = {"namespace": "shop", "inferenceservicename": "wine", "endpoint": "main", "modelid": "classifier"}
    attributes = {
        "specversion": "1.0",
        "id": event_id,
        "source": "http://:8000/",
        "type": kind,
        "time": at,
        "requestid": request_id,
    }
    return {**attributes, **about, **extensions, "data": data}


def everything(since: float) -> list[dict[str, Any]]:
    """Statements of four tasks, with corrections, retractions, weights and repeats."""
    random = Random(3)
    said: list[dict[str, Any]] = []
    for number in range(120):
        times = {"predicted_at": since + number, "labelled_at": since + 100 + number}
        truth, row = random.randrange(3), [round(random.random(), 3) for _ in range(3)]
        said += [
            {"request_id": f"a{number}", "truth": truth % 2, "prediction": row[0], "deployment": "scores", **times},
            {
                "request_id": f"b{number}",
                "truth": truth,
                "prediction": row,
                "deployment": "rows",
                "weight": 1 + number % 3,
                **times,
            },
            {
                "request_id": f"c{number}",
                "truth": 5 + row[0],
                "prediction": 5 + row[1],
                "deployment": "prices",
                **times,
            },
            {
                "request_id": f"d{number}",
                "truth": "abc"[truth],
                "prediction": random.choice("abc"),
                "namespace": "shop",
                **times,
            },
        ]
    later = {"labelled_at": since + 500}
    said += [{"request_id": f"b{number}", "truth": 0, "deployment": "rows", **later} for number in range(20)]
    said += [{"request_id": f"c{number}", "truth": None, **later} for number in range(10)]
    return [*said, *said[:50]]


def mixed_events(at: str) -> list[dict[str, Any]]:
    """Requests, responses of two rows, feedback with rewards, of one slice."""
    events = [_event(REQUEST, "q1", "e1", {"data": {"ndarray": [[1.0], [2.0]]}}, at, country="nl")]
    events += [
        _event(RESPONSE, f"p{n}", f"e{n}", {"data": {"ndarray": [[0.3, 0.7], [0.8, 0.2]]}}, at, country="nl")
        for n in range(9)
    ]
    events += [
        _event(FEEDBACK, f"f{n}", f"e{n}", {"truth": {"data": {"ndarray": [1, n % 2]}}, "reward": n}, at)
        for n in range(6)
    ]
    return events
