"""The dashboard of one model, whatever its task: panels show the values that it has."""

from __future__ import annotations

from deploy.dashboards.builder.assembly import Board, Row
from deploy.dashboards.builder.metric import LESS_TAKEN_BACK, PER_SECOND, help_of, title_of, unit_of
from deploy.dashboards.builder.panel import FULL, THIRD, Column, buckets, graph, matrix, now, table_of
from deploy.dashboards.builder.quality import COVERAGE, SUPPORT
from deploy.dashboards.builder.query import (
    WINDOW,
    Query,
    age,
    by,
    chosen,
    custom,
    each_model,
    gauge,
    net,
    net_rate,
    of_any_name,
    quantile,
    rate,
)
from deploy.dashboards.builder.variable import amounts, firing, metric, one_model, ratios, starts

OF_CLASS = (
    "model_precision_ratio",
    "model_recall_ratio",
    "model_f1_ratio",
    "model_specificity_ratio",
    "model_roc_auc_ratio",
    "model_average_precision_ratio",
    "model_predicted_class_ratio",
)
PROBABILITIES = ("model_calibration_error_ratio", "model_brier_score", "model_log_loss")
# Custom metrics of binary classifiers that count for themselves how they do; and the shares that can be read from them.
IN_MODEL = ("true_pos", "true_neg", "false_pos", "false_neg")
TRUE_POS, TRUE_NEG, FALSE_POS, FALSE_NEG = IN_MODEL
OF_COUNTS = {
    "Accuracy": ("What it predicted right, of all.", (TRUE_POS, TRUE_NEG), IN_MODEL),
    "Precision": ("What is positive, of what it predicted so.", (TRUE_POS,), (TRUE_POS, FALSE_POS)),
    "Recall": ("What it predicted as positive, of what is so.", (TRUE_POS,), (TRUE_POS, FALSE_NEG)),
}
AT_K = "model_(top_k_accuracy_ratio|ndcg|mean_average_precision|hit_ratio)"


def band(name: str, legend: str) -> list[Query]:
    """Returns the queries of a value and its interval, as `graph` wants them; the name may be a variable in braces."""

    def series(ending: str) -> str:
        return each_model(chosen("", f'__name__="{name}{ending}"', WINDOW))

    return [Query(series(f"_{end}"), f"{legend} {end}") for end in ("lower", "upper")] + [Query(series(""), legend)]


def _now() -> Row:
    support, coverage = gauge("model_support"), gauge("model_label_coverage_ratio")
    headline = each_model(chosen("", '__name__="$metric"', WINDOW))
    return Row(
        "Now",
        [
            now("$metric", "The value that is chosen above, in the window.", "short", headline),
            now("Labelled", help_of("model_support"), "short", support, steps=SUPPORT),
            now("Coverage", help_of("model_label_coverage_ratio"), "percentunit", coverage, steps=COVERAGE),
            now("Predictions", help_of("model_predictions"), PER_SECOND, f"sum({rate('model_predictions_total')})"),
            now("Last prediction", "Time since it arrived.", "s", age("model_last_prediction_timestamp_seconds")),
            now("Last label", "Time since it arrived.", "s", age("model_last_label_timestamp_seconds")),
        ],
    )


def _over_time() -> Row:
    about = (
        "The value that is chosen above, with its 95 % interval. Each point is the window as it was then: a label that "
        "comes late changes the points after it, not those before. The server's own page shows the past as it is known "
        "now."
    )
    support = Query(gauge("model_support"), "labelled")
    return Row(
        "Over time",
        [
            graph("$metric", about, "short", *band("${metric}", "value"), span=16, bands=("value",)),
            graph("Labelled", help_of("model_support"), "short", support, span=THIRD),
        ],
    )


def _by_class() -> Row:
    columns = {title_of(name): Column(gauge(name, "class"), unit_of(name)) for name in OF_CLASS}
    about = "Every class with what is known of it, the lowest recall first. " + " ".join(
        help_of(name) for name in OF_CLASS[:2]
    )
    confusion = _confusion()
    row_total = f"sum by (truth) ({confusion}) > 0"
    return Row(
        "Of classes",
        [
            table_of("By class", about, {"class": "Class"}, columns, sort="Recall"),
            matrix(
                "Confusion, share of the truth",
                "Rows are truths, columns predictions: as what the rows of each class were predicted. "
                "All that stands, since the series began.",
                "percentunit",
                f"({confusion}) / on (truth) group_left () ({row_total})",
            ),
            matrix(
                "Confusion, pairs",
                help_of("model_confusion") + LESS_TAKEN_BACK,
                "short",
                confusion,
            ),
            *(
                graph(
                    title_of(name), help_of(name), unit_of(name), Query(gauge(name, "class"), "{{class}}"), span=THIRD
                )
                for name in ("model_precision_ratio", "model_recall_ratio", "model_f1_ratio")
            ),
        ],
    )


