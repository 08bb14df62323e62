"""One batch of events in passes: load, merge records by alias, match, aggregate; the writer commits the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from metrics_server.errors import Rejected
from metrics_server.metrics.components import SERVER_SERIES_ID
from metrics_server.metrics.labels import FEEDBACK, REQUEST, RESPONSE, DroppedMetric, Outcome
from metrics_server.metrics.window import USAGE
from metrics_server.pairing.aggregator import Aggregator, PairColumns
from metrics_server.pairing.latency import RequestLatencies
from metrics_server.pairing.matching import erase, match_alias, match_listed, match_row, standing_rows, withdraw_row
from metrics_server.pairing.merging import AliasFiling, ErasureFiling, Filed, Filing, Merger, RowFiling, keys_of
from metrics_server.pairing.observation import Entry, Observation, RowObservation, request_of, row_key
from metrics_server.pairing.record import PairingRecord
from metrics_server.pairing.session import LoadedRecord, RecordSession
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels
from metrics_server.store.interface import Change, Store

# Looked up once: an attribute of an enum takes 0.1 µs, and these are asked for several times an event.
ACCEPTED, PENDING = Outcome.ACCEPTED, Outcome.PENDING

BatchResult = Outcome | Rejected


@dataclass(frozen=True)
class Retention:
    """How long things are kept, in seconds.

    Attributes:
        history: sums in buckets, by prediction time.
        retention: records, from receipt: how long a prediction stays open to truth and correction.
        dedupe: the keys of events without a request id, from receipt.
    """

    history: int
    retention: int
    dedupe: int


class Batch:
    """Events that are applied together, each seeing what the earlier ones of the batch did."""

    def __init__(
        self,
        store: Store,
        registry: SeriesRegistry,
        retention: Retention,
        now: float,
        latencies: RequestLatencies | None = None,
    ) -> None:
        self._aggregator = self._make_aggregator(registry, now, retention.history)
        self._session = RecordSession(store, now, retention.retention, retention.dedupe)
        self._merger = Merger(self._session, self._aggregator.admit)
        self._now = now
        self._latencies = latencies or RequestLatencies()

    def _make_aggregator(self, registry: SeriesRegistry, now: float, history: int) -> Aggregator:
        return Aggregator(registry, now, history)

    def apply(self, entries: Sequence[Entry]) -> list[BatchResult]:
        """Pairs observations, and erases requests, in their order.

        Returns:
            What became of each, provided that `change` is then committed. Of an erasure ERASED, or IGNORED where
            nothing is kept of the request.
        """
        self._session.load(keys_of(entries))
        filed = list(map(self._merger.file, entries))
        return list(map(self._match, entries, filed))

    def admit(self, labels: Labels, at: float) -> Rejected | None:
        """Makes the series of these labels if need be, for a prediction of this time; says why it is refused."""
        try:
            self._aggregator.admit(labels, at)
        except Rejected as error:
            return error.without_traceback()
        return None

    def take_pairs(self, columns: PairColumns) -> None:
        """Counts pairs of admitted series that keep no record."""
        self._aggregator.take_pairs(columns)

    def change(self) -> Change:
        """Makes the change that the store has to apply."""
        change = self._aggregator.change()
        change.records = dict(self._session.writes())
        if usage := self._session.usage:
            change.sums[SERVER_SERIES_ID, USAGE] = usage
        return change

    @property
    def pending_by_second(self) -> Mapping[int, int]:
        """Counts the rows that wait by it, less those that do no more, by the second of receipt; after `change`."""
        return self._session.pending_by_second

    @property
    def dropped_custom_metrics(self) -> Mapping[DroppedMetric, int]:
        """Counts the custom metrics that were dropped, by reason."""
        return self._aggregator.dropped_custom_metrics

    def _match(self, entry: Entry, filed: Filed) -> BatchResult:
        if isinstance(filed, (LoadedRecord, list)):
            assert isinstance(entry, Observation)
            return self._match_observation(entry, filed)
        return self._erase(filed) if isinstance(filed, ErasureFiling) else filed

    def _erase(self, filed: ErasureFiling) -> BatchResult:
        self._latencies.forget(filed.request_id)
        for loaded in map(self._current, filed.records):
            erase(loaded.record, self._aggregator)
            loaded.clear()
        return Outcome.ERASED

    def _match_observation(self, observation: Observation, filed: LoadedRecord | list[Filing]) -> BatchResult:
        if observation.request_id and observation.kind != FEEDBACK:
            self._time(observation)
        if observation.custom_metrics is not None:
            self._aggregator.take_custom_metrics(observation.labels, observation.time, observation.custom_metrics)
        if observation.kind == RESPONSE and observation.joins:
            first = _first_filing(observation, filed)
            if before := self._answered_rows(first):
                self._match_beside(observation, first, filed, before)
                return ACCEPTED
        if isinstance(filed, LoadedRecord):
            is_waiting = self._match_row(filed, observation.keys, observation.rows[0])
        else:
            is_waiting = True
            for filing in filed:
                is_waiting &= self._match_filing(filing)
        return PENDING if is_waiting and observation.joins and observation.kind != REQUEST else ACCEPTED

    def _answered_rows(self, first: RowFiling) -> int:
        """Counts the rows of the answer of the node that has sent this first row; 0 while none is there."""
        if first.loaded is None or not self._current(first.loaded).record.predictions:
            return 0
        loaded = self._current(first.loaded)
        row = first.row.filed_under(loaded.indexes_of(first.keys))
        return 0 if row.prediction is None else standing_rows(loaded.record, row.prediction)

    def _match_beside(
        self, observation: Observation, first: RowFiling, filed: LoadedRecord | list[Filing], before: int
    ) -> None:
        """Matches a response beside others of its node: that with the largest path has all rows of the answer."""
        self._match_filing(first)
        standing = self._answered_rows(first)
        for number, filing in enumerate([] if isinstance(filed, LoadedRecord) else filed[1:], 1):
            if isinstance(filing, RowFiling) and number >= standing:
                self._withdraw(filing)
            else:
                self._match_filing(filing)
        if standing < before:
            self._withdraw_from(standing, before, observation)

    def _withdraw_from(self, start: int, end: int, observation: Observation) -> None:
        """Withdraws the further rows of an earlier response of the node."""
        request = request_of(observation.keys[0])
        keys = [row_key(request, row) for row in range(start, end)]
        self._session.load(keys)
        for key in keys:
            self._withdraw(RowFiling(self._session.find(key), (key,), observation.rows[0]))

    def _withdraw(self, filing: RowFiling) -> None:
        assert filing.loaded is not None
        loaded = self._current(filing.loaded)
        row = filing.row.filed_under(loaded.indexes_of(filing.keys))
        if row.prediction is not None:
            withdraw_row(loaded.record, row.prediction, self._aggregator)

    def _match_filing(self, filing: Filing) -> bool:
        """Matches what was filed; tells whether it is a truth that waits."""
        if filing.loaded is None:  # nothing can ever meet this row: it counts, and only the event's key is kept
            return match_row(PairingRecord(), filing.row, self._aggregator)
        if isinstance(filing, RowFiling):
            return self._match_row(filing.loaded, filing.keys, filing.row)
        loaded = self._current(filing.loaded)
        if isinstance(filing, AliasFiling):
            match_alias(loaded.record, loaded.indexes_of(filing.keys), self._aggregator)
            return False
        truth = copy(filing.truth)
        truth.key_indexes_by_preference = loaded.indexes_of(filing.keys)
        match_listed(loaded.record, truth, self._aggregator)
        return True

    def _match_row(self, filed: LoadedRecord, keys: Sequence[bytes], row: RowObservation) -> bool:
        loaded = self._current(filed)
        if loaded.record.alias_keys or loaded.key != keys[0]:
            row = row.filed_under(loaded.indexes_of(keys))
        return match_row(loaded.record, row, self._aggregator)

    def _current(self, loaded: LoadedRecord) -> LoadedRecord:
        """Finds the record to which a later observation of the batch has merged this one; it will be written."""
        if loaded.redirect_to:
            loaded = self._session.find(loaded.key)
        loaded.is_touched = True
        return loaded

    def _time(self, observation: Observation) -> None:
        """Takes the time between request and response, when both have come."""
        seconds = self._latencies.seen(
            observation.request_id,
            observation.labels,
            observation.time,
            self._now,
            answered=observation.kind == RESPONSE,
        )
        if seconds is not None:
            self._aggregator.latency(observation.labels, seconds)


def _first_filing(observation: Observation, filed: LoadedRecord | list[Filing]) -> RowFiling:
    """Tells where the first row of a response was filed."""
    if isinstance(filed, LoadedRecord):
        return RowFiling(filed, observation.keys, observation.rows[0])
    assert isinstance(filed[0], RowFiling)
    return filed[0]
