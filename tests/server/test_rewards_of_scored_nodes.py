"""Rewards under --score_models: whoever says them, they belong to a node that is scored."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.arrivals import feedback, in_every_order, logged, message
from tests.support.deployments import Page, starter
from tests.support.peers.ledger import net
from tests.support.running import RunningServer

ROW = [0.1, 0.2, 0.7]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    options = "--store", "memory://", "--windows", "1h", "--score_models", "a,b"
    yield from starter(tmp_path_factory.mktemp("scored"), *options)


def rewards(page: Page) -> dict[str, int]:
    """By model, less what was taken back, of every model that has a series."""
    models = {s.labels["model_name"] for s in page.samples if "model_name" in s.labels}
    return {model: net(page, "model_rewards", model_name=model) for model in models}


@pytest.mark.parametrize("path", [(), ("a",), ("scaler", "a")], ids=str)
def test_a_router_that_is_not_scored_says_the_reward_of_an_arm(server: RunningServer, path: tuple[str, ...]) -> None:
    """It counts once, for the logged prediction of a scored node on its path or, without a path, of any scored node;
    nodes that are not scored have no series."""
    body = {"response": message(None, *path), "reward": 1}
    events = feedback("router", body), logged("a", [ROW], *path), logged("router", [ROW], *path)
    for order, page in in_every_order(server, *events):
        assert rewards(page) == {"a": 1}, order


def test_a_reward_for_nothing_that_is_scored_does_not_count(server: RunningServer) -> None:
    """While nothing is logged, the reward of a node that is not scored is nobody's."""
    for order, page in in_every_order(server, feedback("router", {"reward": 1}), logged("router", [ROW])):
        assert rewards(page) == {}, order
