"""Makes observations of feedback items: truths in plain JSON from a sender that knows no CloudEvents.

One item is about one row, or about all rows of a request. It has no event id, so its content is its identity: an item
with its request id and the time at which the truth was learnt is the same feedback whenever it is sent again. Without
that time each is a new one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import MAX_ATTRIBUTE, seconds_at
from metrics_server.ingest.decoding import read
from metrics_server.ingest.normalize import EVERYTHING
from metrics_server.ingest.payload.rows import MAX_ROWS, check_rows, checked, is_label, row_of
from metrics_server.ingest.request_id import Digest, aliases_of, digest_for
from metrics_server.ingest.sender_rules import RulesOf, as_sent
from metrics_server.ingest.slicing import SlicingRules
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.task import RowValue
from metrics_server.metrics.window import FUTURE_TOLERANCE
from metrics_server.pairing.observation import Observation, RowObservation, row_key
from metrics_server.pairing.record import Prediction, Truth, Weight
from metrics_server.series.series import Labels

# Unix seconds of the years 1 to 9999, all that a timestamp can say; milliseconds of our time lie far beyond.
EARLIEST, LATEST = -62_135_596_800, 253_402_300_800


# Weights of a truth: their squares differ by 12 digits, so that no correction of a heavy one erases what light ones
# have told.
LIGHTEST, HEAVIEST = 1e-3, 1e3


# How many there may be is a reason of its own, so the decoder does not look.
Rows: TypeAlias = Annotated[list[Any], msgspec.Meta(min_length=1, extra_json_schema={"maxItems": MAX_ROWS})] | None


class FeedbackItem(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One item, as it is written: `truth` of one row, or `truths` of all rows. Null means the same as absence, but for
    a truth: there it retracts.
    """

    truth: Any = UNSET
    truths: Rows = None
    request_id: str | int | None = None
    row: Annotated[int, msgspec.Meta(ge=0, lt=MAX_ROWS)] | None = None
    prediction: Any = None
    predictions: Rows = None
    predicted_at: str | float | None = None
    labelled_at: str | float | None = None
    weight: int | float | None = None
    namespace: str | None = None
    deployment: str | None = None
    predictor: str | None = None
    model: str | None = None


_LIST = re.compile(rb"[ \t\r\n]*\[")
_ITEMS = msgspec.json.Decoder(list[FeedbackItem])
_ITEM = msgspec.json.Decoder(FeedbackItem)
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_encode = msgspec.json.Encoder().encode


class StatedPair(NamedTuple):
    """What an item says that tells both the truth of one row and what was predicted there.

    Attributes:
        at: when it was predicted, in seconds.
        request_id: "" where none is stated, as none is needed.
    """

    labels: Labels
    weight: Weight
    truth: RowValue
    prediction: RowValue
    at: float
    request_id: str


def stated_pair(item: FeedbackItem, defaults: Labels, now: float) -> StatedPair | None:
    """Reads an item that needs no other one to count; None for an item of any other kind, or with an odd time.

    Raises:
        Rejected: it cannot be used.
    """
    if item.truths is not None or item.predictions is not None or item.row or item.truth is UNSET:
        return None
    truth, prediction = _row(item.truth, "truth"), _row(item.prediction, "prediction")
    if truth is None or prediction is None:
        return None
    stated = _names(item.namespace or "", item.deployment or "", item.predictor or "", item.model or "")
    times = _seconds(item.labelled_at, "labelled_at"), _seconds(item.predicted_at, "predicted_at")
    _, predicted_at, clamped = _believed(*times, now)
    if clamped:
        return None
    request_id = "" if item.request_id is None else _request_id(item.request_id, [truth], [prediction])
    return StatedPair(_filled(stated, defaults), _weight(item), truth, prediction, predicted_at, request_id)


def is_list(body: bytes) -> bool:
    """Tells whether a body holds a list, which is answered with one."""
    return _LIST.match(body) is not None


def observations_of(
    body: bytes, defaults: Labels, now: float, selection: SlicingRules = EVERYTHING, rules_of: RulesOf = as_sent
) -> list[Observation | Rejected]:
    """Makes the observations of one item or of a list of them, with a refusal in the place of one that cannot be used.

    Raises:
        Rejected: the body as a whole cannot be read, or has too many elements.
    """
    if not is_list(body):
        return [_observation_or_refusal(_item(body), defaults, now, selection, rules_of)]
    found = [_observation_or_refusal(one, defaults, now, selection, rules_of) for one in _elements(body)]
    return [
        Rejected(observation.reason, f"[{at}] {observation.detail}")
        if isinstance(observation, Rejected)
        else observation
        for at, observation in enumerate(found)
    ]


