"""Labels of two predictors, such that there is one verdict or another on them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.support.running import RunningServer

FEW, BASELINE, BETTER, EQUAL, WORSE = (10, 0), (240, 60), (300, 0), (960, 240), (120, 180)  # right, and wrong
JSON = {"Content-Type": "application/json"}


class Canary:
    """A candidate and its baseline, of which nothing has come but a label of the baseline."""

    def __init__(
        self,
        server: RunningServer,
        *,
        labels: Mapping[str, str],
        baseline: str,
        candidate: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`labels` are those of both: namespace, deployment and model; `headers` are for what is asked."""
        self._server = server
        self._labels = labels
        self._baseline = baseline
        self._candidate = candidate
        self._headers = headers
        self._tell(baseline, (1, 0), None)

    def begin(self) -> None:
        """A first label of the candidate."""
        self._tell(self._candidate, (1, 0), None)

    def label(self, candidate: tuple[int, int], baseline: tuple[int, int] = BASELINE) -> None:
        """So many right and wrong labels of each, of predictions made when both were there."""
        self.begin()
        since = self._since() + 1
        self._tell(self._baseline, baseline, since)
        self._tell(self._candidate, candidate, since)

    def _since(self) -> float:
        path = f"/v1/models/{self._labels['namespace']}/{self._labels['deployment']}/verdict"
        (found,) = json.loads(
            self._server.get(
                f"{path}?predictor={self._candidate}&baseline={self._baseline}", dict(self._headers or {})
            ).body
        )["verdicts"]
        return float(found["since"])

    def _tell(self, predictor: str, counts: tuple[int, int], at: float | None) -> None:
        said = {**self._labels, "predictor": predictor, "prediction": "cat"}
        if at is not None:
            said["predicted_at"] = at  # type: ignore[assignment]
        items = [
            {**said, "truth": truth} for truth, count in zip(("cat", "dog"), counts, strict=True) for _ in range(count)
        ]
        assert self._server.post(items, JSON, "/v1/feedback").status == 200
