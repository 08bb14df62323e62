"""Verdicts on real data: two models of scikit-learn, one of which sees less, and the same one twice."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from statsmodels.datasets import fair

from metrics_server.metrics.sequential.estimate import ShareEstimate, difference
from metrics_server.series.series import Scoring
from tests.support.canary_deployment import Deployment
from tests.support.pairing_bench import CANARY, MAIN

DATA = {"digits": load_digits, "breast_cancer": load_breast_cancer}
SEEN = {"digits": slice(0, 20), "breast_cancer": slice(9, 10)}  # columns of the lesser model


@pytest.mark.parametrize("name", sorted(DATA))
def test_the_verdict_is_that_of_the_raw_rows(name: str) -> None:
    """Values, difference and interval are those of scikit-learn's scores, and the model that sees less is worse."""
    x, y = DATA[name](return_X_y=True)
    trained, asked, answers, truths = train_test_split(x, y, test_size=0.7, random_state=1)
    columns = SEEN[name]
    full = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(trained, answers)
    less = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(trained[:, columns], answers)
    to_main = np.arange(len(asked)) % 4 != 0  # three of four requests
    by_main, by_canary = full.predict(asked[to_main]), less.predict(asked[~to_main][:, columns])
    deployment = Deployment()
    deployment.send_answers(MAIN, by_main.tolist(), truths[to_main].tolist())
    deployment.send_answers(CANARY, by_canary.tolist(), truths[~to_main].tolist())
    found = deployment.one()
    ours, theirs = accuracy_score(truths[~to_main], by_canary), accuracy_score(truths[to_main], by_main)
    assert [arm.value for arm in found.arms] == pytest.approx([ours, theirs])
    assert found.difference == pytest.approx(ours - theirs)
    arms = [
        ShareEstimate(round(share * count), count)
        for share, count in ((ours, (~to_main).sum()), (theirs, to_main.sum()))
    ]
    assert (found.lower, found.upper) == pytest.approx(difference(arms[0], arms[1]))
    assert (found.verdict, deployment.one("canary").verdict) == ("worse", "better")
    by_f1 = deployment.one(metric="model_f1_macro_ratio")
    assert [arm.value for arm in by_f1.arms] == pytest.approx(
        [f1_score(truths[~to_main], by_canary, average="macro"), f1_score(truths[to_main], by_main, average="macro")]
    )


@pytest.mark.parametrize("name", sorted(DATA))
def test_of_one_model_twice_no_verdict_is_wrong(name: str) -> None:
    """The same model as its own canary is neither better nor worse, however the requests are divided."""
    x, y = DATA[name](return_X_y=True)
    trained, asked, answers, truths = train_test_split(x, y, test_size=0.7, random_state=1)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(trained, answers)
    given = model.predict(asked)
    for seed in range(5):
        to_main = np.random.default_rng(seed).random(len(asked)) < 0.75
        deployment = Deployment()
        deployment.send_answers(MAIN, given[to_main].tolist(), truths[to_main].tolist())
        deployment.send_answers(CANARY, given[~to_main].tolist(), truths[~to_main].tolist())
        assert deployment.one().verdict == "undecided"


def test_errors_of_a_regression_are_judged_by_their_means() -> None:
    """On Fair's survey of 6,366 answers a model that is off by a constant is worse in its mean absolute error, by the
    difference that numpy computes; the same model twice is not.
    """
    survey = fair.load_pandas().data
    x, y = survey.drop(columns="affairs").to_numpy(), survey["affairs"].to_numpy()
    trained, asked, answers, truths = train_test_split(x, y, test_size=0.7, random_state=1)
    given = make_pipeline(StandardScaler(), Ridge()).fit(trained, answers).predict(asked)
    to_main = np.arange(len(asked)) % 4 != 0
    errors = np.abs(given + np.where(to_main, 0.0, 0.7) - truths)
    off = Deployment(scoring=Scoring(storage_uri="cm_models.regression.Regression"))
    same = Deployment(scoring=Scoring(storage_uri="cm_models.regression.Regression"))
    for deployment, shift in ((off, 0.7), (same, 0.0)):
        deployment.send_answers(MAIN, given[to_main].tolist(), truths[to_main].tolist())
        deployment.send_answers(CANARY, (given[~to_main] + shift).tolist(), truths[~to_main].tolist())
    found = off.one(metric="model_mean_absolute_error")
    assert [arm.value for arm in found.arms] == pytest.approx([errors[~to_main].mean(), errors[to_main].mean()])
    assert found.difference == pytest.approx(errors[to_main].mean() - errors[~to_main].mean())
    assert (found.verdict, same.one(metric="model_mean_absolute_error").verdict) == ("worse", "undecided")
