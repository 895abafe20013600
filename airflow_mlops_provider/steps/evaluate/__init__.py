"""Judge a model on rows it never saw.

``answers``: load any pyfunc model and ask it. ``judge``: the evaluation, from rows to report.
``slices``, ``fairness``, ``threshold``, ``importance``, ``cost``: its parts. ``page``: what people
read of it.
"""

from airflow_mlops_provider.steps.evaluate.answers import (
    load_model,
    predict_answers,
    predict_score,
    signature_names,
)

__all__ = ["load_model", "predict_answers", "predict_score", "signature_names"]
