"""The dashboard of the predictors of a deployment side by side, such as a canary and the one it may replace."""

from __future__ import annotations

from deploy.dashboards.builder.assembly import Board, Row
from deploy.dashboards.builder.metric import PER_SECOND, help_of, title_of, unit_of
from deploy.dashboards.builder.panel import HALF, THIRD, Column, graph, now, table_of, word
from deploy.dashboards.builder.quality import COVERAGE, SUPPORT
from deploy.dashboards.builder.query import WINDOW, Query, chosen, quantile, rate
from deploy.dashboards.builder.variable import baseline, candidate, firing, metric, one_deployment

ANY = ".*"
BOTH = ("baseline", "candidate")  # the variables, and the legends: a legend with a band cannot be a variable
METRIC = '__name__="${metric}%s"'


def _value(predictor: str, ending: str = "") -> str:
    """Returns the query of the chosen value of a predictor, or of an end of its interval.

    The series do not have the name of the predictor, so that two can be compared.
    """
    return (
        f"max by (deployment_namespace, deployment_name) ({chosen('', METRIC % ending, WINDOW, predictor=predictor)})"
    )


def _each_predictor(selected: str, *labels: str) -> str:
    return f"max by ({', '.join(('predictor_name', *labels))}) ({selected})"


def _gauge(name: str, *labels: str) -> str:
    return _each_predictor(chosen(name, WINDOW, predictor=ANY), *labels)


def _difference() -> tuple[str, str, str]:
    """Returns the queries of candidate less baseline, and of the ends of its interval.

    The interval is made from those of both, as on the server (Newcombe 1998; Zou and Donner 2008).
    """
    candidate, candidate_lower, candidate_upper = (_value("$candidate", ending) for ending in ("", "_lower", "_upper"))
    baseline, baseline_lower, baseline_upper = (_value("$baseline", ending) for ending in ("", "_lower", "_upper"))
    difference = f"({candidate} - {baseline})"
    below = f"sqrt(({candidate} - {candidate_lower}) ^ 2 + ({baseline_upper} - {baseline}) ^ 2)"
    above = f"sqrt(({candidate_upper} - {candidate}) ^ 2 + ({baseline} - {baseline_lower}) ^ 2)"
    return difference, f"{difference} - {below}", f"{difference} + {above}"


def _verdict() -> Row:
    """Returns what the server says of the two: that holds at every look, what is compared below at one.

    Which of them is the baseline is the server's to say: the declared one, or else the one that was seen first.
    """
    labels, either = ("predictor_name", "baseline"), "$candidate|$baseline"

    def of_pair(name: str, *kept: str) -> str:
        selected = chosen(name, f'baseline=~"{either}"', predictor=either)
        return f"max by ({', '.join((*labels, *kept))}) ({selected})"

    verdict = Query(
        f"{of_pair('model_canary_verdict', 'verdict')} == 1", "{{predictor_name}} against {{baseline}}: {{verdict}}"
    )
    ends = [
        Query(of_pair(f"model_canary_difference{end}"), f"difference{end.replace('_', ' ')}")
        for end in ("_lower", "_upper", "")
    ]
    about = (
        f"{help_of('model_canary_difference')} Which is the baseline, the verdict says. "
        "With the 95 % interval that holds at all looks together."
    )
    return Row(
        "The verdict",
        [
            word("Verdict", help_of("model_canary_verdict"), verdict, span=THIRD),
            graph("Difference at every look", about, "short", *ends, span=2 * THIRD, bands=("difference",)),
        ],
    )


