"""A wrapped model predicts indexes and a person says names: nothing of that passes in silence."""

from __future__ import annotations

import json

from tests.conftest import Serve
from tests.support.pages import html
from tests.support.running import FEEDBACK, RESPONSE, RunningServer, ce

MODEL = "/v1/models/shop/wine/main/classifier"


def _pair(server: RunningServer, request: str, prediction: object, truth: object) -> None:
    said, true = ({"data": {"ndarray": [value]}} for value in (prediction, truth))
    assert server.post(said, ce(RESPONSE, f"p{request}", request)).status == 200
    assert server.post({"truth": true}, ce(FEEDBACK, f"t{request}", request)).status == 200


def test_indexes_against_names_are_told_everywhere(serve: Serve) -> None:
    """The gauge, the JSON API of the model and the list, the page and the log, once, say that predictions are all
    indexes; with a pair of two names it is over."""
    server = serve("--store", "memory://")
    for number, name in enumerate(("setosa", "versicolor", "virginica")):
        _pair(server, f"r{number}", number, name)
    for _ in range(2):
        assert server.value("model_vocabularies_differ", window="1h", indexes="predictions") == 1
        values = json.loads(server.get(MODEL).body)["windows"]["1h"]["values"]
        (told,) = [value for value in values if value["name"] == "model_vocabularies_differ"]
        assert told["labels"] == {"indexes": "predictions"}
        (listed,) = json.loads(server.get("/v1/models").body)["models"]
        assert listed["windows"]["1h"]["indexes"] == "predictions"
        for path in ("/", MODEL.replace("/v1", "/ui")):
            assert "--class_names says which index has which name" in html(server, path).text
    assert server.log.read_text().count("are all indexes and the other side") == 1
    _pair(server, "r9", "setosa", "versicolor")
    assert server.value("model_vocabularies_differ") is None
    (listed,) = json.loads(server.get("/v1/models").body)["models"]
    assert "indexes" not in listed["windows"]["1h"]


def test_with_class_names_there_is_nothing_to_tell(serve: Serve) -> None:
    """With the names of the indexes given the same pairs are right."""
    server = serve("--store", "memory://", "--class_names", "setosa,versicolor,virginica")
    for number, name in enumerate(("setosa", "versicolor", "virginica")):
        _pair(server, f"r{number}", number, name)
    assert server.value("model_accuracy_ratio", window="1h") == 1
    assert server.value("model_vocabularies_differ") is None
