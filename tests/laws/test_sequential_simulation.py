"""Verdicts and alarms are wrong no more often than they promise, however often one looks; printed with what others do.

`python -m docs.simulate_decisions` prints the same with more detail, and draws it.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tests.support import decisions
from tests.support.decisions import FALSE_ALARMS_A_YEAR, LABELS_AN_HOUR, RUNS, Looks, clopper_pearson
from tests.support.peers.environments import programs_of
from tests.support.peers.programs import sender

pytestmark = pytest.mark.long

FALLEN_AT, AFTER, FEW = 24 * 30, 24 * 120, 20

CASES = {
    "shares, alike": partial(decisions.shares, 0.95, 0.95),
    "shares near 1": partial(decisions.shares, 0.99, 0.99),
    "shares that differ": partial(decisions.shares, 0.9, 0.88),
    **{kind: partial(decisions.means, kind) for kind in decisions.MEANS},
    "lognormal errors that differ": partial(decisions.means, "skewed errors, lognormal", 1.2),
    "AUC of 0.85": decisions.areas,
    "AUCs that differ": partial(decisions.areas, 2.0, 1.5),
    "macro F1": decisions.macro_f1,
    "nDCG": decisions.ranked("ndcg").looks,
    "reciprocal rank": decisions.ranked("mean_reciprocal_rank").looks,
    "Hamming loss": decisions.labelled("hamming_loss").looks,
    "Jaccard index": decisions.labelled("jaccard_samples_ratio").looks,
    "micro F1": decisions.labelled("f1_micro_ratio").looks,
    "stars": decisions.rated().looks,
    "log loss": decisions.scored("log_loss").looks,
    "log loss, too confident": decisions.scored("log_loss", confident=2.0).looks,
    "Brier score": decisions.scored("brier_score").looks,
    "AUC of a score": decisions.scored("roc_auc_macro_ratio").looks,
}
NEARLY_PERFECT = {
    "Hamming loss": decisions.labelled("hamming_loss", spread=0.7),
    "micro F1": decisions.labelled("f1_micro_ratio", spread=0.7),
}


@pytest.mark.parametrize("case", CASES)
def test_at_most_one_of_twenty_canaries_ever_has_a_wrong_verdict(case: str) -> None:
    """Over 2,000 runs with a look after every batch, 5 % at most; the interval of one look is wrong far more often."""
    looks: Looks = CASES[case]()
    wrong, naive = looks.ever(), int(looks.naive.any(axis=0).sum())
    lower, upper = clopper_pearson(wrong, RUNS)
    print(f"{case}: {wrong / RUNS:.2%} ({lower:.2%} to {upper:.2%}), one look's interval {naive / RUNS:.1%}")
    assert looks.wrong.shape[1] == RUNS
    assert upper < 0.05
    assert naive > 0.1 * RUNS


@pytest.mark.parametrize("case", NEARLY_PERFECT)
def test_a_model_that_is_nearly_perfect_is_not_taken_for_perfect(case: str) -> None:
    """Of 2,000 models that are wrong in 2 of 1,000 labels, 5 % at most ever have an interval without that share: most
    have shown no fault when the burn-in ends.
    """
    found = NEARLY_PERFECT[case].alone(looks=4)
    upper = clopper_pearson(found.ever(), RUNS)[1]
    print(f"{case}: {found.ever() / RUNS:.2%}, one look's interval {found.naive.any(axis=0).mean():.1%}")
    assert upper < 0.05


def test_a_year_at_the_objective_has_no_more_alarms_than_promised() -> None:
    """Of 2,000 years of hourly looks at a model exactly at its objective, at most the promised share has an alarm."""
    found = decisions.years_with_alarms(RUNS, seed=5)
    lower, upper = clopper_pearson(found, RUNS)
    naive = decisions.naively_detected(decisions.hours(decisions.HOURS_A_YEAR, 200, seed=5)).any(axis=0).mean()
    print(f"{found / RUNS:.2%} of years ({lower:.2%} to {upper:.2%}); the upper end of the 1d interval in {naive:.0%}")
    assert upper < FALSE_ALARMS_A_YEAR
    assert naive == 1


@pytest.mark.parametrize(("fall", "most"), [(0.02, 24 * 21), (0.05, 72), (0.1, 24)])
def test_a_fall_is_seen_in_time(fall: float, most: int) -> None:
    """Half of the falls are seen within so many hours of 20 labels: three weeks for 0.02, three days, one day."""
    right = decisions.hours(FALLEN_AT + AFTER, 500, seed=6, fall=fall, fallen_at=FALLEN_AT)
    found = decisions.delays(decisions.detected(decisions.share_log_e(right)), FALLEN_AT)
    naive = decisions.delays(decisions.naively_detected(right), FALLEN_AT)
    print(
        f"a fall of {fall}: {np.quantile(found, (0.1, 0.5, 0.9))} hours; naively {np.quantile(naive, (0.1, 0.5, 0.9))}"
    )
    assert np.median(found) < most


def test_adwin_on_the_same_streams() -> None:
    """River's ADWIN, which is told of no objective, is no earlier on the same labels in half of the runs."""
    with sender(programs_of("river==0.26.1") / "python", "river_adwin.py") as peer:
        for fall in (0.02, 0.05, 0.1):
            right = decisions.hours(FALLEN_AT + AFTER, FEW, seed=6, fall=fall, fallen_at=FALLEN_AT)
            ours = decisions.delays(decisions.detected(decisions.share_log_e(right)), FALLEN_AT)
            adwin, early = adwin_delays(peer.ask(streams=[decisions.as_stream(run, 7) for run in right.T])["falls"])
            print(f"a fall of {fall}: {np.median(ours)} hours, ADWIN {np.median(adwin)}; too early in {early} of {FEW}")
            assert np.median(ours) <= np.median(adwin)


def adwin_delays(falls: list[list[int]]) -> tuple[np.ndarray, int]:
    """Hours from the fall to the first that ADWIN saw after it, and how many runs it saw one in before."""
    at = FALLEN_AT * LABELS_AN_HOUR
    after = [next(((label - at) // LABELS_AN_HOUR + 1 for label in run if label >= at), np.inf) for run in falls]
    return np.array(after), sum(any(label < at for label in run) for run in falls)
