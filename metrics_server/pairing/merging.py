"""The merging pass: each observation of a batch to the records it concerns, one for all ids of a request.

It goes through the batch in order, so an observation is a duplicate, or is refused, as if it had come alone. What an
observation says is not looked at yet: that is for matching, which finds every record whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from typing import NamedTuple, TypeAlias

from metrics_server.errors import Rejected
from metrics_server.metrics.labels import REQUEST, RESPONSE, Outcome
from metrics_server.pairing.observation import (
    FIRST_ROW,
    Entry,
    Erasure,
    Observation,
    RowObservation,
    request_of,
    row_key,
    row_number_of,
)
from metrics_server.pairing.record import MAX_KEYS, MAX_TRUTHS, OWN_KEY, PairingRecord, Truth, remember_event
from metrics_server.pairing.session import LoadedRecord, RecordSession
from metrics_server.series.series import Labels


class RowFiling(NamedTuple):
    """A row that was filed in a record, and the keys it was filed under; no record for a row that can meet nothing."""

    loaded: LoadedRecord | None
    keys: Sequence[bytes]
    row: RowObservation


class AliasFiling(NamedTuple):
    """A row of a request that is known by further keys: its logged predictions are to be filed under all of these."""

    loaded: LoadedRecord
    keys: Sequence[bytes]


class ListFiling(NamedTuple):
    """The truth of a further row out of a flat list, in the record of that row."""

    loaded: LoadedRecord
    keys: Sequence[bytes]
    truth: Truth


class ErasureFiling(NamedTuple):
    """The records of a request that is to be erased, and the id that it was named by."""

    records: Sequence[LoadedRecord]
    request_id: str


Filing: TypeAlias = "RowFiling | AliasFiling | ListFiling"
# What becomes of an observation: the record in which its single row was filed under a single key, as nearly all are;
# where its rows were filed; what an erasure concerns; or its result, if that is known.
Filed: TypeAlias = "LoadedRecord | list[Filing] | ErasureFiling | Outcome | Rejected"


def keys_of(entries: Sequence[Entry]) -> set[bytes]:
    """Collects the keys of all records and events that a batch is sure to need."""
    keys: set[bytes] = set()
    for observation in entries:
        if isinstance(observation, Erasure):
            continue
        keys.update(observation.keys or (observation.event,))
        if observation.joins and not observation.keys[0].endswith(FIRST_ROW):  # which is noted in the first row
            keys.add(request_of(observation.keys[0]) + FIRST_ROW)
        if observation.aliases:
            keys.update(observation.alias_row_keys)
    keys.discard(b"")
    return keys


class Merger:
    """Files the observations of one batch in order."""

    def __init__(self, session: RecordSession, admit: Callable[[Labels, float], object]) -> None:
        """`admit` makes the series of these labels if need be, for a prediction of this time, or raises `Rejected`."""
        self._session = session
        self._admit = admit

    def file(self, entry: Entry) -> Filed:
        """Files an observation, unless it is a duplicate, its request was erased, or its series is refused."""
        return self._erase(entry) if isinstance(entry, Erasure) else self._file(entry)

    def _file(self, observation: Observation) -> Filed:
        loaded = self._session.find(observation.keys[0]) if observation.joins else None
        if loaded is not None and (outcome := self._untaken(observation, loaded.record)) is not None:
            return outcome
        if observation.rows and _brings_counts(observation.rows[0]):
            try:
                prediction = observation.rows[0].prediction
                self._admit(observation.labels, observation.time if prediction is None else prediction.at)
            except Rejected as error:
                return error.without_traceback()
        if loaded is None:
            if observation.event and not self._session.is_new_event(observation.event):
                return Outcome.DUPLICATE
            return [RowFiling(None, (), row) for row in observation.rows]
        if len(observation.rows) == 1 and not observation.aliases and not loaded.record.request_aliases:
            row = observation.rows[0]
            is_first = observation.keys[0].endswith(FIRST_ROW)
            if is_first and (row.truth is None or not row.truth.flat):
                _note(observation, loaded)
                return loaded
        filings = list(self._filings(observation, loaded))
        _note(observation, self._session.find(observation.keys[0]))  # a later row may have taken the record in
        return filings

    def _erase(self, erasure: Erasure) -> Filed:
        """Files an erasure: from now on nothing is taken of the request."""
        records = [loaded for loaded in self._session.load_request(erasure.request) if not loaded.record.is_erased]
        if not records:
            return Outcome.IGNORED
        first = self._session.find(erasure.request + FIRST_ROW)
        for loaded in (*records, first):  # of whatever row: an event that comes again looks at the first
            loaded.record.is_erased = loaded.is_touched = True
        return ErasureFiling([*records, first], erasure.request_id)

    def _untaken(self, observation: Observation, record: PairingRecord) -> Outcome | None:
        """Tells what becomes of an observation of which nothing is taken; None of any other."""
        if observation.event and observation.event in record.event_digests:
            return Outcome.DUPLICATE
        return Outcome.ERASED if record.is_erased or self._is_erased_elsewhere(observation) else None

    def _is_erased_elsewhere(self, observation: Observation) -> bool:
        """Tells whether a request was erased under another id than that of this observation, or by another row."""
        if not observation.aliases and observation.keys[0].endswith(FIRST_ROW):
            return False
        keys = [row_key(alias, row) for alias, row in observation.aliases]
        if not observation.keys[0].endswith(FIRST_ROW):
            keys.append(request_of(observation.keys[0]) + FIRST_ROW)
        return any(self._session.find(key).record.is_erased for key in keys)

    def _filings(self, observation: Observation, first: LoadedRecord) -> Iterator[Filing]:
        if observation.kind == REQUEST:
            return self._alias_filings(observation, first)
        return self._row_filings(observation, first)

    def _row_filings(self, observation: Observation, first: LoadedRecord) -> Iterator[Filing]:
        session, keys = self._session, observation.keys
        if len(keys) > 1:
            first.record.row_count = max(first.record.row_count, len(keys))
        aliases = observation.aliases
        if first.record.request_aliases and observation.kind == RESPONSE:
            aliases = [*aliases, *((alias, 0) for alias in _aliases_of(first, request_of(keys[0])))]
        for number, (key, row) in enumerate(zip(keys, observation.rows, strict=True)):
            if aliases:
                yield RowFiling(
                    *session.merge_records([key, *(row_key(alias, start + number) for alias, start in aliases)]), row
                )
            else:
                yield RowFiling(session.find(key), (key,), row)
        yield from self._list_filings(observation, aliases)

    def _list_filings(self, observation: Observation, aliases: Iterable[tuple[bytes, int]]) -> Iterator[Filing]:
        """Notes a flat list or a row that feedback names, and files the lists that have rows by now."""
        loaded, truth = self._session.find(observation.keys[0]), observation.rows[0].truth
        if not observation.keys[0].endswith(FIRST_ROW):
            loaded = self._note_numbered(observation.keys[0])
        elif truth is not None and truth.flat and not truth.is_one_row:
            keys = (observation.keys[0], *(row_key(alias, start) for alias, start in aliases))
            noted = copy(truth)
            noted.key_indexes_by_preference = bytes(dict.fromkeys(loaded.indexes_of(keys)))
            loaded.record.flat_truths = [*loaded.record.flat_truths, noted][-MAX_TRUTHS:]
        yield from self._spread(loaded)

    def _note_numbered(self, key: bytes) -> LoadedRecord:
        """Remembers in the record of the first row that feedback names a further one."""
        first_key = request_of(key) + FIRST_ROW
        loaded = self._session.find(first_key)
        record, index = loaded.record, loaded.index_of(first_key)
        record.row_count = max(record.row_count, 2)  # whatever number is named: nothing is there of rows between
        if index not in record.numbered_keys:
            record.numbered_keys += bytes([index])
            loaded.is_touched = True
        return loaded

    def _spread(self, loaded: LoadedRecord) -> Iterator[ListFiling]:
        """Files the flat lists of a request under its rows, once several rows are known."""
        record = loaded.record
        if record.row_count == 1 or not record.flat_truths:
            return
        keys = [loaded.key, *record.alias_keys]
        lists, record.flat_truths = record.flat_truths, []
        for truth in lists:
            mine = [keys[index] for index in truth.key_indexes_by_preference]
            rows = [_further_keys(mine, row) for row in range(1, len(truth.flat))]
            self._session.load([key for at in rows for key in at])
            for at, value in zip(rows, truth.flat[1:], strict=True):
                one = Truth(truth.namespace, truth.deployment, truth.time, value, OWN_KEY, truth.labels, truth.weight)
                yield ListFiling(*self._session.merge_records(at), one)

    def _alias_filings(self, observation: Observation, first: LoadedRecord) -> Iterator[Filing]:
        """Files the predictions of a request, those there and those to come, under the client's ids of it too."""
        request, named = request_of(observation.keys[0]), first.record.request_aliases
        new = [alias for alias, _ in observation.aliases if request + alias not in named]
        new = new[: max(0, MAX_KEYS - len(named))]
        if not new:
            return
        named += [request + alias for alias in new]
        rows = range(first.record.row_count)
        self._session.load([row_key(digest, row) for digest in (request, *new) for row in rows])
        for row in rows:
            yield AliasFiling(*self._session.merge_records([row_key(digest, row) for digest in (request, *new)]))
        yield from self._spread(self._session.find(observation.keys[0]))


def _further_keys(first: list[bytes], row: int) -> list[bytes]:
    """Makes the keys of a row from those of the first row of a list."""
    return [row_key(request_of(key), row_number_of(key) + row) for key in first]


def _note(observation: Observation, first: LoadedRecord) -> None:
    """Remembers the event in the record of its first row."""
    if observation.event:
        remember_event(first.record, observation.event)
    first.is_touched = True


def _brings_counts(first: RowObservation) -> bool:
    """Tells whether an observation brings what is counted in the series that it names, and not a truth alone, nor the
    reward of a node that is not scored.
    """
    return first.prediction is not None or (first.reward is not None and first.reward.is_fallback_scored)


def _aliases_of(loaded: LoadedRecord, request: bytes) -> Iterator[bytes]:
    """Yields the digests of the ids that the client gave to this request."""
    for pair in loaded.record.request_aliases:
        if request_of(pair) == request:
            yield pair[len(request) :]
