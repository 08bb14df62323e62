"""`metrics-server replay`: the numbers that a server would show, computed from files of predictions and truths.

Each record goes the way of an event on a server: decode, normalize, pair, commit, compute. Only the time at which it is
applied differs, see `applied_at`: everything in the files counts, however old it is, and the order of the records is of
no consequence.

    from metrics_server.commands.replay import replay

    for result in replay([{"truth": 1, "prediction": 0.9}, {"truth": 0, "prediction": 0.2}], threshold=0.3):
        for value in result["values"]:
            print(value["name"], value["labels"], value["value"])
"""

from __future__ import annotations

import gc
import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from itertools import groupby
from typing import Annotated, Any, NamedTuple, TypeAlias, cast

import msgspec

from metrics_server import settings as server_settings
from metrics_server.commands.replay.pairs import PairReader, Piece, Run
from metrics_server.commands.replay.processes import read as read_blocks
from metrics_server.commands.replay.result import ReplayResult, result_of
from metrics_server.commands.replay.source import Block, Source, of_dicts
from metrics_server.commands.replay.standing_alone import StandingAlone
from metrics_server.errors import BadConfiguration, Reason, Rejected
from metrics_server.ingest.cloudevent import BATCH, Event, decode, seconds_at
from metrics_server.ingest.decoding import read
from metrics_server.ingest.feedback import EARLIEST, LATEST, FeedbackItem, observations_of
from metrics_server.ingest.normalize import observation_of
from metrics_server.ingest.pod import default_labels
from metrics_server.ingest.request_id import digest_for
from metrics_server.ingest.slicing import SlicingRules, dimensions_of
from metrics_server.metrics.components import LABELS, PENDING_TRUTHS, SERVER_SERIES_ID
from metrics_server.metrics.labels import EventKind, LabelStatus
from metrics_server.metrics.sums import add_into
from metrics_server.metrics.window import COARSEST, CUMULATIVE, DAY, HOUR, MINUTE, USAGE, Bucket, floor, seconds_of
from metrics_server.pairing.aggregator import PairColumns
from metrics_server.pairing.batch import Batch, Retention
from metrics_server.pairing.merging import keys_of
from metrics_server.pairing.observation import Observation, digest_of, request_of, row_key
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.families import model_at
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels
from metrics_server.settings import Settings
from metrics_server.store.interface import Change
from metrics_server.store.memory import MemoryStore

BATCH_ROWS = 16_384  # rows applied together: four times as many as on a server, where somebody waits for them

WHEN_ALL_ARE_OLD = LATEST + 30 * DAY  # the buckets of all predictions are a day wide then
WHEN_ALL_ARE_FRESH = 6 * HOUR  # of 1970: the buckets of all later predictions are a minute wide then

# All times are within the history. Nothing expires here, since nobody asks the store for expired records.
RETENTION = Retention(history=WHEN_ALL_ARE_OLD - EARLIEST + DAY, retention=DAY, dedupe=DAY)

ALL_SINCE = 2 * EARLIEST  # before the bucket of any time there is

SHOWN_REFUSALS = 10
_UNSCORABLE_ADVICE = "move no value; storage_uri settles it"

# As of a server: next to nothing here forms cycles, and each collection visits every record. The defaults cost a third
# of the rate.
GC_THRESHOLDS = (200_000, 20, 100)


class _Logged(FeedbackItem, gc=False):
    """A record without a truth: a prediction, as a request log has it."""

    truth: Any = None
    prediction: msgspec.Raw = msgspec.Raw(b"null")
    predicted_at: str | Annotated[float, msgspec.Meta(ge=EARLIEST, lt=LATEST)] | None = None


_DATE = re.compile(rb'"\d{4}-\d\d-\d\d"')  # without a time: a server refuses it, but tables have it
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LOGGED = msgspec.json.Decoder(_Logged)

Refused = Callable[["Place", Rejected], None]


class Place(NamedTuple):
    """Where a record stands: its file, "" where there is none, and the number of its line there."""

    file: str
    number: int


