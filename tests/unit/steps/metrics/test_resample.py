from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import median_absolute_error

from airflow_mlops_provider.exceptions import ModelError
from airflow_mlops_provider.steps.metrics.figures import Sample
from airflow_mlops_provider.steps.metrics.resample import custom_difference, custom_metric

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=400)
GOOD = Sample.of(TRUTH, TRUTH + RNG.normal(scale=0.5, size=400))
BAD = Sample.of(TRUTH, TRUTH + RNG.normal(scale=1.5, size=400))


def closeness(truth, score):
    return -median_absolute_error(truth, score)


def test_a_figure_people_bring_has_an_interval():
    metric = custom_metric(closeness, GOOD)
    assert metric.value == pytest.approx(closeness(GOOD.truth, GOOD.score))
    assert metric.low < metric.value < metric.high
    assert custom_metric(closeness, GOOD) == metric


def test_a_paired_difference_tells_good_from_bad():
    assert custom_difference(closeness, GOOD, BAD).low > 0
    same = custom_difference(closeness, GOOD, GOOD)
    assert same.value == 0


def test_a_figure_that_is_not_a_number_is_said():
    with pytest.raises(ModelError, match=r"hopeless.*nan on 400 rows"):
        custom_metric(hopeless, GOOD)


def hopeless(_, __):
    return float("nan")
