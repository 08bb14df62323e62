"""The dashboard of serving: the traffic of models and their predictions, labelled or not."""

from __future__ import annotations

from deploy.dashboards.builder.assembly import Board, Row
from deploy.dashboards.builder.metric import LESS_TAKEN_BACK, PER_SECOND, help_of, title_of, unit_of
from deploy.dashboards.builder.panel import THIRD, buckets, graph
from deploy.dashboards.builder.quality import LEGEND
from deploy.dashboards.builder.query import Query, by, chosen, each_model, gauge, net_rate, quantile, rate
from deploy.dashboards.builder.variable import firing, many_models

LATENCY = "model_prediction_latency_seconds"


def _traffic() -> Row:
    name = "model_predictions"
    predictions = Query(rate(f"{name}_total"), LEGEND)
    by_deployment = Query(
        by("deployment_namespace, deployment_name", rate(f"{name}_total")),
        "{{deployment_namespace}} / {{deployment_name}}",
    )
    age = Query(f"time() - {each_model(chosen('model_last_prediction_timestamp_seconds'))}", LEGEND)
    return Row(
        "Traffic",
        [
            graph("Predictions", help_of(name), PER_SECOND, predictions, span=THIRD),
            graph("Predictions by deployment", help_of(name), PER_SECOND, by_deployment, span=THIRD, stacked=True),
            graph(
                "Time since the last prediction",
                help_of("model_last_prediction_timestamp_seconds"),
                "s",
                age,
                span=THIRD,
            ),
        ],
    )


def _latency() -> Row:
    quantiles = [Query(quantile(q, LATENCY), f"{q:g}") for q in (0.5, 0.9, 0.99)]
    slowest = Query(quantile(0.99, LATENCY, "deployment_name", "predictor_name"), LEGEND)
    counts = by("le", each_model(f"increase({chosen(f'{LATENCY}_bucket')}[$__rate_interval])", "le"))
    return Row(
        "Latency",
        [
            graph("Latency", f"Quantiles. {help_of(LATENCY)}", "s", *quantiles, span=THIRD),
            graph("Latency by predictor, 99 %", help_of(LATENCY), "s", slowest, span=THIRD),
            buckets("Latency, all", help_of(LATENCY), "s", counts, span=THIRD),
        ],
    )


def _numbers() -> Row:
    names = ("model_output_min", "model_output_mean", "model_output_max")
    quantiles = "model_output_quantile"
    every = [Query(gauge(name), f"{LEGEND} {name.rpartition('_')[2]}") for name in names]
    mean = "model_output_mean"
    return Row(
        "Outputs that are numbers",
        [
            graph("Smallest, mean and largest output", " ".join(map(help_of, names)), "short", *every, span=THIRD),
            graph(
                title_of(quantiles),
                help_of(quantiles),
                "short",
                Query(gauge(quantiles, "q"), f"{LEGEND} {{{{q}}}}"),
                span=THIRD,
            ),
            graph(
                "Mean output",
                help_of(mean),
                "short",
                *[Query(gauge(f"{mean}{end}"), f"{LEGEND}{end}") for end in ("_lower", "", "_upper")],
                span=THIRD,
            ),
        ],
    )


def _classes() -> Row:
    share, count = "model_predicted_class_ratio", "model_predicted_class"
    legend = f"{LEGEND}: {{{{class}}}}"
    return Row(
        "Outputs that are classes",
        [
            graph("Predicted classes", help_of(share), unit_of(share), Query(gauge(share, "class"), legend), span=16),
            graph(
                "Predicted classes now",
                help_of(count) + LESS_TAKEN_BACK,
                PER_SECOND,
                Query(by("class", net_rate(count, "class")), "{{class}}"),
                span=THIRD,
                stacked=True,
            ),
        ],
    )


def _rewards() -> Row:
    mean, count = "model_reward_mean", "model_reward_values"
    return Row(
        "Rewards",
        [
            graph(title_of(mean), help_of(mean), "short", Query(gauge(mean), LEGEND)),
            graph(
                "Rewards by value",
                help_of(count) + LESS_TAKEN_BACK,
                PER_SECOND,
                Query(by("value", net_rate(count, "value")), "{{value}}"),
                stacked=True,
            ),
        ],
        folded=True,
    )


def board() -> Board:
    """Returns the dashboard of all models."""
    return Board(
        "feedback-serving",
        "Serving",
        (
            "What models are asked and what they answer, labelled or not. Needs a request log: where only feedback "
            "comes, most of it is empty."
        ),
        many_models(),
        [firing("Model.*")],
        [_traffic(), _latency(), _numbers(), _classes(), _rewards()],
    )
