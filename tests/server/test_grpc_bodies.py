"""KServe's agent before a gRPC server: what it logs counts as what a REST server's does."""

from __future__ import annotations

import base64
import gzip

from tests.conftest import Serve
from tests.support.deployments import KSERVE_RESPONSE
from tests.support.grpc_bodies import GRPC, answer, frame
from tests.support.running import FEEDBACK, ce

LIMIT = 100_000


def test_calls_are_paired_and_bombs_are_refused(serve: Serve) -> None:
    """Plain and compressed answers meet their truths, in binary and in structured mode; one that is larger than
    --max_body_bytes after decompression is a 413, one cut short a 422."""
    server = serve("--store", "memory://", "--max_body_bytes", str(LIMIT))
    bodies = [frame(answer(1)), frame(gzip.compress(answer(1)), 1)]
    for n, body in enumerate(bodies):
        headers = ce(KSERVE_RESPONSE, f"call-{n}") | {"Content-Type": GRPC}
        assert server.post(body, headers).status == 200
        event = {"specversion": "1.0", "id": f"event-{n}", "source": "/a", "type": KSERVE_RESPONSE}
        event |= {"datacontenttype": GRPC, "data_base64": base64.b64encode(body).decode()}
        assert server.post(event, {"Content-Type": "application/cloudevents+json"}).status == 200
    told = [{"request_id": f"{kind}-{n}", "truth": 1} for kind in ("call", "event") for n in range(2)]
    assert server.post(told, {"Content-Type": "application/json"}, "/v1/feedback").status == 200
    assert server.value("model_support", window="1h") == 4
    assert server.value("model_labels_total", status="matched") == 4
    for body, status in ((frame(gzip.compress(bytes(LIMIT + 1)), 1), 413), (frame(answer(1))[:-1], 422)):
        assert server.post(body, ce(KSERVE_RESPONSE, "bad") | {"Content-Type": GRPC}).status == status


def test_an_old_sdk_states_the_type_twice(serve: Serve) -> None:
    """ce-datacontenttype that says what Content-Type says is accepted in binary mode, however it is spelt."""
    server = serve("--store", "memory://")
    pair = {part: {"data": {"ndarray": [1]}} for part in ("response", "truth")}
    spelt = [
        ("application/json", "application/json"),
        ("Application/JSON ; charset=UTF-8", "application/json;charset=utf-8"),
    ]
    for n, (stated, content_type) in enumerate(spelt):
        headers = ce(FEEDBACK, f"{n}") | {"Ce-Datacontenttype": stated, "Content-Type": content_type}
        assert server.post(pair, headers).status == 200
    assert server.value("model_support", window="1h") == 2