def _elements(body: bytes) -> Sequence[FeedbackItem | Rejected]:
    """Decodes a list, unless its elements are too many, or have too many rows together."""
    elements = _decoded(body)
    check_rows(sum(map(_number_of_rows, elements)), "feedback")
    return elements


def _decoded(body: bytes) -> list[FeedbackItem] | list[FeedbackItem | Rejected]:
    """Decodes all in one pass when all are well-formed; else one by one, so that only the others are refused."""
    try:
        return read(body, _ITEMS, Reason.MALFORMED_FEEDBACK, "feedback")
    except Rejected:
        elements = read(body, _ELEMENTS, Reason.MALFORMED_FEEDBACK, "feedback")
        check_rows(len(elements), "feedback")
        return [_item(element) for element in elements]


def _number_of_rows(item: FeedbackItem | Rejected) -> int:
    return len(item.truths) if isinstance(item, FeedbackItem) and item.truths is not None else 1


def _item(body: bytes | msgspec.Raw) -> FeedbackItem | Rejected:
    try:
        return read(body, _ITEM, Reason.MALFORMED_FEEDBACK, "feedback")
    except Rejected as error:
        return error.without_traceback()


def _observation_or_refusal(
    item: FeedbackItem | Rejected, defaults: Labels, now: float, selection: SlicingRules, rules_of: RulesOf
) -> Observation | Rejected:
    if isinstance(item, Rejected):
        return item
    try:
        return _observation_of(item, defaults, now, selection, rules_of)
    except Rejected as error:
        return error.without_traceback()


def _observation_of(
    item: FeedbackItem, defaults: Labels, now: float, selection: SlicingRules, rules_of: RulesOf
) -> Observation:
    weight = _weight(item)
    stated = _names(item.namespace or "", item.deployment or "", item.predictor or "", item.model or "")
    labels = _filled(stated, defaults)
    truths, predictions = _values(item)
    request_id = _request_id(item.request_id, truths, predictions)
    times = _seconds(item.labelled_at, "labelled_at"), _seconds(item.predicted_at, "predicted_at")
    labelled_at, predicted_at, clamped = _believed(*times, now)
    is_scored = selection.scores(labels.model)
    rows = _rows((truths, predictions), stated, labels, (labelled_at, predicted_at), weight, is_scored=is_scored)
    if not request_id:
        return Observation(EventKind.FEEDBACK, b"", labels, labelled_at, False, [], [], rows, clamped)
    event = _event_digest(item, request_id, (truths, predictions), times, stated)
    keys, aliases = _filed(request_id, item.row or 0, len(rows), digest_for(labels, rules_of))
    return Observation(EventKind.FEEDBACK, event, labels, labelled_at, True, keys, aliases, rows, clamped, request_id)


def _believed(labelled_at: float | None, predicted_at: float | None, now: float) -> tuple[float, float, bool]:
    """Returns when a truth was told and its prediction made, as far as that can be believed, and whether one could not.

    Where nothing is stated the truth was told now, and the prediction made when its truth was told.
    """
    latest = now + FUTURE_TOLERANCE
    clamped = False
    if labelled_at is None:
        labelled_at = now
    elif labelled_at > latest:
        labelled_at, clamped = now, True
    if predicted_at is None:
        return labelled_at, labelled_at, clamped
    return (labelled_at, now, True) if predicted_at > latest else (labelled_at, predicted_at, clamped)


def _weight(item: FeedbackItem) -> Weight:
    weight = 1 if item.weight in (None, 1) else item.weight
    if not LIGHTEST <= weight <= HEAVIEST:
        raise Rejected(Reason.MALFORMED_FEEDBACK, f"weight: want a number from {LIGHTEST:g} to {HEAVIEST:g}")
    return weight


def _rows(
    values: tuple[list[RowValue], list[RowValue]],
    stated: Labels,
    labels: Labels,
    times: tuple[float, float],
    weight: Weight,
    *,
    is_scored: bool,
) -> list[RowObservation]:
    """Makes a truth of each row, and of what an item says was predicted there a prediction, if its model is scored."""
    (truths, predictions), (labelled_at, predicted_at) = values, times
    candidates: list[str] | None = None if stated.model else []
    rows = []
    for truth, value in zip(truths, predictions, strict=True):
        pending = labels if value is None else None
        row = RowObservation(
            truth=Truth(stated.namespace, stated.deployment, labelled_at, truth, labels=pending, weight=weight)
        )
        if value is not None and is_scored:
            row.prediction = Prediction(
                labels, predicted_at, labelled_at, False, value, candidates=candidates, row_count=len(truths)
            )
        rows.append(row)
    return rows