class _WaitingRun(NamedTuple):
    """A run that was read, and not applied yet."""

    file: str
    run: Run


class _WaitingOne(NamedTuple):
    """An observation that was made, and not applied yet."""

    place: Place
    observation: Observation


_Waiting: TypeAlias = "_WaitingRun | _WaitingOne"


class Replay:
    """Feeds records to the code of the server, into a store that lives as long as this object.

    Attributes:
        refused: numbers of records that could not be used, by reason.
        counts: numbers of records that were taken (repeats too), ignored (events of other types), or clamped (with a
            time in the future).
    """

    def __init__(
        self,
        settings: Settings,
        defaults: Labels,
        *,
        step: int = 0,
        now: float | None = None,
        on_refused: Refused = lambda place, error: None,
    ) -> None:
        """Makes a replay that has taken nothing.

        Args:
            settings: those of a server.
            defaults: labels that records do not state.
            step: the length in seconds of the steps of the history, 0 for none.
            now: the time, in UTC seconds, of all records without one of their own; None: that of the clock.
            on_refused: is told of each record that could not be used.

        Raises:
            BadConfiguration: a setting cannot be used, or the step is no number of minutes.
        """
        if step % MINUTE:
            raise BadConfiguration(f"--step: want a multiple of {MINUTE}s")
        exported = settings.max_exported_classes
        build = partial(model_at, max_exported_classes=exported, allow_pickle=settings.allow_pickle)
        for path in settings.model_paths:
            build(path, {})
        self._defaults = defaults
        self._slicing = SlicingRules(dimensions_of(settings.slices), frozenset(settings.score_models))
        self._rules_of = settings.sender_rules(build)
        self._registry = SeriesRegistry(settings.scoring_of, build, settings.max_series, settings.max_slices)
        self._evaluator = Evaluator(
            settings.max_exported_classes, settings.min_support, value_matrix_of=settings.value_matrices()
        )
        self._store = MemoryStore()
        self._step = step
        self._applied_at = applied_at(step)
        self._received_at = time.time() if now is None else now
        self._on_refused = on_refused
        self._make_reader = partial(PairReader, defaults, self._received_at, self._slicing.score_models)
        self._alone = StandingAlone()
        self._waiting: list[_Waiting] = []
        self._rows = 0
        self.refused: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def take(
        self, blocks: Iterable[Block], on_progress: Callable[[], object] = lambda: None, processes: int = 1
    ) -> None:
        """Takes records, read in so many processes; `on_progress` is called after each batch of them."""
        with closing(read_blocks(blocks, self._make_reader, processes)) as found:
            self.take_pieces(found, on_progress)

    def take_pieces(
        self, found: Iterable[tuple[str, list[Piece]]], on_progress: Callable[[], object] = lambda: None
    ) -> None:
        """Takes what was read, in its order, each with the name of its file."""
        with _few_collections():
            for file, pieces in found:
                for piece in pieces:
                    self._take(file, piece)
                if self._rows >= BATCH_ROWS:
                    self._commit()
                    on_progress()
            self._commit()
            on_progress()

    def _take(self, file: str, piece: Piece) -> None:
        if not isinstance(piece, Run):
            self._take_one(Place(file, piece.number), piece.body)
        elif piece.digests and not self._digests_as_ever(piece.columns):
            for number, body in zip(piece.numbers, piece.bodies, strict=True):
                self._take_one(Place(file, number), body)
        else:
            self._waiting.append(_WaitingRun(file, piece))
            self._rows += len(piece.numbers)

    def _digests_as_ever(self, columns: PairColumns) -> bool:
        """Tells whether no rule for a sender has its ids digested otherwise."""
        return all(
            digest_for(labels, self._rules_of) is digest_of for labels in {target.labels for target in columns.targets}
        )

    def _take_one(self, place: Place, body: bytes | Rejected) -> None:
        if (one := self._one(place, body)) is not None:
            self._waiting.append(one)
            self._rows += max(1, len(one.observation.rows) + one.observation.more_rows)

    def _one(self, place: Place, body: bytes | Rejected) -> _WaitingOne | None:
        """Makes the observation of a record, unless it is refused or ignored."""
        try:
            observation = self._observation(body)
        except Rejected as error:
            self._refuse(place, error)
            return None
        if observation is None:
            self.counts["ignored"] += 1
            return None
        return _WaitingOne(place, observation)

    def _refuse(self, place: Place, error: Rejected) -> None:
        self.refused[error.reason.label] += 1
        self._on_refused(place, error)

    def _observation(self, body: bytes | Rejected) -> Observation | None:
        """Normalizes a record: an event, a prediction, or feedback; None for an event of a type that is ignored."""
        if isinstance(body, Rejected):
            raise body
        members = read(body, _MEMBERS, Reason.MALFORMED_FEEDBACK, "record")
        if "specversion" in members:
            return self._of_event(body)
        body = _with_times(body, members)
        if members.keys().isdisjoint(("truth", "truths")):
            return self._of_prediction(read(body, _LOGGED, Reason.MALFORMED_FEEDBACK, "prediction"))
        (observation,) = observations_of(body, self._defaults, self._received_at, self._slicing, self._rules_of)
        if isinstance(observation, Rejected):
            raise observation
        return observation

    def _of_event(self, body: bytes) -> Observation | None:
        (event,) = decode(BATCH, {}, b"[" + body + b"]")  # a batch is read ten times as fast
        if isinstance(event, Rejected):
            raise event
        if event.kind == EventKind.OTHER:
            return None
        return observation_of(event, self._defaults, self._received_at, self._slicing, self._rules_of)

    def _of_prediction(self, line: _Logged) -> Observation:
        """Normalizes a prediction whose truth comes in another record, as the response event that it was."""
        if bytes(line.prediction) == b"null":
            raise Rejected(Reason.MALFORMED_FEEDBACK, "neither truth nor prediction")
        if line.request_id in (None, ""):
            raise Rejected(Reason.MALFORMED_FEEDBACK, "a prediction without its truth needs a request_id to join on")
        observation = observation_of(
            _response_event(line), self._defaults, self._received_at, self._slicing, self._rules_of
        )
        if line.row and observation.keys:
            return msgspec.structs.replace(observation, keys=[row_key(observation.keys[0][:16], line.row)])
        return observation

    def _commit(self) -> None:
        """Applies what waits, in the order of the files."""
        waiting = list(self._with_records())
        batch = Batch(self._store, self._registry, RETENTION, self._applied_at)
        for kind, group in groupby(waiting, type):
            if kind is _WaitingRun:
                for file, run in group:
                    self._apply_run(batch, cast("str", file), cast("Run", run))
            else:
                self._apply_ones(batch, cast("list[_WaitingOne]", list(group)))
        change = batch.change()
        if self._step:
            _fold(change, self._step)
        self._store.commit(change)  # by its only writer: it is never refused
        self._waiting, self._rows = [], 0

    def _with_records(self) -> Iterator[_Waiting]:
        """Yields what waits, with observations in the place of those rows of runs that other lines are about too.

        Those of such rows that were counted before are given the records that they would have had.
        """
        observations = [one.observation for one in self._waiting if isinstance(one, _WaitingOne)]
        named = {request_of(key) for key in keys_of(observations)}
        again = self._alone.named_again([one.run for one in self._waiting if isinstance(one, _WaitingRun)], named)
        self._record(self._alone.give(again | named))
        for one in self._waiting:
            if isinstance(one, _WaitingRun) and not again.isdisjoint(one.run.digests):
                yield from self._split(*one, again)
            else:
                yield one

    def _split(self, file: str, run: Run, again: set[bytes]) -> Iterator[_Waiting]:
        start = 0
        for index, digest in enumerate(run.digests):
            if digest in again:
                if index > start:
                    yield _WaitingRun(file, run.part(start, index))
                if (one := self._one(Place(file, run.numbers[index]), run.bodies[index])) is not None:
                    yield one
                start = index + 1
        if start < len(run.digests):
            yield _WaitingRun(file, run.part(start, len(run.digests)))

    def _record(self, bodies: list[bytes]) -> None:
        """Makes the records of rows that were counted without; what they count is not counted again."""
        if not bodies:
            return
        batch = Batch(self._store, self._registry, RETENTION, self._applied_at)
        batch.apply([observation for body in bodies if (observation := self._observation(body)) is not None])
        change = batch.change()
        change.sums = {key: sums for key, sums in change.sums.items() if key[1] == USAGE}
        self._store.commit(change)

    def _apply_run(self, batch: Batch, file: str, run: Run) -> None:
        first: dict[Labels, float] = {}
        for (labels, _), at in zip(run.columns.targets, run.columns.times, strict=True):
            first.setdefault(labels, at)
        if refused := {one: error for one, at in first.items() if (error := batch.admit(one, at)) is not None}:
            run = self._admitted(file, run, refused)
        batch.take_pairs(run.columns)
        self._alone.take(run)
        self.counts["taken"] += len(run.numbers)

    def _admitted(self, file: str, run: Run, refused: Mapping[Labels, Rejected]) -> Run:
        """Refuses the rows of series beyond the limit, and returns the others."""
        kept = []
        for index, target in enumerate(run.columns.targets):
            if error := refused.get(target.labels):
                self._refuse(Place(file, run.numbers[index]), error)
            else:
                kept.append(index)
        return run.only(kept)

    def _apply_ones(self, batch: Batch, ones: list[_WaitingOne]) -> None:
        outcomes = batch.apply([one.observation for one in ones])
        for (place, observation), outcome in zip(ones, outcomes, strict=True):
            if isinstance(outcome, Rejected):
                self._refuse(place, outcome)
                continue
            self.counts["taken"] += 1
            self.counts["clamped"] += observation.clamped

    @property
    def total(self) -> int:
        """Counts how many records there were."""
        return self.refused.total() + self.counts["taken"] + self.counts["ignored"]

    def results(self) -> list[ReplayResult]:
        """Returns the values of every series, sorted by labels, each followed by its slices."""
        totals = self._store.totals(ALL_SINCE)
        return [
            result_of(
                self._evaluator,
                series,
                totals.get(series.id, {}),
                self._store.history(series.id, ALL_SINCE) if self._step else None,
            )
            for series in self._registry.current()
        ]

    def remarks(self) -> list[str]:
        """Returns sentences on the records that move no value."""
        total, refused, unpaired = self.total, self.refused.total(), self._unpaired_truths()
        unscorable = self._labels(LabelStatus.UNSCORABLE, LabelStatus.TASK_MISMATCH)
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.refused.most_common())
        ignored, clamped = self.counts["ignored"], self.counts["clamped"]
        remarks = [
            (not total, "no records"),
            (refused, f"{refused:,} of {total:,} records were refused: {reasons}"),
            (ignored, f"{ignored:,} events are of a type that tells of no prediction"),
            (clamped, f"{clamped:,} records have a time in the future, and were taken as of now"),
            (unpaired, f"{unpaired:,.0f} truths are about predictions that are not there"),
            (unscorable, f"{unscorable:,.0f} truths do not fit the task of their series, and {_UNSCORABLE_ADVICE}"),
        ]
        return [text for applies, text in remarks if applies]

    def _unpaired_truths(self) -> float:
        return self._store.cumulative(USAGE).get(SERVER_SERIES_ID, {}).get(PENDING_TRUTHS, 0.0)

    def _labels(self, *statuses: LabelStatus) -> float:
        """Counts the rows of truth of all series with one of these statuses."""
        cumulative = self._store.cumulative(CUMULATIVE)
        return sum(sums.get(LABELS + status, 0.0) for sums in cumulative.values() for status in statuses)


