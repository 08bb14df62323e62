"""Ratings of generated answers over a real server."""

from __future__ import annotations

from tests.conftest import Serve
from tests.support.running import FEEDBACK as FEEDBACK_EVENT
from tests.support.running import RESPONSE, ce


def test_people_rate_answers_that_no_metric_can_read(serve: Serve) -> None:
    """A logged answer of a language model waits for its thumb like any prediction; a change of mind takes the first one
    back."""
    server = serve("--storage_uri", "cm_models.human_feedback.HumanFeedback")
    server.post({"choices": [{"message": {"content": "An answer. " * 100}}]}, ce(RESPONSE, "1", "r1"))
    server.post({"truth": {"strData": "thumbs_down"}}, ce(FEEDBACK_EVENT, "2", "r1"))
    server.post({"truth": {"strData": "thumbs_up"}}, ce(FEEDBACK_EVENT, "3", "r1"))
    assert server.value("model_thumbs_up_ratio", window="1h") == 1
    assert (
        server.value("model_ratings_total", value="-1")
        == server.value("model_ratings_retracted_total", value="-1")
        == 1
    )
    assert server.value("model_labels_total", status="corrected") == 1