def _event_digest(
    item: FeedbackItem,
    request_id: str,
    values: tuple[list[RowValue], list[RowValue]],
    times: tuple[float | None, float | None],
    stated: Labels,
) -> bytes:
    """Digests what makes an item the same feedback when it is sent again; b"" where each is a new one."""
    if item.labelled_at is None:
        return b""
    truths, predictions = values
    # The truths of all rows are told from the truth of one that is a list by the row, which they have not.
    told = (item.row or 0, truths[0], predictions[0]) if item.truths is None else (None, truths, predictions)
    weighed = [] if item.weight in (None, 1) else [item.weight]
    return _identity(request_id, *told, *times, *stated, *weighed)


def _filed(request_id: str, first: int, rows: int, digested: Digest) -> tuple[list[bytes], list[tuple[bytes, int]]]:
    """Makes the keys of the rows of a request from the first one on, and what else they are known by."""
    digest = digested(request_id)
    aliases = [] if first else aliases_of([request_id], EventKind.FEEDBACK, rows, digested)
    return [row_key(digest, row) for row in range(first, first + rows)], aliases


@lru_cache(4096)
def _names(*names: str) -> Labels:
    for name in names:
        if not is_label(name):
            raise Rejected(
                Reason.LABEL_TOO_LONG, "namespace, deployment, predictor and model: at most 256 printable characters"
            )
    return Labels(*names)


@lru_cache(4096)
def _filled(stated: Labels, defaults: Labels) -> Labels:
    return Labels(*(part or default for part, default in zip(stated, defaults, strict=True)))


def _values(item: FeedbackItem) -> tuple[list[RowValue], list[RowValue]]:
    """Takes the truth of each row of an item, and what it says was predicted there, None where it says nothing."""
    if item.truths is None:
        if item.truth is UNSET or item.predictions is not None:
            raise Rejected(Reason.MALFORMED_FEEDBACK, "feedback: want truth, or truths of all rows")
        return [_row(item.truth, "truth")], [_row(item.prediction, "prediction")]
    if item.truth is not UNSET or item.row is not None or item.prediction is not None:
        raise Rejected(Reason.MALFORMED_FEEDBACK, "truths: want neither truth nor prediction nor row beside it")
    check_rows(len(item.truths), "truths")
    predictions = [None] * len(item.truths) if item.predictions is None else item.predictions
    if len(predictions) != len(item.truths):
        raise Rejected(Reason.ROW_MISMATCH, f"{len(item.truths)} truths and {len(predictions)} predictions")
    return [_row(value, "truths") for value in item.truths], [_row(value, "predictions") for value in predictions]


def _row(value: Any, what: str) -> RowValue:
    return checked([row_of(value, what)], what)[0]


def _request_id(stated: str | int | None, truths: list[RowValue], predictions: list[RowValue]) -> str:
    """The id to join on as a text, "" where every truth has its prediction beside it, and so needs none."""
    if stated == "":
        raise Rejected(
            Reason.MALFORMED_FEEDBACK, "request_id: want at least one character; leave it out where there is none"
        )
    if stated is not None:
        if len(text := str(stated)) > MAX_ATTRIBUTE:
            raise Rejected(
                Reason.LABEL_TOO_LONG, f"request_id: at most {MAX_ATTRIBUTE} characters, {len(text)} were sent"
            )
        return text
    if None in predictions:
        raise Rejected(
            Reason.MALFORMED_FEEDBACK, "feedback: a truth without its prediction needs a request_id to join on"
        )
    if None in truths:
        raise Rejected(
            Reason.MALFORMED_FEEDBACK, "feedback: a truth of null takes one back, and needs the request_id of that"
        )
    return ""


def _seconds(stated: str | float | None, what: str) -> float | None:
    """UTC seconds of a time, written as a timestamp or in seconds."""
    try:
        seconds = seconds_at(stated) if isinstance(stated, str) else stated
    except Rejected as error:
        raise Rejected(error.reason, f"{what}: {error.detail}") from error
    if seconds is not None and not EARLIEST <= seconds < LATEST:
        raise Rejected(
            Reason.BAD_TIME,
            f"{what}: want seconds since 1970, or a timestamp such as 2026-03-02T09:15:04Z; not milliseconds",
        )
    return seconds


def _identity(*content: object) -> bytes:
    """Digests the content of an item; no digest of an event's identity is equal to it."""
    return blake2b(_encode(content), digest_size=16, person=b"statement").digest()