def applied_at(step: int) -> int:
    """Returns the time, in UTC seconds, at which all records are applied whenever that is: how old predictions are then
    settles how wide their buckets are, and so into which steps they can be added up.

    Steps of less than a day need minutes, which cost more calls of metric models than days.
    """
    return WHEN_ALL_ARE_FRESH if step % COARSEST else WHEN_ALL_ARE_OLD


def _with_times(body: bytes, members: dict[str, msgspec.Raw]) -> bytes:
    """Returns a record in which dates without a time mean their midnight in UTC."""
    dates = [name for name in ("predicted_at", "labelled_at") if name in members and _DATE.fullmatch(members[name])]
    if not dates:
        return body
    midnights = {name: msgspec.Raw(bytes(members[name])[:-1] + b'T00:00:00Z"') for name in dates}
    return msgspec.json.encode(members | midnights)


def _response_event(line: _Logged) -> Event:
    """Returns the response event that a prediction was."""
    at = seconds_at(line.predicted_at) if isinstance(line.predicted_at, str) else line.predicted_at
    attributes = {
        "requestid": str(line.request_id),
        "namespace": line.namespace,
        "inferenceservicename": line.deployment,
        "endpoint": line.predictor,
        "modelid": line.model,
    }
    return Event(
        EventKind.RESPONSE,
        time=at,
        attributes={name: value for name, value in attributes.items() if value},
        data=b'{"data":{"ndarray":[' + bytes(line.prediction) + b"]}}",
    )


