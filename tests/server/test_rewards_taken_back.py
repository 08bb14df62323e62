"""What is taken back of rewards, on the page: the twins hold it, whatever else a batch did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.arrivals import Arrival, feedback, in_every_order, logged
from tests.support.deployments import Page, starter
from tests.support.peers.ledger import net
from tests.support.running import RunningServer

ROW = [0.1, 0.2, 0.7]
LATER = 100  # seconds ago, and so after the others


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    yield from starter(tmp_path_factory.mktemp("rewards"), "--store", "memory://", "--windows", "1h")


def values(page: Page) -> dict[tuple[str, str], int]:
    """Rewards by model and value, less what was taken back."""
    found = {(s.labels["model_name"], s.labels["value"]) for s in page.samples if s.name == "model_reward_values_total"}
    counts = {(model, value): net(page, "model_reward_values", model_name=model, value=value) for model, value in found}
    return {key: count for key, count in counts.items() if count}


@pytest.mark.parametrize(
    "events",
    [
        pytest.param((feedback("a", {"reward": 1}), feedback("a", {"reward": 2}, at=LATER)), id="by the same node"),
        pytest.param(
            (feedback("a", {"reward": 1}), feedback("b", {"reward": 2}, at=LATER), logged("a", [ROW])),
            id="by the reward of another arm",
        ),
    ],
)
def test_the_value_of_a_corrected_reward_is_taken_back(server: RunningServer, events: tuple[Arrival, ...]) -> None:
    """Of two rewards of one answer the later counts: the net of the values is that of the window, in any order, though
    the number of rewards stays as it was."""
    for order, page in in_every_order(server, *events):
        assert values(page) == {("a", "2"): 1}, order
        assert page.by("model_reward_ratio", "value", window="1h") == {"2": 1}, order
        assert net(page, "model_rewards", model_name="a") == 1, order
