"""One group of events, from what the store holds to what it has to apply: load, pair, increments, one change."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

from metrics_server.errors import Rejected
from metrics_server.metrics.components import SERVER_SERIES_ID
from metrics_server.metrics.labels import EventKind, Outcome
from metrics_server.metrics.window import USAGE
from metrics_server.pairing.aggregator import Aggregator
from metrics_server.pairing.latency import RequestLatencies
from metrics_server.pairing.matching import apply_row, settle
from metrics_server.pairing.observation import Observation, RowObservation, row_key
from metrics_server.pairing.record import MAX_KEYS, PairingRecord, remember_event
from metrics_server.pairing.session import LoadedRecord, RecordSession
from metrics_server.series.registry import SeriesRegistry
from metrics_server.store.interface import Change, Store

BatchResult = Outcome | Rejected


@dataclass(frozen=True)
class Retention:
    """How long things are kept, in seconds.

    Attributes:
        history: net sums, by prediction time.
        retention: halves of pairs, from receipt: how long a prediction stays open to truth and correction.
        dedupe: the keys of events without a request id, from receipt.
    """

    history: int
    retention: int
    dedupe: int


class Batch:
    """Events that are applied together, each seeing what the earlier ones of the group did."""

    def __init__(
        self,
        store: Store,
        registry: SeriesRegistry,
        keeping: Retention,
        now: float,
        latencies: RequestLatencies | None = None,
    ) -> None:
        self._ledger = Aggregator(registry, now, keeping.history)
        self._cabinet = RecordSession(store, now, keeping.retention, keeping.dedupe)
        self._latencies = latencies or RequestLatencies()

    def take(self, observations: Sequence[Observation]) -> list[BatchResult]:
        """Pairs the halves in their order; what became of each, provided that `change` is then committed."""
        keys = {key for observation in observations for key in (observation.keys or [observation.event])}
        keys.update(
            row_key(alias, first + row)
            for observation in observations
            for alias, first in observation.aliases
            for row in range(len(observation.keys))
        )
        keys.discard(b"")
        self._cabinet.load(keys)
        return [self._take(observation) for observation in observations]

    def change(self) -> Change:
        """What the store has to apply."""
        change = self._ledger.change()
        change.records = dict(self._cabinet.writes())
        if sums := self._cabinet.sums:
            change.sums[SERVER_SERIES_ID, USAGE] = sums
        return change

    def _take(self, observation: Observation) -> BatchResult:
        folder = self._cabinet.folder(observation.keys[0]) if observation.joins else None
        if folder is not None and observation.event and observation.event in folder.case.event_digests:
            return Outcome.DUPLICATE
        first = observation.rows[0] if observation.rows else None
        if first is not None and (first.prediction is not None or first.reward is not None):
            try:
                self._ledger.admit(observation.labels)
            except Rejected as error:
                return error.without_traceback()
        if folder is None and observation.event and not self._cabinet.is_new(observation.event):
            return Outcome.DUPLICATE
        if observation.kind != EventKind.FEEDBACK and observation.request_id:
            self._clock(observation)
        if folder is None:
            for (
                arrival
            ) in observation.rows:  # nothing can ever meet these halves: they count, and only the event's key is kept
                apply_row(PairingRecord(), arrival, self._ledger)
            return Outcome.ACCEPTED
        return Outcome.PENDING if self._file(observation, folder) else Outcome.ACCEPTED

    def _file(self, observation: Observation, first: LoadedRecord) -> bool:
        """Takes a half into the cases it concerns; says whether all its truths wait."""
        waits = False
        if observation.kind == EventKind.REQUEST:
            self._name(observation, first)
        else:
            waits = self._pair(observation, first)
        first = self._cabinet.folder(observation.keys[0])  # a later row may have taken the case in
        if observation.event:
            remember_event(first.case, observation.event)
        first.is_touched = True
        return waits

    def _pair(self, observation: Observation, first: LoadedRecord) -> bool:
        if len(observation.keys) > 1:
            first.case.row_count = max(first.case.row_count, len(observation.keys))
        aliases = observation.aliases
        if first.case.request_aliases and observation.kind == EventKind.RESPONSE:
            aliases = [
                *aliases,
                *((pair[16:], 0) for pair in first.case.request_aliases if pair[:16] == observation.keys[0][:16]),
            ]
        waits = True
        for row, (key, arrival) in enumerate(zip(observation.keys, observation.rows, strict=True)):
            if aliases:
                folder, keys = self._cabinet.joined([key, *(row_key(alias, start + row) for alias, start in aliases)])
            else:
                folder, keys = self._cabinet.folder(key), [key]
            filed = _under(arrival, folder, keys) if folder.case.alias_keys or folder.key != key else arrival
            waits = apply_row(folder.case, filed, self._ledger) and waits
            folder.is_touched = True
        return waits

    def _name(self, observation: Observation, first: LoadedRecord) -> None:
        """Files the predictions of a request, those there and those to come, under the ids that the client gave it
        too.
        """
        request = observation.keys[0][:16]
        named = first.case.request_aliases
        aliases = [alias for alias, _ in observation.aliases if request + alias not in named][
            : max(0, MAX_KEYS - len(named))
        ]
        if not aliases:
            return
        named += [request + alias for alias in aliases]
        self._cabinet.load([row_key(name, row) for name in (request, *aliases) for row in range(first.case.row_count)])
        for row in range(first.case.row_count):
            folder, keys = self._cabinet.joined([row_key(request, row), *(row_key(alias, row) for alias in aliases)])
            own, *others = (folder.index_of(key) for key in keys)
            for prediction in folder.case.predictions:
                if prediction.logged and prediction.key_indexes[0] == own:
                    prediction.key_indexes += bytes(index for index in others if index not in prediction.key_indexes)
            settle(folder.case, self._ledger)
            folder.is_touched = True

    def _clock(self, observation: Observation) -> None:
        """Takes the time between request and response, when both have come."""
        seconds = self._latencies.seen(
            observation.request_id,
            observation.labels,
            observation.time,
            answered=observation.kind == EventKind.RESPONSE,
        )
        if seconds is not None:
            self._ledger.latency(observation.labels, seconds)


def _under(arrival: RowObservation, folder: LoadedRecord, keys: Sequence[bytes]) -> RowObservation:
    """The arrival as it is filed in a case of several keys. The given one stays as it is: it may have to be taken
    again.
    """
    indexes = bytes(folder.index_of(key) for key in keys)
    prediction, truth, reward = copy(arrival.prediction), copy(arrival.truth), copy(arrival.reward)
    if prediction is not None:
        prediction.key_indexes = indexes
    if truth is not None:
        truth.key_indexes_by_preference = indexes
    if reward is not None:
        reward.key_indexes_by_preference = indexes
    return RowObservation(prediction, truth, reward)
