"""Normalising: from an event of any sender to the observation that it brings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.payload import read
from metrics_server.ingest.payload.meta_metrics import read_metrics
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.ingest.payload.rows import MAX_ROW_BYTES, NUMBER_BYTES, is_label
from metrics_server.ingest.place import value_at
from metrics_server.ingest.request_id import aliases_of, digest_within, ids_of, is_item, sender_id_of
from metrics_server.ingest.sender_rules import AS_SENT, RulesOf, SenderRules, as_sent
from metrics_server.ingest.slicing import SlicingRules
from metrics_server.metrics.labels import FEEDBACK, REQUEST, RESPONSE
from metrics_server.metrics.task import RowValue, is_row
from metrics_server.metrics.window import FUTURE_TOLERANCE
from metrics_server.pairing.observation import FIRST_ROW, Observation, RowObservation, digest_of, row_key
from metrics_server.pairing.record import Prediction, Reward, Truth
from metrics_server.series.series import Labels

EVERYTHING = SlicingRules()

MAX_PATH = 64  # nodes of one graph; Seldon's graphs have a handful


def observation_of(
    event: Event,
    defaults: Labels,
    now: float,
    slicing: SlicingRules = EVERYTHING,
    rules_of: RulesOf = as_sent,
) -> Observation:
    """Normalizes an event of one of our kinds.

    Raises:
        Rejected: its payload cannot be read, or what it says of itself cannot be used.
    """
    get = event.attributes.get
    parsed = read(event.kind, get("protocol", ""), event.content_type, event.data)
    origin = _origin_of(event, parsed, defaults, rules_of)
    labels, rules = origin.labels, origin.rules
    clamped = event.time is not None and event.time > now + FUTURE_TOLERANCE
    time = now if event.time is None or clamped else event.time
    if event.kind == FEEDBACK and rules is not AS_SENT:
        _apply_rules(parsed, rules)
    custom = read_metrics(parsed.metrics, rules.custom_metrics) if parsed.metrics and rules.custom_metrics else None
    places = rules.request_id_from
    ids = ids_of(event, parsed, places)
    rows = _rows(event, parsed, slicing, origin, time=time, ids=ids)
    if not ids and parsed.truth is not None and parsed.response is None and parsed.reward is None:
        raise Rejected(
            Reason.MALFORMED_FEEDBACK, "feedback: a truth without its response needs a request id to join on"
        )
    key = event.key if event.id else b""
    if not ids:
        return Observation(event.kind, key, labels, time, False, [], [], rows, clamped, custom_metrics=custom)
    digested = digest_within(labels) if places else digest_of
    digest = digested(ids[0])
    aliases = aliases_of(ids, event.kind, len(rows), digested) if len(ids) > 1 or "-item-" in ids[0] else []
    # A request known by one id alone has nothing to tell those that come under it.
    count = len(rows) if event.kind != REQUEST else 1 if aliases else 0
    keys = [digest + FIRST_ROW] if count == 1 else [row_key(digest, row) for row in range(count)]
    more = len(parsed.truth or ()) - len(rows) if parsed.is_flat else 0
    known_by = ids[0] if rules is AS_SENT else _known_by(event, ids[0], rules)
    return Observation(event.kind, key, labels, time, bool(keys), keys, aliases, rows, clamped, known_by, more, custom)


def _known_by(event: Event, request_id: str, rules: SenderRules) -> str:
    """Returns the id that request and response share, "" for a request whose predictor only its response will tell."""
    if event.kind == REQUEST and rules.is_predictor_in_response:
        return ""
    return sender_id_of(event) or request_id


class _Origin(NamedTuple):
    """Whose an event is: what it states, the labels and rules that come of it, and the candidates, see `owner_of`."""

    stated: Labels
    labels: Labels
    rules: SenderRules = AS_SENT
    candidates: list[str] | None = None


def _origin_of(event: Event, parsed: ParsedPayload, defaults: Labels, rules_of: RulesOf) -> _Origin:
    get = event.attributes.get
    origin = _named(
        defaults,
        get("namespace", ""),
        get("inferenceservicename", ""),
        get("endpoint", ""),
        get("modelid") or get("component", ""),
    )
    if rules_of is not as_sent:  # as it is for nearly all servers
        origin = _by_rules(origin, event, parsed, rules_of)
    if event.kind != FEEDBACK or (origin.stated.model and not parsed.path):
        return origin
    model, candidates = owner_of(origin.stated.model, origin.labels.model, parsed.path)
    labels = origin.labels._replace(model=model)
    rules = origin.rules if rules_of is as_sent else rules_of(labels)
    return _Origin(origin.stated, labels, rules, candidates)


def _by_rules(origin: _Origin, event: Event, parsed: ParsedPayload, rules_of: RulesOf) -> _Origin:
    """Finds the rules of an event, and the predictor where they say; an entry may be of that predictor alone."""
    rules = rules_of(origin.labels)
    if predictor := _predictor_of(event, parsed, rules):
        labels = origin.labels._replace(predictor=predictor)
        return origin._replace(labels=labels, rules=rules_of(labels))
    return origin._replace(rules=rules)


def _predictor_of(event: Event, parsed: ParsedPayload, rules: SenderRules) -> str:
    """Takes the name of the predictor from the first place that has one; "" where none has."""
    found = (value_at(kind, key, event.attributes, parsed.tags) for kind, key in rules.predictor_from)
    return next((name for name in found if name and is_label(name)), "")


def owner_of(stated: str, default: str, path: Sequence[str]) -> tuple[str, list[str] | None]:
    """Decides whose the prediction in a feedback is while none is logged, and which logged ones it gives way to.

    Routers log feedback and never stand in requestPath; arms that did not serve log it too. So a model that is not on
    the path made no prediction.

    >>> owner_of("router", "", ["classifier"])
    ('classifier', ['classifier', 'router'])

    Args:
        stated: the model that the event names, "" for none.
        default: the model that this server takes for granted where none is named.
        path: names of the response's requestPath; empty where it has none.

    Returns:
        The model, "" where it is not known; and the candidates, see `Prediction`.
    """
    path = _usable(path)
    model = stated or default
    if path and model not in path:
        model = path[0] if len(path) == 1 else ""
    candidates = sorted({*path, stated} - {""})
    return model, None if candidates == [model] else candidates


def _usable(path: Sequence[str]) -> list[str]:
    """Selects the names of a path that can be labels: nobody vouches for them."""
    return [name for name in path[:MAX_PATH] if name and is_label(name)]


@lru_cache(4096)
def _named(defaults: Labels, *names: str) -> _Origin:
    """Checks the labels that an event states itself, "" for what it leaves open, and fills in those of this server."""
    for name in names:
        if not is_label(name):
            raise Rejected(
                Reason.LABEL_TOO_LONG,
                "namespace, inferenceservicename, endpoint and modelid: at most 256 printable characters",
            )
    stated = Labels(*names)
    return _Origin(stated, Labels(*(part or default for part, default in zip(stated, defaults, strict=True))))


def _apply_rules(parsed: ParsedPayload, rules: SenderRules) -> None:
    """Reads a feedback as its deployment's senders mean it."""
    truth, response = parsed.truth, parsed.response
    if parsed.reward is None and truth is not None and not all(value is None for value in truth):
        parsed.reward = rules.absent_reward
    if rules.row_task and truth and response and parsed.is_flat:
        are_alike = len(truth) == len(response) and all(isinstance(value, (int, float)) for value in response)
        if are_alike and is_row(truth, rules.row_task):
            parsed.truth, parsed.response = [_row_of(truth)], [_row_of(response)]


