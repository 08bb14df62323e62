"""Variables of the dashboards, the links between them, and the marks on their time lines."""

from __future__ import annotations

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
_NOT_QUALITY = "(?:support|label_coverage_ratio|output_.*)"
# Regular expressions are JavaScript's here; the text of a capturing group becomes the value.
_INTERVAL_END = "_(?:lower|upper)$"

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


def _chain(*names: str) -> list[dashboard.QueryVariable]:
    """Returns variables for labels of a series; each offers the values that remain after the ones before it."""
    variables, matchers = [], []
    for name in names:
        label = CHOICES[name]
        variables.append(_query(name, f"label_values(model_predictions_total{{{', '.join(matchers)}}}, {label})"))
        matchers.append(f'{label}=~"${name}"')
    return variables


def window() -> dashboard.QueryVariable:
    """Returns the variable that chooses the window of the gauges."""
    return _query("window", "label_values(model_support, window)").current(
        VariableOption(text=DEFAULT_WINDOW, value=DEFAULT_WINDOW)
    )


def many_models() -> Variables:
    """Returns variables that choose any number of models."""
    return [source(), *map(_many, _chain(*CHOICES)), window()]


def one_model() -> Variables:
    """Returns variables that choose one model of one predictor."""
    return [source(), *_chain(*CHOICES), window()]


def one_deployment() -> Variables:
    """Returns variables that choose one deployment; other variables choose its predictors."""
    namespace, deployment, model = _chain("namespace", "deployment", "model")
    return [source(), namespace, deployment, model.include_all(True).all_value(".*").current(_ALL), window()]


def by_support(name: str, sorting: str) -> dashboard.QueryVariable:
    """Returns a variable that chooses a predictor.

    The first has the most labels with `sort_desc`, and the fewest with `sort`.
    """
    support = f"{sorting}(max by (predictor_name) ({chosen('model_support', WINDOW, predictor='.*')}))"
    return _query(name, f"query_result({support})").regex('/predictor_name="([^"]*)"/').sort(VariableSort.DISABLED)


def metric(predictor: str = CHOSEN) -> dashboard.QueryVariable:
    """Returns a variable that chooses one of the values of a model that have an interval."""
    values = chosen("", '__name__=~"model_.+_lower"', WINDOW, *UNDETAILED, predictor=predictor)
    accuracy = VariableOption(text="model_accuracy_ratio", value="model_accuracy_ratio")
    return (
        _query("metric", f"label_values({values}, __name__)")
        .regex(f"/^((?!model_{_NOT_QUALITY}_lower).*)_lower$/")
        .current(accuracy)
    )


def values(name: str, ending: str) -> dashboard.QueryVariable:
    """Returns a hidden variable of all values of a model whose names match, by which panels are repeated."""
    query = f"label_values({of_any_name('model_.+', *UNDETAILED)}, __name__)"
    pattern = f"/^(?!model_{_NOT_QUALITY}$)(?!.*{_INTERVAL_END}){ending}$/"
    return (
        _query(name, query).regex(pattern).multi(True).include_all(True).current(_ALL).hide(VariableHide.HIDE_VARIABLE)
    )


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
