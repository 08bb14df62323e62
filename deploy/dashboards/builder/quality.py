"""The home dashboard: all models, the worst first."""

from __future__ import annotations

from grafana_foundation_sdk.builders import table

from deploy.dashboards.builder.assembly import Board, Row
from deploy.dashboards.builder.metric import LESS_TAKEN_BACK, PER_SECOND, help_of, title_of, unit_of
from deploy.dashboards.builder.panel import BAD_ABOVE_ZERO, THIRD, Column, Steps, graph, linked, now, table_of
from deploy.dashboards.builder.query import Query, age, chosen, each_model, gauge, net_rate, of_any_name, rate
from deploy.dashboards.builder.variable import firing, many_models
from metrics_server.series.families import SERIES_LABELS

HEADINGS = dict(zip(SERIES_LABELS, ("Namespace", "Deployment", "Predictor", "Model"), strict=True))
TO_MODEL = {"namespace": "Namespace", "deployment": "Deployment", "predictor": "Predictor", "model": "Model"}
LEGEND = "{{deployment_name}} / {{predictor_name}}"
# As the server's page has it: of fewer than 30 labels it draws no conclusions, and a tenth of the predictions should
# have one.
SUPPORT: Steps = (("orange", None), ("text", 30))
COVERAGE: Steps = (("red", None), ("orange", 0.1), ("text", 0.5))
CLASSIFICATION, REGRESSION = "model_accuracy_ratio", "model_mean_absolute_error"
RELATIVE = "model_weighted_absolute_percentage_error_ratio"
# Of the models that are neither: many labels, rankings, ratings and rewards.
OTHERS = "model_(exact_match_ratio|mean_reciprocal_rank|rating_mean|reward_mean)"


def with_ends(name: str) -> dict[str, Column]:
    """Returns the columns of a value and the ends of its interval."""
    title, unit = title_of(name), unit_of(name)
    ends = {f"{title} {end}": Column(gauge(f"{name}_{end}"), unit) for end in ("lower", "upper")}
    return {title: Column(gauge(name), unit), **ends}


def _labelled(name: str) -> dict[str, Column]:
    """Returns the columns on the labels of the models that have a value of this name."""
    has = f"and on ({', '.join(SERIES_LABELS)}) {gauge(name)}"
    return {
        "Labelled": Column(f"{gauge('model_support')} {has}", "short", SUPPORT),
        "Coverage": Column(f"{gauge('model_label_coverage_ratio')} {has}", "percentunit", COVERAGE),
        "Last label": Column(f"{age('model_last_label_timestamp_seconds')} {has}", "s"),
    }


def _to_model(panel: table.Panel) -> table.Panel:
    return linked(panel, "Deployment", "This model", "feedback-model", TO_MODEL)


def _models() -> Row:
    why = "by the end of the interval that speaks for them, so that three unlucky labels do not lead the list"
    classifiers = table_of(
        "Classifiers",
        f"{help_of(CLASSIFICATION)} The worst first, {why}.",
        HEADINGS,
        with_ends(CLASSIFICATION) | _labelled(CLASSIFICATION),
        sort="Accuracy upper",
    )
    regressions = table_of(
        "Regressions",
        f"{help_of(RELATIVE)} {help_of(REGRESSION)} The worst first, {why}.",
        HEADINGS,
        with_ends(RELATIVE) | with_ends(REGRESSION) | _labelled(REGRESSION),
        sort=f"{title_of(RELATIVE)} lower",
        descending=True,
    )
    return Row("Models", [_to_model(classifiers), _to_model(regressions)])


def _others() -> Row:
    def named(ending: str) -> Column:
        found = of_any_name(f"{OTHERS}{ending}")
        return Column(
            each_model(f'label_replace({found}, "metric", "$1", "__name__", "model_(.+?)(_lower|_upper)?")', "metric")
        )

    columns = {"Value": named(""), "Lower": named("_lower"), "Upper": named("_upper")}
    about = "Headlines of models of many labels, rankings, ratings, and of rewards: each with its 95 % interval."
    panel = table_of("Other models", about, {**HEADINGS, "metric": "Metric"}, columns, sort="Metric")
    return Row("Many labels, rankings, ratings and rewards", [_to_model(panel)])


def _unlabelled() -> Row:
    def silent(expression: str) -> str:
        return f"{expression} unless on ({', '.join(SERIES_LABELS)}) {gauge('model_support')}"

    columns = {
        "Predictions": Column(silent(each_model(chosen("model_predictions_total")))),
        "Last prediction": Column(silent(age("model_last_prediction_timestamp_seconds")), "s"),
    }
    about = "Models of which no prediction in the window has a label, with all predictions that were ever logged."
    return Row(
        "Without labels",
        [_to_model(table_of("Models without labels", about, HEADINGS, columns, sort="Predictions", descending=True))],
    )


def _numbers() -> Row:
    labels = net_rate("model_labels", matchers=('status="matched"',))
    stalest = age("model_last_label_timestamp_seconds")
    return Row(
        "Now",
        [
            now(
                "Models",
                "Series that are chosen above, without slices.",
                "short",
                f"count({each_model(chosen('model_predictions_total'))})",
            ),
            now("Predictions", help_of("model_predictions"), PER_SECOND, f"sum({rate('model_predictions_total')})"),
            now("Labels", "Truths that met their prediction." + LESS_TAKEN_BACK, PER_SECOND, f"sum({labels})"),
            now("Lowest accuracy", help_of(CLASSIFICATION), "percentunit", f"min({gauge(CLASSIFICATION)})"),
            now("Longest without a label", "Of the models that ever had one.", "s", f"max({stalest})"),
            now(
                "Alerts",
                "Alerts about models that fire.",
                "short",
                'count(ALERTS{alertstate="firing", alertname=~"Model.*"}) or vector(0)',
                steps=BAD_ABOVE_ZERO,
            ),
        ],
    )


def _over_time() -> Row:
    def lines(name: str) -> Query:
        return Query(gauge(name), LEGEND)

    names = (CLASSIFICATION, RELATIVE, "model_label_coverage_ratio")
    labels = net_rate("model_labels", matchers=('status="matched"',))
    shown = [graph(title_of(name), help_of(name), unit_of(name), lines(name), span=THIRD) for name in names]
    predictions = graph(
        "Predictions",
        help_of("model_predictions"),
        PER_SECOND,
        Query(rate("model_predictions_total"), LEGEND),
        span=THIRD,
    )
    matched = graph(
        "Labels",
        "Truths that met their prediction, by arrival." + LESS_TAKEN_BACK,
        PER_SECOND,
        Query(labels, LEGEND),
        span=THIRD,
    )
    return Row(
        "Over time",
        [
            *shown,
            predictions,
            matched,
            graph("Labelled", help_of("model_support"), "short", lines("model_support"), span=THIRD),
        ],
    )


def board() -> Board:
    """Returns the dashboard of all models."""
    return Board(
        "feedback-quality",
        "Model quality",
        "All models, the worst first. A click on a deployment leads to its details.",
        many_models(),
        [firing("Model.*")],
        [_numbers(), _models(), _others(), _unlabelled(), _over_time()],
    )
