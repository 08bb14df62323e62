"""Variables of the dashboards, the links between them, and the marks on their time lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from deploy.dashboards.builder.query import CHOICES, CHOSEN, UNDETAILED, WINDOW, chosen, of_any_name

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "feedback-metrics-server"
DEFAULT_WINDOW = "1d"
_ALL = VariableOption(text="All", value="$__all")
_COUNTED = "model_predictions_total"
# Every model has one of these in each window: what is labelled, what is logged, or what is rewarded.
_OF_EVERY_MODEL = "model_support|model_label_coverage_ratio|model_reward_mean"
_ANY_OF_THE_SERVER = "model_[^:]+"  # and not what rules record, such as model_window:output_mean:chosen
# Shown in the place of the quality of a model that nobody labels: the mean of its numbers, or that nothing is labelled.
_OUTPUTS, _COVERAGE = "model_output_mean", "model_label_coverage_ratio"
_NOT_QUALITY = "(?:support|label_coverage_ratio|output_.*)"

Variables = list[dashboard.QueryVariable | dashboard.DatasourceVariable]


def _query(name: str, query: str, label: str = "") -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label or name.capitalize())
        .datasource(SOURCE)
        .query({"query": query, "refId": f"variable-{name}"})
        .definition(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
    )


def _many(variable: dashboard.QueryVariable) -> dashboard.QueryVariable:
    return variable.multi(True).include_all(True).all_value(".*").current(_ALL)


def source() -> dashboard.DatasourceVariable:
    """Returns the variable that chooses a Prometheus."""
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _chain(metric: str, labels: Mapping[str, str]) -> list[dashboard.QueryVariable]:
    """Returns variables for labels of a metric; each offers the values that remain after the ones before it."""
    variables, matchers = [], []
    for name, label in labels.items():
        variables.append(_query(name, f"label_values({metric}{{{', '.join(matchers)}}}, {label})"))
        matchers.append(f'{label}=~"${name}"')
    return variables


def labels_of(metric: str, labels: Mapping[str, str]) -> list[dashboard.QueryVariable]:
    """Returns variables for labels of a metric, by name; each takes many, and offers what those before leave."""
    return [_many(variable) for variable in _chain(metric, labels)]


def window() -> dashboard.QueryVariable:
    """Returns the variable that chooses the window of the gauges."""
    return _query("window", f'label_values({{__name__=~"{_OF_EVERY_MODEL}"}}, window)').current(
        VariableOption(text=DEFAULT_WINDOW, value=DEFAULT_WINDOW)
    )


def many_models() -> Variables:
    """Returns variables that choose any number of models."""
    return [source(), *labels_of(_COUNTED, CHOICES), window()]


def one_model() -> Variables:
    """Returns variables that choose one model of one predictor."""
    return [source(), *_chain(_COUNTED, CHOICES), window()]


def one_deployment() -> Variables:
    """Returns variables that choose one deployment; other variables choose its predictors."""
    labels = {name: label for name, label in CHOICES.items() if name != "predictor"}
    namespace, deployment, model = _chain(_COUNTED, labels)
    return [source(), namespace, deployment, model.include_all(True).all_value(".*").current(_ALL), window()]


def baseline() -> dashboard.QueryVariable:
    """Returns a variable that chooses a predictor, at first the one with the most predictions."""
    return _predictor("baseline", f"sort_desc({_predictions('.*')})")


def candidate() -> dashboard.QueryVariable:
    """Returns a variable that chooses a predictor, at first the one with the fewest predictions beside the baseline."""
    others = f"({_predictions('.*')} unless on (predictor_name) {_predictions('$baseline')})"
    return _predictor("candidate", f"sort({others} or Inf + {_predictions('.*')})")


def _predictions(predictor: str) -> str:
    return f"max by (predictor_name) ({chosen('model_predictions_total', predictor=predictor)})"


def _predictor(name: str, sorted_: str) -> dashboard.QueryVariable:
    """Returns a variable of the predictors that a query finds, in its order."""
    return _query(name, f"query_result({sorted_})").regex('/predictor_name="([^"]*)"/').sort(VariableSort.DISABLED)


def metric(predictor: str = CHOSEN) -> dashboard.QueryVariable:
    """Returns a variable that chooses one of the values of a model that have an interval."""

    def named(*matchers: str) -> str:
        return chosen("", *matchers, WINDOW, *UNDETAILED, predictor=predictor)

    quality = named(f'__name__=~"{_ANY_OF_THE_SERVER}_lower"', f'__name__!~"model_{_NOT_QUALITY}_lower"')
    unlabelled = (named(f'__name__="{name}"') for name in (f"{_OUTPUTS}_lower", _COVERAGE))
    accuracy = VariableOption(text="model_accuracy_ratio", value="model_accuracy_ratio")
    return _names("metric", quality, *unlabelled).current(accuracy)


def _values(name: str, *matchers: str, unlabelled: Sequence[str]) -> dashboard.QueryVariable:
    """Returns a hidden variable of all values of a model whose names match, by which panels are repeated.

    Of a model without any it is the first that it has of those that stand for a model that nobody labels.
    """
    not_quality = f'__name__!~"model_{_NOT_QUALITY}|.+_(?:lower|upper)"'
    quality = of_any_name(_ANY_OF_THE_SERVER, not_quality, *matchers, *UNDETAILED)
    return (
        _names(name, quality, *map(of_any_name, unlabelled))
        .multi(True)
        .include_all(True)
        .current(_ALL)
        .hide(VariableHide.HIDE_VARIABLE)
    )


def ratios() -> dashboard.QueryVariable:
    """Returns a hidden variable of the values of a model that are shares."""
    return _values("ratio", '__name__=~".+_ratio"', unlabelled=[_COVERAGE])


def amounts() -> dashboard.QueryVariable:
    """Returns a hidden variable of the values of a model that are no shares."""
    return _values("amount", '__name__!~".+_ratio"', unlabelled=[_OUTPUTS, _COVERAGE])


def _names(name: str, *selections: str) -> dashboard.QueryVariable:
    """Returns a variable of the names, without ends of intervals, in the first selection that finds anything."""
    found = " or on () ".join(f"group by (__name__) ({selection})" for selection in selections)
    return _query(name, f"query_result({found})").regex("/^(.+?)(?:_lower)?\\{/")


def job() -> dashboard.QueryVariable:
    """Returns the variable that chooses the scrape job of the server."""
    return _many(_query("job", "label_values(metrics_server_build_info, job)"))


def links() -> dashboard.DashboardLink:
    """Returns links to the other dashboards, found by their tag, which keep the variables and the time."""
    link = (
        dashboard.DashboardLink("Feedback metrics")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .icon("external link")
        .include_vars(True)
        .keep_time(True)
    )
    link.build().placement = None  # beside the variables, and not in a menu
    return link


def _marks(name: str, color: str, expression: str, title: str) -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .icon_color(color)
        .target(prometheus.Dataquery().ref_id("A").expr(expression))
        .expr(expression)
        .title_format(title)
    )


def firing(alerts: str) -> dashboard.AnnotationQuery:
    """Marks alerts of these names while they fire."""
    expression = f'max by (alertname, severity, deployment_name) (ALERTS{{alertstate="firing", alertname=~"{alerts}"}})'
    return _marks("Alerts", "red", expression, "{{alertname}} {{deployment_name}}").step("60s")


def starts(name: str, expression: str, title: str) -> dashboard.AnnotationQuery:
    """Marks the times that are the values of an expression, in seconds."""
    return _marks(name, "blue", f"{expression} * 1000", title).use_value_for_time(True).step("60s")