def _confusion() -> str:
    """Returns the query of the confusion matrix: the pairs that stand."""
    applied, taken_back = (
        by("truth, prediction", each_model(chosen(f"model_confusion{end}_total"), "truth", "prediction"))
        for end in ("", "_retracted")
    )
    return net(applied, taken_back)


def _probabilities() -> Row:
    shown = [
        graph(title_of(name), help_of(name), unit_of(name), Query(gauge(name), title_of(name)), span=THIRD)
        for name in PROBABILITIES
    ]
    at_k = each_model(f'label_replace({of_any_name(AT_K)}, "metric", "$1", "__name__", "model_(.+)")', "metric", "k")
    about = "Values of the first k classes or candidates: " + help_of("model_top_k_accuracy_ratio")
    ranks = graph("At k", about, "short", Query(at_k, "{{metric}} at {{k}}"), span=FULL)
    return Row("Of probabilities and ranks", [*shown, ranks], folded=True)


def _numbers() -> Row:
    error, output = "model_absolute_error_quantile", "model_output_quantile"
    bias = "model_mean_error"
    return Row(
        "Of numbers",
        [
            graph(title_of(bias), help_of(bias), unit_of(bias), *band(bias, "bias"), span=THIRD, bands=("bias",)),
            graph(title_of(error), help_of(error), unit_of(error), Query(gauge(error, "q"), "{{q}}"), span=THIRD),
            graph(title_of(output), help_of(output), unit_of(output), Query(gauge(output, "q"), "{{q}}"), span=THIRD),
        ],
    )


def _every_value() -> Row:
    about = "What $%s is: docs/reference/metrics.md. With its 95 %% interval, where it has one."
    panels = []
    for name, unit in (("ratio", "percentunit"), ("amount", "short")):
        panel = graph(f"${name}", about % name, unit, *band(f"${{{name}}}", "value"), span=FULL, bands=("value",))
        panels.append(panel.repeat(name).repeat_direction("h").max_per_row(4).height(6))
    return Row("Every value of this model", panels)


def _labels() -> Row:
    delay = "model_label_delay_seconds"
    status = Query(f"({net_rate('model_labels', 'status')}) > 0", "{{status}}")
    about = help_of("model_labels") + LESS_TAKEN_BACK
    quantiles = [Query(quantile(q, delay), f"{q:g}") for q in (0.5, 0.9, 0.99)]
    counts = by("le", each_model(f"increase({chosen(f'{delay}_bucket')}[$__rate_interval])", "le"))
    return Row(
        "Labels",
        [
            graph("What became of labels", about, unit_of("model_labels"), status, span=THIRD),
            graph("Label delay", help_of(delay), "s", *quantiles, span=THIRD),
            buckets("Label delay, all", help_of(delay), "s", counts, span=THIRD),
        ],
    )


def _in_model() -> Row:
    about = f"By the model's own count, in its custom metrics {', '.join(IN_MODEL)}: of all feedback that it saw."
    panels = []
    for name, (meaning, right, all_) in OF_COUNTS.items():
        of = custom(*all_)
        share = Query(f"({custom(*right)} or 0 * {of}) / ({of} > 0)", name.lower())
        panels.append(graph(f"{name}, by the model", f"{meaning} {about}", "percentunit", share, span=THIRD))
    return Row("What the model says of itself", panels, folded=True)


def _slices() -> Row:
    def sliced(name: str) -> str:
        return each_model(chosen("", f'__name__="{name}"', 'slice!=""', WINDOW), "slice")

    columns = {
        "Value": Column(sliced("$metric")),
        "Lower": Column(sliced("${metric}_lower")),
        "Upper": Column(sliced("${metric}_upper")),
        "Labelled": Column(sliced("model_support"), "short", SUPPORT),
    }
    about = "The value that is chosen above, in each slice of a server that is started with --slices."
    return Row("Slices", [table_of("$metric by slice", about, {"slice": "Slice"}, columns, sort="Value")], folded=True)


def board() -> Board:
    """Returns the dashboard of one model of one predictor."""
    began = starts(
        "New series", each_model(chosen("model_predictions_created")), "{{deployment_name}} / {{predictor_name}} began"
    )
    return Board(
        "feedback-model",
        "Model details",
        "One model: its values over time with their intervals, its classes, its errors, its labels.",
        [*one_model(), metric(), ratios(), amounts()],
        [firing("Model.*"), began],
        [
            _now(),
            _over_time(),
            _every_value(),
            _labels(),
            _by_class(),
            _numbers(),
            _probabilities(),
            _in_model(),
            _slices(),
        ],
    )
