"""The dashboard of the platform's own metrics: how Seldon's executors are called, and how they call their models.

It asks nothing of the metrics server. Names and labels are those of Seldon Core 1.x (executor/api/metric), and hold for
custom metrics of its Python wrapper too, but for the labels of the call.
"""

from __future__ import annotations

from deploy.dashboards.builder.assembly import Board, Row
from deploy.dashboards.builder.metric import PER_SECOND
from deploy.dashboards.builder.panel import BAD_ABOVE_ZERO, QUARTER, THIRD, graph, now
from deploy.dashboards.builder.query import RATE, Query, by
from deploy.dashboards.builder.variable import labels_of, source

SERVER, CLIENT = (f"seldon_api_executor_{side}_requests_seconds" for side in ("server", "client"))
CALLED = ("deployment", "predictor")
MODELS = (*CALLED, "model", "image", "version")
LABELS = {
    "deployment": "deployment_name",
    "predictor": "predictor_name",
    "model": "model_name",
    "image": "model_image",
    "version": "model_version",
}
PREDICTIONS = 'service="predictions"'
PREDICTOR = "{{deployment_name}} / {{predictor_name}}"
MODEL = f"{PREDICTOR} / {{{{model_name}}}} {{{{model_image}}}}:{{{{model_version}}}}"
QUANTILES = (0.5, 0.9, 0.95, 0.99)


def _rate(name: str, chosen_by: tuple[str, ...], *matchers: str) -> str:
    """Returns the query of a counter of the chosen series, per second."""
    chosen = [f'{LABELS[choice]}=~"${choice}"' for choice in chosen_by]
    return f"rate({name}{{{', '.join((*chosen, *matchers))}}}{RATE})"


def _calls(*matchers: str) -> str:
    return _rate(f"{SERVER}_count", CALLED, PREDICTIONS, *matchers)


def _failed(first_digit: int) -> str:
    """Returns the query of failed predictions a second, 0 while none has failed."""
    code = f'code=~"{first_digit}.."'
    return f"sum({_calls(code)}) or 0 * sum({_calls()})"


def _grouped(chosen_by: tuple[str, ...]) -> str:
    return ", ".join(LABELS[choice] for choice in chosen_by)


def _quantile(q: float, name: str, chosen_by: tuple[str, ...], *matchers: str) -> str:
    counts = by(f"{_grouped(chosen_by)}, le", _rate(f"{name}_bucket", chosen_by, *matchers))
    return f"histogram_quantile({q}, {counts})"


def _now() -> Row:
    answered = _calls('code!~"[45].."')
    success = f"sum({answered}) / (sum({_calls()}) > 0)"
    return Row(
        "All",
        [
            now("Requests", "Predictions that executors were asked for.", PER_SECOND, f"sum({_calls()})", span=QUARTER),
            now("Success", "Share that got an answer of neither 4xx nor 5xx.", "percentunit", success, span=QUARTER),
            now("4xx", "What no model could use.", PER_SECOND, _failed(4), steps=BAD_ABOVE_ZERO, span=QUARTER),
            now("5xx", "What failed in the platform.", PER_SECOND, _failed(5), steps=BAD_ABOVE_ZERO, span=QUARTER),
        ],
    )


def _predictors() -> Row:
    requests = Query(by(_grouped(CALLED), _calls()), PREDICTOR)
    codes = Query(by("code", _calls()), "{{code}}")
    latency = [Query(_quantile(q, SERVER, CALLED, PREDICTIONS), f"{PREDICTOR} {q:g}") for q in QUANTILES]
    feedback = Query(by(_grouped(CALLED), _rate(f"{SERVER}_count", CALLED, 'service="feedback"')), PREDICTOR)
    return Row(
        "Deployments and predictors",
        [
            graph("Requests by predictor", "Predictions that executors were asked for.", PER_SECOND, requests),
            graph("Latency by predictor", "Quantiles of the whole call, at the executor.", "s", *latency),
            graph("Requests by status", "Predictions by the status of their answers.", PER_SECOND, codes, stacked=True),
            graph("Feedback by predictor", "Calls with feedback. It is balanced afresh.", PER_SECOND, feedback),
        ],
    )


def _models() -> Row:
    asked = 'service=~"/?predict"'
    requests = Query(by(_grouped(MODELS), _rate(f"{CLIENT}_count", MODELS, asked)), MODEL)
    latency = [Query(_quantile(q, CLIENT, MODELS, asked), f"{MODEL} {q:g}") for q in QUANTILES]
    versions = Query(
        by("model_image, model_version", _rate(f"{CLIENT}_count", MODELS, asked)), "{{model_image}}:{{model_version}}"
    )
    return Row(
        "Models and image versions",
        [
            graph("Requests by model", "Calls that executors made of their models.", PER_SECOND, requests, span=THIRD),
            graph("Latency by model", "Quantiles of the model's part of a call.", "s", *latency, span=THIRD),
            graph(
                "Requests by image version",
                "The same by image, as it is rolled out.",
                PER_SECOND,
                versions,
                span=THIRD,
                stacked=True,
            ),
        ],
    )


def board() -> Board:
    """Returns the dashboard of the platform."""
    return Board(
        "feedback-platform",
        "Prediction analytics",
        "How executors of Seldon Core 1.x are called and how they call their models, from their own metrics.",
        [source(), *labels_of(f"{CLIENT}_count", LABELS)],
        [],
        [_now(), _predictors(), _models()],
    )
