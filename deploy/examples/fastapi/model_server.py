# ruff: noqa: INP001 - uvicorn is given the file
"""A model server in FastAPI: the species of an iris flower by its four measures.

starlette-exporter measures its requests; prediction_log.py tells its predictions to the feedback metrics server.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import uuid4

from fastapi import FastAPI
from prediction_log import PredictionLog
from prometheus_client import Counter
from pydantic import BaseModel, Field
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from starlette_exporter import PrometheusMiddleware, handle_metrics

MAX_ROWS = 1000
FLOWERS = load_iris()
SPECIES: list[str] = FLOWERS.target_names.tolist()
MODEL = LogisticRegression(max_iter=1000).fit(FLOWERS.data, FLOWERS.target)
PREDICTIONS = Counter("model_server_predictions", "Predictions by class.", ["species"])
LOG = PredictionLog(os.environ.get("FEEDBACK_URL", "http://127.0.0.1:8080"))

for species in SPECIES:
    PREDICTIONS.labels(species)  # each is there from the start, at 0

Measure = Annotated[float, Field(allow_inf_nan=False)]
Row = Annotated[list[Measure], Field(min_length=4, max_length=4)]


class Flowers(BaseModel):
    """What is asked: length and width of sepals and petals in centimetres, a row for each flower."""

    rows: Annotated[list[Row], Field(min_length=1, max_length=MAX_ROWS)]


class Answer(BaseModel):
    """The most probable species of each flower, and the id under which its truth may be told."""

    request_id: str
    species: list[str]
    scores: list[list[float]]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Tells what is still to be told before the process ends."""
    yield
    LOG.close()


app = FastAPI(title="Iris", lifespan=lifespan)
app.add_middleware(PrometheusMiddleware, app_name="iris", skip_paths=["/healthz", "/metrics"])
app.add_route("/metrics", handle_metrics)


@app.post("/predict")
def predict(flowers: Flowers) -> Answer:
    """The species of each flower."""
    scores = MODEL.predict_proba(flowers.rows)
    answer = Answer(
        request_id=str(uuid4()),
        species=[SPECIES[column] for column in scores.argmax(axis=1)],
        scores=scores.tolist(),
    )
    for species in answer.species:
        PREDICTIONS.labels(species).inc()
    LOG.tell(answer.request_id, answer.scores)
    return answer


@app.get("/healthz")
def healthz() -> str:
    """Says that the model is loaded."""
    return "ok"
