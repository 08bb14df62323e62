"""A request log without responses, as of KServe's batcher with a logger, is told of where people look."""

from __future__ import annotations

import json
import urllib.request

import pytest

from metrics_server.pairing import completeness
from tests.support.inside import Inside
from tests.support.page_html import Html
from tests.support.pages import BROWSER
from tests.support.running import REQUEST, RESPONSE, ce
from tests.support.waiting import until


def _post(url: str, headers: dict[str, str], body: object) -> None:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200


def _get(url: str, headers: dict[str, str] | None = None) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=30) as response:
        return str(response.read().decode())


def test_requests_without_responses_show_in_api_metrics_and_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The JSON API tells for each deployment how many requests had a response and how many none, of all or of one
    deployment; the same is a counter; and the page names the one that has none, which has no series."""
    monkeypatch.setattr(completeness, "RESPONSE_SECONDS", 3.0)
    with Inside() as inside:
        url = f"http://127.0.0.1:{inside.port}"
        for number in range(3):
            event = f"r{number}"
            churn = {"namespace": "crm", "inferenceservicename": "churn"}
            _post(url, ce(REQUEST, f"q{number}", event, **churn), {"instances": [[0.2, 17]]})
            _post(url, ce(REQUEST, f"w{number}", event), {"data": {"ndarray": [[1]]}})
            _post(url, ce(RESPONSE, f"p{number}", event), {"data": {"ndarray": [1]}})
        lost = {"namespace": "crm", "deployment": "churn", "answered": 0, "unanswered": 3}
        until(lambda: lost in json.loads(_get(f"{url}/v1/models"))["requests"], 20, "nothing is told")
        complete = {"namespace": "shop", "deployment": "wine", "answered": 3, "unanswered": 0}
        assert json.loads(_get(f"{url}/v1/models"))["requests"] == [lost, complete]
        assert json.loads(_get(f"{url}/v1/models/shop/wine"))["requests"] == [complete]
        counter = 'metrics_server_followed_requests_total{deployment_name="churn",deployment_namespace="crm",'
        assert f'{counter}outcome="unanswered"}} 3.0' in _get(f"{url}/v1/metrics")
        page = Html(_get(f"{url}/", BROWSER)).text
        assert "crm/churn: 3 of 3 requests without responses" in page
        assert "shop/wine:" not in page
