"""How often the gate promotes a model that is no better, and one that is.

Both models score the same rows; each score is the truth's signal, a part that the two share, and
noise of its own. Ours is the verdict of ``judge_challenger`` as shipped (superiority without a
margin, and non-inferiority), theirs the figure that is the goal. The intervals are those of the
evaluation, at 1,000 rows.
"""

from __future__ import annotations

import tempfile

import numpy as np
from scipy.stats import binom, norm

from airflow_mlops_provider.records import EvaluationReport
from airflow_mlops_provider.steps.evaluate.predictions import store_predictions
from airflow_mlops_provider.steps.gate import Rule, judge_challenger
from airflow_mlops_provider.steps.metrics.figures import BINARY, REGRESSION, Sample
from benchmarks import Measure

MAX_ALARMS, MIN_POWER, COVERAGE = 0.05, 0.90, (0.93, 0.97)
ROWS, GAIN, AUC, RATE, SHARED = 20_000, 0.01, 0.75, 0.25, 0.8
_COVERED_ROWS, _ENOUGH = 1_000, 1_000


def run(quick: bool) -> list[Measure]:
    """Take 1,000 decisions of each kind; when quick 60. Coverage from 2,000 samples, or 400."""
    n, samples = (60, 400) if quick else (1_000, 2_000)
    equal, better = promoted(0.0, n, "auc"), promoted(GAIN, n, "auc")
    return [
        _alarms("gate: equal models", equal, n),
        _share("gate: +1 % AUC", better, MIN_POWER, better >= MIN_POWER, n, "at least 90 %"),
        _alarms("gate: equal, by Brier", promoted(0.0, n, "brier"), n),
        *coverage(samples, quick),
    ]


def _alarms(name: str, share: float, n: int) -> Measure:
    # so few decisions cannot show the goal: they only have to be compatible with it
    least = float(binom.ppf(0.975, n, MAX_ALARMS)) / n if n < _ENOUGH else MAX_ALARMS
    return _share(name, share, MAX_ALARMS, share <= least, n, "at most 5 %")


def promoted(gain: float, n: int, metric: str) -> float:
    """Return the share of challengers promoted whose true AUC is higher by ``gain``."""
    with tempfile.TemporaryDirectory() as folder:
        verdicts = [_verdict(gain, seed, metric, folder) for seed in range(n)]
    return float(np.mean([verdict == "promote" for verdict in verdicts]))


def _verdict(gain: float, seed: int, metric: str, folder: str) -> str:
    rng = np.random.default_rng(seed)
    truth = (rng.random(ROWS) < RATE).astype(float)
    shared = rng.normal(size=ROWS)
    champion = _report("champion", truth, _scores(rng, truth, shared, AUC), folder)
    challenger = _report("challenger", truth, _scores(rng, truth, shared, AUC + gain), folder)
    return judge_challenger(challenger, champion, Rule(metric=metric)).outcome


def _scores(
    rng: np.random.Generator, truth: np.ndarray, shared: np.ndarray, auc: float
) -> np.ndarray:
    """Return calibrated probabilities whose true area under the ROC curve is ``auc``."""
    noise = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * rng.normal(size=len(truth))
    distance = np.sqrt(2) * norm.ppf(auc)
    evidence = distance * truth + noise
    odds = RATE / (1 - RATE) * np.exp(distance * evidence - distance**2 / 2)
    return odds / (1 + odds)


def _report(name: str, truth: np.ndarray, score: np.ndarray, folder: str) -> EvaluationReport:
    sample = Sample.of(truth, score)
    figures = {each: BINARY[each] for each in ("auc", "brier")}
    found = {each: figure.estimate(sample) for each, figure in figures.items()}
    return EvaluationReport(
        model_uri=name,
        dataset_uri="simulated",
        task="classification",
        metrics={each: estimate.metric() for each, estimate in found.items() if estimate},
        greater_is_better={each: figure.greater_is_better for each, figure in figures.items()},
        slices=[],
        predictions_uri=store_predictions(sample, folder),
    )


def coverage(samples: int, quick: bool) -> list[Measure]:
    """Return how often nominal 95 % intervals hold the true value."""
    low, high = COVERAGE if not quick else (0.91, 0.99)
    measures = []
    for figures, make in ((BINARY, _binary), (REGRESSION, _numbers)):
        whole = make(np.random.default_rng(10**6), 3_000_000)
        truth = {name: figure.estimate(whole) for name, figure in figures.items()}
        covered = dict.fromkeys(figures, 0)
        for seed in range(samples):
            sample = make(np.random.default_rng(seed), _COVERED_ROWS)
            for name, figure in figures.items():
                estimate, true = figure.estimate(sample), truth[name]
                assert estimate is not None
                assert true is not None
                metric = estimate.metric()
                assert metric.low is not None
                assert metric.high is not None
                covered[name] += metric.low <= true.value <= metric.high
        measures += [
            _share(
                f"gate: coverage of {name}",
                n / samples,
                0.95,
                low <= n / samples <= high,
                samples,
                f"{low:.0%} to {high:.0%}",
            )
            for name, n in covered.items()
        ]
    return measures


def _binary(rng: np.random.Generator, n: int) -> Sample:
    truth = (rng.random(n) < RATE).astype(float)
    return Sample.of(truth, _scores(rng, truth, rng.normal(size=n), AUC), threshold=0.3)


def _numbers(rng: np.random.Generator, n: int) -> Sample:
    truth = rng.normal(size=n)
    return Sample.of(truth, 0.8 * truth + rng.normal(scale=0.6, size=n) + 0.1)


def _share(name: str, ours: float, theirs: float, holds: bool, n: int, goal: str) -> Measure:
    return Measure(name=name, ours=ours, theirs=theirs, unit="share", goal=goal, holds=holds, n=n)
