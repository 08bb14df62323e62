"""The merging pass: observations to records, one for all ids of a request, before anybody looks at what they say."""

from __future__ import annotations

from collections.abc import Sequence

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.labels import EventKind, Outcome
from metrics_server.metrics.window import DAY
from metrics_server.pairing.merging import AliasFiling, Filed, Merger, RowFiling, keys_of
from metrics_server.pairing.observation import Observation, digest_of, row_key
from metrics_server.pairing.record import MAX_KEYS, decode_record
from metrics_server.pairing.session import LoadedRecord, RecordSession
from metrics_server.series.series import Labels
from metrics_server.store.interface import Change
from metrics_server.store.memory import MemoryStore

NOW = 1_790_000_000.0
NOWHERE = Labels("", "", "", "")


def observed(kind: EventKind, event_id: str, request: str, puid: str = "", *, rows: int = 1) -> Observation:
    """An observation of each kind, known by its request id and, with a puid, by that too."""
    meta = f'"meta":{{"puid":"{puid}"}}' if puid else '"meta":{}'
    data = {
        EventKind.REQUEST: f"{{{meta}}}",
        EventKind.RESPONSE: f'{{"data":{{"ndarray":{[1] * rows}}},{meta}}}',
        EventKind.FEEDBACK: f'{{"truth":{{"data":{{"ndarray":{[1] * rows}}},{meta}}}}}',
    }[kind]
    attributes = {"requestid": request, "namespace": "shop", "inferenceservicename": "wine"}
    event = Event(kind, event_id, "/test", "t", NOW, attributes, "application/json", data.encode())
    return observation_of(event, NOWHERE, NOW)


def response(event_id: str, request: str, puid: str = "", *, rows: int = 1) -> Observation:
    return observed(EventKind.RESPONSE, event_id, request, puid, rows=rows)


def truth(event_id: str, request: str, puid: str = "") -> Observation:
    return observed(EventKind.FEEDBACK, event_id, request, puid)


def key(request: str, row: int = 0) -> bytes:
    return row_key(digest_of(request), row)


class Bench:
    """The merging pass on a memory store."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.session = RecordSession(self.store, NOW, 35 * DAY, DAY)
        self.admitted: list[Labels] = []
        self.merger = Merger(self.session, self.admit)

    def admit(self, labels: Labels, at: float) -> None:
        if labels.deployment == "full":
            raise Rejected(Reason.TOO_MANY_SERIES, "there are too many")
        self.admitted.append(labels)

    def file(self, observations: Sequence[Observation]) -> list[Filed]:
        self.session.load(keys_of(observations))
        return [self.merger.file(observation) for observation in observations]

    def store_all(self) -> None:
        assert self.store.commit(Change(records=dict(self.session.writes())))


def rows_of(filed: Filed) -> list[RowFiling]:
    assert isinstance(filed, list)
    return [filing for filing in filed if isinstance(filing, RowFiling)]


def test_each_row_is_filed_under_its_own_key() -> None:
    """Rows of one event go to records of their own, in their order."""
    bench = Bench()
    (filed,) = bench.file([response("1", "r", rows=3)])
    assert [filing.keys for filing in rows_of(filed)] == [(key("r", row),) for row in range(3)]
    assert [filing.loaded.key for filing in rows_of(filed) if filing.loaded] == [key("r", row) for row in range(3)]


def test_ids_of_one_request_have_one_record_whichever_comes_first() -> None:
    """A response with a puid, and a truth under that puid alone, are filed in the same record."""
    for observations in (
        [response("1", "r", "p"), truth("2", "p")],
        [truth("2", "p"), response("1", "r", "p")],
    ):
        bench = Bench()
        bench.file(observations)
        assert bench.session.find(key("r")) is bench.session.find(key("p"))


def test_a_merge_is_stored_as_a_record_and_a_redirect() -> None:
    """What a later batch finds under either id is the one record."""
    bench = Bench()
    bench.file([response("1", "r", "p")])
    bench.store_all()
    found = {name: decode_record(record.value) for name, record in bench.store.load([key("r"), key("p")]).items()}
    assert found[key("p")] == key("r")
    later = Bench(bench.store)
    (filed,) = later.file([truth("2", "p")])
    assert isinstance(filed, LoadedRecord)
    assert filed.key == key("r")


def test_a_request_files_rows_that_are_there_and_rows_to_come_under_its_aliases() -> None:
    """A request event that names a puid joins it to all rows of the request that are known, and to later ones."""
    bench = Bench()
    before, named, after = bench.file(
        [response("1", "r", rows=2), observed(EventKind.REQUEST, "2", "r", "p"), response("3", "r", rows=3)]
    )
    assert isinstance(before, list)
    assert isinstance(named, list)
    assert [filing.keys for filing in named if isinstance(filing, AliasFiling)] == [
        [key("r", row), key("p", row)] for row in range(2)
    ]
    assert [filing.keys for filing in rows_of(after)] == [[key("r", row), key("p", row)] for row in range(3)]


def test_a_repeated_event_is_a_duplicate_in_its_batch_and_later() -> None:
    """The same event changes nothing, whether its first copy is in this batch or in the store."""
    bench = Bench()
    assert bench.file([response("1", "r"), response("1", "r")])[1] is Outcome.DUPLICATE
    bench.store_all()
    assert Bench(bench.store).file([response("1", "r")]) == [Outcome.DUPLICATE]


def test_an_event_whose_series_is_refused_joins_nothing() -> None:
    """A refused event merges no records and is not remembered: it may come again when there is room."""
    bench = Bench()
    (filed,) = bench.file([_full("1")])
    assert isinstance(filed, Rejected)
    assert bench.session.find(key("r")) is not bench.session.find(key("p"))
    bench.store_all()
    assert not bench.store.load([key("r"), key("p")])


def _full(event_id: str) -> Observation:
    attributes = {"requestid": "r", "namespace": "shop", "inferenceservicename": "full"}
    data = b'{"data":{"ndarray":[1]},"meta":{"puid":"p"}}'
    event = Event(EventKind.RESPONSE, event_id, "/test", "t", NOW, attributes, "application/json", data)
    return observation_of(event, NOWHERE, NOW)


def test_a_truth_alone_needs_no_series() -> None:
    """A truth that names a model which never predicts makes no series."""
    bench = Bench()
    bench.file([truth("1", "r")])
    assert bench.admitted == []
    bench.file([response("2", "r")])
    assert len(bench.admitted) == 1


def test_one_puid_on_every_request_joins_no_more_than_a_record_holds() -> None:
    """A client that gives all its requests one puid cannot make one endless record of them."""
    bench, requests = Bench(), MAX_KEYS + 5
    bench.file([response(str(number), f"r{number}", "always") for number in range(requests)])
    records = {id(bench.session.find(key(f"r{number}"))) for number in range(requests)}
    assert len(bench.session.find(key("always")).record.alias_keys) < MAX_KEYS
    assert len(records) > 1