def _comparison() -> Row:
    difference, lower, upper = _difference()
    about = "$candidate less $baseline, of the value that is chosen above."
    ends = "An interval that holds 0 tells nothing apart."
    over_time = graph(
        "Difference of $metric",
        f"{about} With its 95 % interval, taking the labels of the two as independent. {ends}",
        "short",
        Query(lower, "difference lower"),
        Query(upper, "difference upper"),
        Query(difference, "difference"),
        bands=("difference",),
    )
    both = [
        Query(_value(f"${predictor}", ending), f"{predictor}{ending.replace('_', ' ')}")
        for predictor in BOTH
        for ending in ("_lower", "_upper", "")
    ]
    values = graph(
        "$metric", "The value that is chosen above, of both, with its 95 % interval.", "short", *both, bands=BOTH
    )
    return Row(
        "$candidate against $baseline",
        [
            now("Difference", about, "short", difference, span=THIRD),
            now(
                "Lower end", f"The lower end of the 95 % interval of the difference. {ends}", "short", lower, span=THIRD
            ),
            now(
                "Upper end", f"The upper end of the 95 % interval of the difference. {ends}", "short", upper, span=THIRD
            ),
            values,
            over_time,
        ],
    )


def _all() -> Row:
    def named(ending: str) -> Column:
        return Column(_each_predictor(chosen("", METRIC % ending, WINDOW, predictor=ANY)))

    columns = {
        "Value": named(""),
        "Lower": named("_lower"),
        "Upper": named("_upper"),
        "Labelled": Column(_gauge("model_support"), "short", SUPPORT),
        "Coverage": Column(_gauge("model_label_coverage_ratio"), "percentunit", COVERAGE),
        "Predictions": Column(_each_predictor(rate("model_predictions_total", predictor=ANY)), PER_SECOND),
    }
    about = "The value that is chosen above, of every predictor of the deployment, with its 95 % interval."
    every = graph("$metric, all predictors", about, "short", Query(columns["Value"].expression, "{{predictor_name}}"))
    table = table_of("$metric by predictor", about, {"predictor_name": "Predictor"}, columns, sort="Value", span=HALF)
    return Row("All predictors", [table, every])


def _serving() -> Row:
    latency, classes = "model_prediction_latency_seconds", "model_predicted_class_ratio"
    rates = _each_predictor(rate("model_predictions_total", predictor=ANY))
    p99 = quantile(0.99, latency, "predictor_name", predictor=ANY)
    legend = "{{predictor_name}}"
    outputs = {end: _gauge(f"model_output_{end}") for end in ("min", "mean", "max")}
    columns = {
        "Predictions": Column(rates, PER_SECOND),
        "Latency, 99 %": Column(p99, "s"),
        **{title_of(f"model_output_{end}"): Column(query) for end, query in outputs.items()},
    }
    return Row(
        "Serving",
        [
            table_of(
                "Serving by predictor",
                "Predictions a second, latency, and the smallest, mean and largest output of each. An arm that is off "
                "stands out before anybody labels one.",
                {"predictor_name": "Predictor"},
                columns,
                sort=title_of("model_output_mean"),
            ),
            graph(
                "Predictions", help_of("model_predictions"), PER_SECOND, Query(rates, legend), span=THIRD, stacked=True
            ),
            graph("Latency, 99 %", help_of(latency), "s", Query(p99, legend), span=THIRD),
            graph(
                "Smallest, mean and largest output",
                " ".join(help_of(f"model_output_{end}") for end in outputs),
                "short",
                *[Query(query, f"{legend} {end}") for end, query in outputs.items()],
                span=THIRD,
            ),
            graph(
                f"{title_of(classes)} by predictor",
                help_of(classes) + " Two predictors of equal traffic should differ little.",
                unit_of(classes),
                Query(_gauge(classes, "class"), "{{predictor_name}}: {{class}}"),
                span=HALF,
            ),
            graph(
                "Coverage",
                help_of("model_label_coverage_ratio"),
                "percentunit",
                Query(_gauge("model_label_coverage_ratio"), legend),
            ),
        ],
    )


def board() -> Board:
    """Returns the dashboard of the predictors of one deployment."""
    return Board(
        "feedback-canary",
        "Canary",
        (
            "The predictors of a deployment side by side, labelled or not. At first the baseline is the one with the "
            "most predictions, the candidate that with the fewest."
        ),
        [*one_deployment(), baseline(), candidate(), metric(predictor=ANY)],
        [firing("Model.*")],
        [_verdict(), _comparison(), _all(), _serving()],
    )
