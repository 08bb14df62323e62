"""The table of settings: one row each, with its type, its help text and its default."""

from __future__ import annotations

from typing import Annotated

import msgspec

from metrics_server.api.exposure import Exposure
from metrics_server.settings.deployment import Deployments
from metrics_server.settings.field_types import (
    AbsentReward,
    CustomNames,
    Duration,
    Durations,
    Exposed,
    GroupReferences,
    IdPlaces,
    LogFormat,
    LogLevel,
    PathPrefix,
    Port,
    PositiveInt,
    PredictorPlaces,
    Seconds,
    Share,
    Switch,
    Text,
    Texts,
)
from metrics_server.settings.objectives import ObjectiveEntries


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. A field is an option, an environment variable and a key of the configuration file."""

    host: Annotated[Text, "address to listen on; 0.0.0.0 for all"] = "127.0.0.1"
    http_port: Annotated[Port, "port to listen on; without it PORT from the environment counts (Knative)"] = 8080
    protocol: Annotated[Text, "name answered on /protocol; the payload's own protocol is recognised"] = (
        "seldonfeedback.http"
    )
    model_name: Annotated[Text, "name of this server in its log"] = "model"
    storage_uri: Annotated[
        Text, "metric model: auto, or the dotted path of a class; adserver.cm_models.* are aliases of cm_models.*"
    ] = "auto"
    threshold: Annotated[Share, "lowest score of class 1 that counts as positive, for BinaryMetrics"] = 0.5
    class_names: Annotated[Texts, "names of the classes in the order of their indexes, separated by commas"] = ()
    reply_url: Annotated[
        Text,
        "where to send the reply event of each feedback besides, with --event_type and --event_source; a dead"
        " one costs nothing",
    ] = ""
    event_type: Annotated[Text, "type of reply events; with --event_source feedback is answered by such an event"] = ""
    event_source: Annotated[Text, "source of reply events"] = ""
    elasticsearch_uri: Annotated[
        Text,
        "where the request logger wrote predictions; a truth that waits has its own looked up there, beside"
        " the request path",
    ] = ""
    elasticsearch_index: Annotated[
        Text,
        "the request logger's index for predictions; a part that an event leaves open is unknown-namespace and so on",
    ] = "inference-log-seldon-{namespace}-{service}-{endpoint}"
    elasticsearch_ca: Annotated[
        Text, "file with the certificates that Elasticsearch is verified by, in place of those that the machine trusts"
    ] = ""
    kafka_brokers: Annotated[Text, "Kafka brokers to consume from, as host:port separated by commas"] = ""
    kafka_topic: Annotated[
        Text, "topics to consume, separated by commas, or one regular expression that starts with ^"
    ] = "seldon"
    kafka_group: Annotated[Text, "consumer group; servers of one group share the records, and must share a store"] = (
        "feedback-metrics-server"
    )
    kafka_config: Annotated[
        Text, "file with settings of librdkafka as name=value lines: security.protocol, sasl.*, ssl.* and others"
    ] = ""
    store: Annotated[
        Text, "where the state lives: sqlite:///file, sqlite:////absolute/file, postgresql://… or memory://"
    ] = "sqlite:///metrics-server.db"
    workers: Annotated[PositiveInt, "processes that share the port, one for each core; needs postgresql://"] = 1
    windows: Annotated[Durations, "windows of the gauges, separated by commas"] = ("1h", "1d", "7d", "30d")
    history: Annotated[Duration, "how long sums are kept, by prediction time"] = "400d"
    retention: Annotated[Duration, "how long a prediction stays open to truth and corrections, from receipt"] = "35d"
    dedupe_retention: Annotated[Duration, "how long the key of an event without a request id is kept"] = "1d"
    max_pending: Annotated[
        PositiveInt,
        "rows, and further ids of rows, kept at most for pairing and correction; beyond it the oldest go first",
    ] = 5_000_000
    max_pending_bytes: Annotated[PositiveInt, "about what they may take on disk; beyond it the oldest go first"] = (
        4 * 2**30
    )
    max_dedupe_keys: Annotated[
        PositiveInt, "keys of events without a request id kept at most; beyond it the oldest go first"
    ] = 50_000_000
    score_models: Annotated[
        Texts, "models, as events name them, whose predictions count, separated by commas; all"
    ] = ()
    slices: Annotated[
        Texts,
        "dimensions to slice by: name=attribute:…, name=tag:…, name=header:… or name=annotation:…, separated by commas",
    ] = ()
    max_slices: Annotated[
        PositiveInt, "slices of a model in one dimension at most; the rest count as name=__other__"
    ] = 100
    groups: Annotated[
        GroupReferences,
        "dimensions of --slices whose slices are groups, each with the one that the others are compared with:"
        " dimension=value, separated by commas",
    ] = ()
    expose_groups: Annotated[
        Switch, "expose model_group_* too, the comparison of groups: for reports, nothing to alert on"
    ] = False
    absent_reward: Annotated[
        AbsentReward,
        "what feedback with a truth and without a reward says of it: none, or zero where senders leave zeros out, as"
        " JSON of protobuf does",
    ] = "none"
    request_id_from: Annotated[
        IdPlaces,
        LogFormat,
        "where the id to join on stands, the first that is there: header:NAME, attribute:NAME or body:PATH, separated"
        " by commas; then ids belong to their deployment, which truths have to name",
    ] = ()
    predictor_from: Annotated[
        PredictorPlaces,
        "where the name of the predictor stands, the first that is there: annotation:NAME, header:NAME, attribute:NAME"
        " or tag:NAME, separated by commas; else as events state it",
    ] = ()
    custom_metrics: Annotated[
        CustomNames,
        "metrics in meta.metrics of Seldon's responses to expose, by their keys, separated by commas; * for all, of"
        " models that are trusted",
    ] = ()
    series_retention: Annotated[Duration, "after how long without events a series is forgotten"] = "30d"
    max_series: Annotated[PositiveInt, "series at most; events that need one more are refused"] = 1000
    max_classes: Annotated[PositiveInt, "classes of a series at most; later ones count as __other__"] = 1000
    max_exported_classes: Annotated[PositiveInt, "classes of a series with gauges of their own at most"] = 100
    expose: Annotated[
        Exposed,
        "how much of a series is on /v1/metrics: essential (what alerts ask for), standard (all but values of classes"
        " and the like) or full",
    ] = Exposure.FULL
    min_support: Annotated[
        PositiveInt, "values that rest on fewer labelled rows, of the class for a class, are not shown"
    ] = 1
    max_body_bytes: Annotated[PositiveInt, "size of a request body at most, after decompression"] = 8 * 2**20
    max_bodies_bytes: Annotated[PositiveInt, "size of all bodies being received at most; beyond it 503"] = 64 * 2**20
    max_queue_events: Annotated[PositiveInt, "events waiting to be applied at most; beyond it 503"] = 20_000
    max_connections: Annotated[PositiveInt, "open connections at most; further ones are closed at once"] = 2000
    events_prefix: Annotated[
        PathPrefix, "a path, such as /seldon-events, at which and below which events are taken as at /"
    ] = ""
    token_file: Annotated[
        Text, "file with tokens, one a line, of which who sends events or retires a series must show one"
    ] = ""
    send_token_file: Annotated[Text, "file with tokens for sending events alone, beside those of --token_file"] = ""
    read_token_file: Annotated[
        Text,
        "file with tokens of which who reads /v1/metrics, the JSON API or the page must show one; empty for anyone",
    ] = ""
    delete_token_file: Annotated[Text, "file with tokens for retiring series alone, beside those of --token_file"] = ""
    tls_cert: Annotated[Text, "file with the certificate chain to serve HTTPS with, with --tls_key"] = ""
    tls_key: Annotated[Text, "file with the certificate's private key"] = ""
    tls_client_ca: Annotated[
        Text, "file with the authorities of client certificates, one of which every request but probes then needs"
    ] = ""
    tls_clients: Annotated[
        Texts,
        "names in client certificates, separated by commas, of those who may send events and retire series; who reads"
        " then needs none",
    ] = ()
    shutdown_delay: Annotated[Seconds, "seconds to go on serving after SIGTERM, while /readyz already says 503"] = 0.0
    drain_seconds: Annotated[Seconds, "seconds at most to apply and answer what was received before the shutdown"] = (
        20.0
    )
    seldon_metrics: Annotated[Switch, "expose the ancestor's seldon_metric_* counters too"] = True
    exemplars: Annotated[
        Switch,
        "in OpenMetrics, tell request and trace of a recent wrong decision, and of each bucket of latency",
    ] = False
    allow_pickle: Annotated[Switch, "let --storage_uri name a local pickle, which can run any code"] = False
    log_format: Annotated[
        LogFormat, "text, or json for one object a line, with the trace of an event that a line is about"
    ] = "text"
    log_level: Annotated[LogLevel, "least severe messages to log: DEBUG, INFO, WARNING or ERROR"] = "INFO"
    objectives: Annotated[ObjectiveEntries, "what values of deployments should be; only in the configuration file"] = ()
    deployments: Annotated[
        Deployments, "metric model, threshold and class names by deployment; only in the configuration file"
    ] = ()
