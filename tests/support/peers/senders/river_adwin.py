"""Tells at which labels of a stream River's ADWIN sees a fall. A stream is a string, "1" for a right label."""

from __future__ import annotations

import json
import sys

from river.drift import ADWIN


def falls(stream: str) -> list[int]:
    detector, found = ADWIN(), []
    for at, label in enumerate(stream):
        before = detector.estimation
        detector.update(int(label))
        if detector.drift_detected and detector.estimation < before:
            found.append(at)
    return found


for line in sys.stdin:
    print(json.dumps({"falls": [falls(stream) for stream in json.loads(line)["streams"]]}), flush=True)