def _row_of(numbers: list[RowValue]) -> RowValue:
    return [float(number) for number in numbers]  # type: ignore[arg-type]


def _rows(
    event: Event, parsed: ParsedPayload, slicing: SlicingRules, origin: _Origin, *, time: float, ids: list[str]
) -> list[RowObservation]:
    labels = origin.labels
    slices = slicing.slices_of(event, parsed.tags) if slicing.dimensions else []
    response = parsed.response or [] if slicing.scores(labels.model) else []
    logged, count = event.kind == RESPONSE, len(response)
    size = len(parsed.path) if logged else 0
    rows = [
        RowObservation(
            Prediction(
                labels,
                time,
                time,
                logged,
                value,
                slices=slices,
                candidates=origin.candidates,
                path_size=size,
                row_count=count,
            )
        )
        for value in response
    ]
    stated, pending = origin.stated, None if response else labels
    if parsed.is_flat:
        truths = _flat_truths(parsed, stated, pending, time, ids)
    else:
        truths = [
            Truth(stated.namespace, stated.deployment, time, value, labels=pending) for value in parsed.truth or ()
        ]
    if len(truths) > count or (parsed.reward is not None and not rows):
        rows += [RowObservation() for _ in range(max(len(truths), 1) - count)]
    for row, truth in zip(rows, truths, strict=False):
        row.truth = truth
    if parsed.reward is not None and rows:
        path = _usable(parsed.path)
        # Who states no model says it for the owner of the prediction; with one node on the path that is decided anew.
        model = stated.model or (labels.model if len(path) != 1 else "")
        reward = Reward(labels._replace(model=model), time, time, parsed.reward, slices=slices, path=path)
        rows[0].reward = _scored_reward(reward, slicing)
    return rows


def _flat_truths(
    parsed: ParsedPayload, stated: Labels, pending: Labels | None, time: float, ids: list[str]
) -> list[Truth]:
    """Makes the truth of a flat list that may be one row, which holds all of it; else the truths of its rows."""
    values = parsed.truth or []
    scope = stated.namespace, stated.deployment, time
    if None in values or len(values) == len(parsed.response or []) > 1:
        return [Truth(*scope, value, labels=pending) for value in values]
    first = values[0]
    if isinstance(first, list):  # it stands beside a single row
        return [Truth(*scope, first[0], labels=pending, flat=[*first], is_one_row=True)]
    if _stored_size(values) > MAX_ROW_BYTES:  # too large for a row, and to be kept beside the rows
        return [Truth(*scope, value, labels=pending) for value in values]
    is_one_row = any(map(is_item, ids))
    return [Truth(*scope, first, labels=pending, flat=values, is_one_row=is_one_row)]  # type: ignore[arg-type]


def _stored_size(values: list[RowValue]) -> int:
    """Bytes that a list of scalars takes as stored, at most."""
    return NUMBER_BYTES * len(values) + sum(len(value.encode()) for value in values if isinstance(value, str))


def _scored_reward(reward: Reward, slicing: SlicingRules) -> Reward | None:
    """Makes out what a reward counts for as far as nodes are scored; None if neither its own nor one on its path is.

    Without a path it is of whichever node is logged, though a router says it, whose predictions do not count.
    """
    reward.is_fallback_scored = slicing.scores(reward.fallback.model)
    return reward if not reward.path or any(map(slicing.scores, (reward.labels.model, *reward.path))) else None
