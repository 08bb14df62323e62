"""Variables of the dashboards, the links between them, and what is marked on their time lines."""

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

from deploy.dashboards.builder.query import CHOICES, CHOSEN, WHOLE, WINDOW, chosen, of_any_name

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "feedback-metrics-server"
DEFAULT_WINDOW = "1d"
_ALL = VariableOption(text="All", value="$__all")
_NOT_QUALITY = "(?:support|label_coverage_ratio|output_.*)"
# Regular expressions are JavaScript's here; a group that captures is what becomes the value.
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
    """Which Prometheus."""
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _chain(*names: str) -> list[dashboard.QueryVariable]:
    """Parts of a series' name, each offered from what the ones before it leave."""
    found, matchers = [], []
    for name in names:
        label = CHOICES[name]
        found.append(_query(name, f"label_values(model_predictions_total{{{', '.join(matchers)}}}, {label})"))
        matchers.append(f'{label}=~"${name}"')
    return found


def window() -> dashboard.QueryVariable:
    """The window of the gauges."""
    return _query("window", "label_values(model_support, window)").current(
        VariableOption(text=DEFAULT_WINDOW, value=DEFAULT_WINDOW)
    )


def many_models() -> Variables:
    """Any number of models."""
    return [source(), *map(_many, _chain(*CHOICES)), window()]


def one_model() -> Variables:
    """One model, of one predictor."""
    return [source(), *_chain(*CHOICES), window()]


def one_deployment() -> Variables:
    """One deployment; its predictors are chosen by other variables."""
    namespace, deployment, model = _chain("namespace", "deployment", "model")
    return [source(), namespace, deployment, model.include_all(True).all_value(".*").current(_ALL), window()]


def by_support(name: str, sorting: str) -> dashboard.QueryVariable:
    """A predictor; the first is that of the most labels with `sort_desc`, of the fewest with `sort`."""
    support = f"{sorting}(max by (predictor_name) ({chosen('model_support', WINDOW, predictor='.*')}))"
    return _query(name, f"query_result({support})").regex('/predictor_name="([^"]*)"/').sort(VariableSort.DISABLED)


def metric(predictor: str = CHOSEN) -> dashboard.QueryVariable:
    """A value with an interval, of those that the model has."""
    values = chosen("", '__name__=~"model_.+_lower"', WINDOW, *WHOLE, predictor=predictor)
    accuracy = VariableOption(text="model_accuracy_ratio", value="model_accuracy_ratio")
    return (
        _query("metric", f"label_values({values}, __name__)")
        .regex(f"/^((?!model_{_NOT_QUALITY}_lower).*)_lower$/")
        .current(accuracy)
    )


def values(name: str, ending: str) -> dashboard.QueryVariable:
    """All values that the model has and whose names match, for panels to be repeated by; not shown itself."""
    query = f"label_values({of_any_name('model_.+', *WHOLE)}, __name__)"
    pattern = f"/^(?!model_{_NOT_QUALITY}$)(?!.*{_INTERVAL_END}){ending}$/"
    return (
        _query(name, query).regex(pattern).multi(True).include_all(True).current(_ALL).hide(VariableHide.HIDE_VARIABLE)
    )


def job() -> dashboard.QueryVariable:
    """The scrape job of the server."""
    return _many(_query("job", "label_values(metrics_server_build_info, job)"))


def links() -> dashboard.DashboardLink:
    """To the other dashboards, by their tag, with what is chosen here."""
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
    """Alerts of these names while they fire."""
    expression = f'max by (alertname, severity, deployment_name) (ALERTS{{alertstate="firing", alertname=~"{alerts}"}})'
    return _marks("Alerts", "red", expression, "{{alertname}} {{deployment_name}}").step("60s")


def starts(name: str, expression: str, title: str) -> dashboard.AnnotationQuery:
    """Moments that the values of an expression give, in seconds."""
    return _marks(name, "blue", f"{expression} * 1000", title).use_value_for_time(True).step("60s")
