"""What one client may make of the record of a row, however often it sends: bounded in size, and in what it costs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import pytest

from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.feedback import observations_of
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.labels import EventKind
from metrics_server.pairing.batch import Batch
from metrics_server.pairing.observation import Observation, digest_of, row_key
from metrics_server.pairing.record import (
    MAX_CANDIDATES,
    MAX_REWARDS,
    MAX_TRUTHS,
    PairingRecord,
    Prediction,
    absorb_record,
    decode_record,
)
from metrics_server.series.series import Labels
from metrics_server.store.interface import Record
from metrics_server.store.memory import MemoryStore
from tests.support.pairing_bench import KEEPING, MAIN, NOW, NOWHERE, Bench

NODES = [f"node-{number:03}" for number in range(2 * MAX_CANDIDATES)]
SHOP = {"namespace": "shop", "inferenceservicename": "wine"}


def observed(kind: EventKind, body: Any, event_id: str = "e", **more: str) -> Observation:
    attributes = SHOP | {"requestid": "r"} | more
    event = Event(kind, event_id, "/test", "t", NOW, attributes, "application/json", msgspec.json.encode(body))
    return observation_of(event, NOWHERE, NOW)


def message(rows: list[Any], *path: str) -> dict[str, Any]:
    return {"data": {"ndarray": rows}, "meta": {"requestPath": dict.fromkeys(path, "image")}}


def apply(bench: Bench, *observations: Observation) -> dict[bytes, bytes]:
    """What is written of them: values by key."""
    batch = Batch(bench.store, bench.registry, KEEPING, NOW)
    batch.apply(observations)
    change = batch.change()
    assert bench.store.commit(change)
    return {key: write.value for key, write in change.records.items()}


def record_of(bench: Bench, row: int = 0) -> PairingRecord:
    key = row_key(digest_of("r"), row)
    found = decode_record(bench.store.load([key])[key].value)
    assert isinstance(found, PairingRecord)
    return found


def test_feedback_that_names_ever_more_models_gives_way_to_any() -> None:
    """The candidates of a prediction are bounded; beyond the limit any logged prediction is it, in any order."""
    for nodes in (NODES, NODES[::-1]):
        bench = Bench()
        for start in range(0, len(nodes), 32):
            body = {"response": message([1], *nodes[start : start + 32]), "truth": message([1])}
            apply(bench, observed(EventKind.FEEDBACK, body, f"e{start}"))
        (carried,) = record_of(bench).predictions
        assert carried.candidates == []
        apply(bench, observed(EventKind.RESPONSE, message([1]), "p", endpoint="main", modelid="classifier"))
        assert set(bench.net()) == {MAIN}


def test_candidates_below_the_limit_are_kept() -> None:
    """A graph's nodes, whoever says them, stay candidates."""
    carried = Prediction(Labels("shop", "wine", "", ""), 0, 0, False, 1, candidates=NODES[:MAX_CANDIDATES])
    carried.add_candidates(NODES[:2])
    assert carried.candidates == NODES[:MAX_CANDIDATES]


def test_rewards_of_ever_more_nodes_are_bounded() -> None:
    """Nobody vouches for the node that says a reward: of those that do not count some are kept, and one counts once."""
    bench = Bench()
    for number, node in enumerate(NODES):
        body = {"response": message([1], "classifier"), "reward": 1}
        apply(bench, observed(EventKind.FEEDBACK, body, f"e{number}", endpoint="main", modelid=node))
    assert len(record_of(bench).rewards) == MAX_REWARDS
    apply(bench, observed(EventKind.RESPONSE, message([1]), "p", endpoint="main", modelid="classifier"))
    (counts,) = bench.net().values()
    assert counts["server/rewards"] == 1


def test_rewards_that_all_count_are_bounded() -> None:
    """What is dropped is taken back, so that the sums tell what is kept."""
    bench = Bench()
    for number, node in enumerate(NODES):
        body = {"response": message([1]), "reward": 1}
        apply(bench, observed(EventKind.FEEDBACK, body, f"e{number}", endpoint="main", modelid=node))
    assert len(record_of(bench).rewards) == MAX_REWARDS
    assert sum(counts["server/rewards"] for counts in bench.net().values()) == MAX_REWARDS


@pytest.mark.parametrize("value", ["x" * 250, 0.5], ids=["texts", "numbers"])
def test_flat_lists_that_are_too_large_for_a_row_are_rows(value: Any) -> None:
    """What is kept whole of a record is bounded: a list of more than 64 KiB is filed row by row."""
    bench = Bench()
    apply(bench, observed(EventKind.FEEDBACK, {"truth": message([value] * 7300)}))
    record = record_of(bench)
    assert [truth.flat for truth in record.truths] == [[]]
    assert record.flat_truths == []
    assert record_of(bench, 7299).truths[0].value == value
    few = [value] * 200
    for number in range(MAX_TRUTHS + 2):
        body = {"truth": message([*few[1:], number])}
        apply(bench, observed(EventKind.FEEDBACK, body, f"e{number}", requestid="small"))
    written = bench.store.load([key := row_key(digest_of("small"), 0)])[key].value
    assert len(written) < 2 * MAX_TRUTHS * 64 * 2**10


def test_a_far_row_of_feedback_makes_no_rows_between() -> None:
    """A truth for row 19,999 says nothing of the rows before, which a further id of the request would all have to be
    filed under."""
    bench = Bench()
    (truth,) = observations_of(b'{"request_id": "r", "row": 19999, "truth": 1}', NOWHERE, NOW)
    assert isinstance(truth, Observation)
    apply(bench, truth)
    written = apply(bench, observed(EventKind.REQUEST, {"meta": {"puid": "mine"}}))
    assert len(written) <= 4


class CountingStore(MemoryStore):
    """Counts how often it is asked."""

    loads = 0

    def load(self, keys: Collection[bytes]) -> Mapping[bytes, Record]:
        self.loads += 1
        return super().load(keys)


def test_rows_by_their_number_are_read_in_one_go() -> None:
    """However many requests a list of feedback is about, and though each is noted in the record of a first row."""
    bench = Bench()
    store = bench.store = CountingStore()
    items = [{"request_id": f"r{number}", "row": 1, "truth": 1} for number in range(100)]
    found = observations_of(msgspec.json.encode(items), NOWHERE, NOW)
    apply(bench, *[one for one in found if isinstance(one, Observation)])
    assert store.loads == 1


def test_the_rows_of_a_list_are_read_in_one_go() -> None:
    """A list that turns out to be rows, of which more are labelled than were predicted."""
    bench = Bench()
    store = bench.store = CountingStore()
    apply(bench, observed(EventKind.FEEDBACK, {"truth": message([1] * 100)}))
    asked = store.loads
    apply(bench, observed(EventKind.RESPONSE, message([1, 1]), "p", endpoint="main", modelid="classifier"))
    assert store.loads - asked == 2


def test_merging_records_repeats_no_index() -> None:
    """The keys under which rows are named stand once, however often their records are merged."""
    record, other = PairingRecord(numbered_keys=b"\0"), PairingRecord(numbered_keys=b"\0")
    absorb_record(record, b"own", b"own", other)
    assert record.numbered_keys == b"\0"