@contextmanager
def _few_collections() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _fold(change: Change, step: int) -> None:
    """Adds up the buckets of each step, as a roll-up does."""
    folded: dict[tuple[int, Bucket], dict[str, float]] = {}
    for (series_id, bucket), sums in change.sums.items():
        target = Bucket(step, floor(bucket.start, step)) if bucket.width > 0 else bucket
        add_into(folded.setdefault((series_id, target), {}), sums)
    change.sums = {key: sums for key, sums in folded.items() if sums}


def replay(
    source: str | os.PathLike[str] | Iterable[Mapping[str, Any]], *, step: str = "", time: str = "", **settings: Any
) -> list[ReplayResult]:
    """Computes the values of the predictions and truths in files, or in dicts such as their lines hold.

    Args:
        source: a file, a directory, or a URL of a bucket, such as s3://logs/shop; or an iterable of dicts, where NaN
            and None mean that nothing is stated.
        step: a duration such as 1d; then each result has `points`, the values by the time of prediction.
        time: a timestamp for what a platform has logged without one; else the date of its file is taken.
        settings: as in a configuration file: threshold=0.4, class_names=["cat", "dog"], config="metrics-server.yaml" …

    Warns:
        UserWarning: there are no records, or some cannot be used, or files cannot be read; the others count. Or records
            state no time.

    Raises:
        BadConfiguration: a setting, or the time, cannot be used.
        BadFile: no file can be read.
    """
    refusals: list[str] = []

    def refused(place: Place, error: Rejected) -> None:
        if len(refusals) < SHOWN_REFUSALS:
            where = f"{place.file}:{place.number}" if files and len(files.files) > 1 else place.number
            refusals.append(f"{where}: {error.reason.label}: {error.detail}")

    loaded = server_settings.load(words_of(settings), {})
    replayed = Replay(loaded, default_labels({}), step=seconds_of(step) if step else 0, on_refused=refused)
    if isinstance(source, (str, os.PathLike)):
        files = Source(source, time_of(time))
        replayed.take(files.blocks())
        files.check(replayed.total)
    else:
        files = None
        replayed.take(of_dicts(source))
    if remarks := [*replayed.remarks(), *(files.remarks() if files else [])]:
        warnings.warn("\n".join([*remarks, *refusals]), stacklevel=2)
    return replayed.results()


def time_of(text: str) -> float | None:
    """Returns the time, in UTC seconds, that stands for those that records do not state; None for none.

    Raises:
        BadConfiguration: it is no timestamp.
    """
    try:
        return seconds_at(text) if text else None
    except Rejected as error:
        raise BadConfiguration("--time: want a timestamp such as 2026-03-02T09:15:04Z") from error


def words_of(settings: Mapping[str, Any]) -> list[str]:
    """Writes settings as the words of a command line, for its parser to read."""
    words = []
    for name, value in settings.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None:
            words.append(f"--{name}={','.join(map(str, value)) if isinstance(value, (list, tuple)) else value}")
    return words
