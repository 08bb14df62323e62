"""What the types of single settings cannot say: checks of several of them together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from metrics_server.errors import BadConfiguration
from metrics_server.ingest.cloudevent import KINDS, WRAPPED_TYPE
from metrics_server.metrics.window import check_window, seconds_of
from metrics_server.settings.table import Table


def check(settings: Table) -> None:
    """Checks settings against each other.

    Raises:
        BadConfiguration: they contradict each other, or a setting is of the right type and still of no use.
    """
    for check_one in _CHECKS:
        check_one(settings)


def _check_series_retention(settings: Table) -> None:
    if seconds_of(settings.series_retention) < 2 * 3600:
        raise BadConfiguration(
            f"--series_retention {settings.series_retention}: want at least 2h; when a series was used is noted"
            f" once an hour"
        )


def _check_windows(settings: Table) -> None:
    for window in settings.windows:
        check_window(window, seconds_of(settings.history))


def _check_event_type(settings: Table) -> None:
    if settings.event_type in (*KINDS, WRAPPED_TYPE):
        raise BadConfiguration(
            f"--event_type {settings.event_type} is a type of events this server takes in: replies would come"
            f" back as input"
        )


def _check_tls(settings: Table) -> None:
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise BadConfiguration("--tls_cert and --tls_key: want both or none")
    if settings.tls_client_ca and not settings.tls_cert:
        raise BadConfiguration("--tls_client_ca: want --tls_cert and --tls_key too")
    if settings.tls_clients and not settings.tls_client_ca:
        raise BadConfiguration("--tls_clients: want --tls_client_ca too, to verify their certificates by")


def _check_kafka(settings: Table) -> None:
    if settings.kafka_brokers and not (settings.kafka_topic.strip(", ") and settings.kafka_group):
        raise BadConfiguration("--kafka_topic, --kafka_group: want both with --kafka_brokers")


def _check_deployments(settings: Table) -> None:
    for at, entry in enumerate(settings.deployments):
        has_places = entry.request_id_from is not None or entry.predictor_from is not None
        if has_places and not entry.is_of_whole_deployments:
            raise BadConfiguration(
                f"--deployments[{at}]: request_id_from and predictor_from hold for whole deployments; want them in"
                f" an entry without predictor and model"
            )


def _check_values(settings: Table) -> None:
    for at, entry in enumerate(settings.deployments):
        if entry.value_matrix is None:
            continue
        place = f"--deployments[{at}].value_matrix"
        if not entry.value_matrix.is_whole:
            raise BadConfiguration(
                f"{place}: want true_positive, false_positive, true_negative and false_negative; or right, wrong and,"
                f" if some pairs have other values, cells"
            )
        names = settings.class_names if entry.class_names is None else entry.class_names
        if unknown := _unknown(entry.value_matrix.matrix.classes, names):
            raise BadConfiguration(f"{place}.cells {unknown!r}: want one of class_names, {', '.join(names)}")


def _unknown(labels: Iterable[str], names: Sequence[str]) -> str | None:
    """The first label that is neither among the names of classes nor the index of one; without names any may come."""
    return next((label for label in labels if names and not label.isdecimal() and label not in names), None)


def _check_groups(settings: Table) -> None:
    sliced = [dimension.partition("=")[0] for dimension in settings.slices]
    of_deployments = ((f"--deployments[{at}]: groups", each.groups) for at, each in enumerate(settings.deployments))
    for option, references in (("--groups", settings.groups), *of_deployments):
        dimensions = [reference.partition("=")[0] for reference in references or ()]
        if unknown := [dimension for dimension in dimensions if dimension not in sliced]:
            raise BadConfiguration(f"{option} {unknown[0]}: want a dimension of --slices")
        if len(set(dimensions)) < len(dimensions):
            raise BadConfiguration(f"{option}: want one reference for each dimension")


_CHECKS = (
    _check_series_retention,
    _check_windows,
    _check_event_type,
    _check_tls,
    _check_kafka,
    _check_deployments,
    _check_values,
    _check_groups,
)
