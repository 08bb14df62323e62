"""Verdicts on real data: two models of scikit-learn, one of which sees less, and the same one twice."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metrics_server.metrics.sequential.estimate import ShareEstimate, difference
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
