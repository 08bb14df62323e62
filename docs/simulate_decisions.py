"""`python -m docs.simulate_decisions`: prints how often decisions are wrong and how late alarms are, and draws it.

It takes three minutes, and needs the extra `test`. The picture is docs/images/verdicts.svg.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support import decisions
from tests.support.decisions import Looks, clopper_pearson

PICTURE = Path(__file__).resolve().parent / "images" / "verdicts.svg"
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, MOST = 720, 320, 60, 270, 30, 0.4
FALLEN_AT, HOURS = 24 * 30, 24 * 150
OF_FAMILIES = {
    "nDCG of the first five": decisions.ranked("ndcg"),
    "mean reciprocal rank": decisions.ranked("mean_reciprocal_rank"),
    "Hamming loss": decisions.labelled("hamming_loss"),
    "Jaccard index of five labels": decisions.labelled("jaccard_samples_ratio"),
    "micro F1 of five labels": decisions.labelled("f1_micro_ratio"),
    "mean of stars": decisions.rated(),
    "log loss": decisions.scored("log_loss"),
    "log loss, log odds twice what they should be": decisions.scored("log_loss", confident=2.0),
    "Brier score": decisions.scored("brier_score"),
}


def main() -> None:
    """Prints the table of wrong verdicts and that of delays, and draws the first row."""
    alike = decisions.shares(0.95, 0.95)
    _print("Accuracy 0.95, both arms", alike)
    for kind in decisions.MEANS:
        _print(f"Mean of {kind}", decisions.means(kind))
    _print("ROC AUC 0.85, 20 % positive", decisions.areas())
    _print("Macro F1, classes of 70, 20 and 10 %", decisions.macro_f1())
    for name, population in OF_FAMILIES.items():
        _print(name, population.looks())
    for fall in (0.02, 0.05, 0.1):
        _print_delays(fall)
    PICTURE.write_text(_svg(alike))
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")


def _print(name: str, looks: Looks) -> None:
    runs = looks.wrong.shape[1]
    lower, upper = clopper_pearson(looks.ever(), runs)
    naive = looks.naive.any(axis=0).mean()
    print(f"| {name} | {looks.ever() / runs:.1%} ({lower:.1%} to {upper:.1%}) | {naive:.0%} |")


def _print_delays(fall: float) -> None:
    right = decisions.hours(HOURS, 500, seed=6, fall=fall, fallen_at=FALLEN_AT)
    found = decisions.delays(decisions.detected(decisions.share_log_e(right)), FALLEN_AT)
    naive = decisions.delays(decisions.naively_detected(right), FALLEN_AT)
    cells = (" | ".join(f"{hours:.0f} h" for hours in np.quantile(each, (0.5, 0.9))) for each in (found, naive))
    print(f"| {fall} | {' | '.join(cells)} |")


def _svg(looks: Looks) -> str:
    """The share of canaries, no better and no worse, that had a wrong verdict so far, by labels of the canary."""
    lines = (
        ("#c0392b", "95 % interval of a single look", looks.naive),
        ("#2471a3", "interval that holds at every look", looks.wrong),
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        '  font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18">Canaries as good as the baseline that were once called better or worse</text>',
        *(_level(share) for share in (0.0, 0.05, 0.1, 0.2, 0.3)),
        *(_curve(colour, name, looks.counts, wrong) for colour, name, wrong in lines),
        f'<text x="{LEFT}" y="{HEIGHT - 10}">labels of the canary, looked at every {looks.counts[0]}</text>',
        f'<text x="{WIDTH - 20}" y="{HEIGHT - 10}" text-anchor="end">{looks.counts[-1]}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _at(share: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * share / MOST, 1)


def _level(share: float) -> str:
    dashes = ' stroke-dasharray="4 4"' if share == 0.05 else ""
    line = f'<path d="M{LEFT} {_at(share)}H{WIDTH - 20}" stroke="#bbb"{dashes}/>'
    return f'{line}<text x="{LEFT - 8}" y="{_at(share) + 4}" text-anchor="end" fill="#555">{share:.0%}</text>'


def _curve(colour: str, name: str, counts: np.ndarray, wrong: np.ndarray) -> str:
    ever = np.logical_or.accumulate(wrong, axis=0).mean(axis=1)
    across = LEFT + (WIDTH - 20 - LEFT) * counts / counts[-1]
    points = " ".join(f"{x:.1f},{_at(y)}" for x, y in zip(across, ever, strict=True))
    line = f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return f'{line}<text x="{WIDTH - 20}" y="{_at(ever[-1]) - 8}" text-anchor="end" fill="{colour}">{name}</text>'


if __name__ == "__main__":
    main()
