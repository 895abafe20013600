"""What a clean process finds when it loads a model: its answers, and what is installed there.

Light on purpose: in an environment made of a model's own requirements, everything else that was
imported here would hide what the model failed to declare.
"""

from __future__ import annotations

import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd

from airflow_mlops_provider.declared import parsed
from airflow_mlops_provider.steps.evaluate.answers import predict_answers

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_DIFFERENT = 20


def answer_rows(model_uri: str, rows: str, requirements: list[str]) -> dict[str, Any]:
    """Load a model in this very process, and ask it.

    Args:
        model_uri: The model; whoever calls this has checked that it may be loaded.
        rows: Path of a Parquet file with its features.
        requirements: What the model declares, as lines of pip.

    Returns:
        ``answers`` to the rows and to the input ``example`` (None without one), ``seconds`` it
        took to load and to answer, the version of ``python``, and at most 20 ``different``
        requirements.
    """
    start = time.perf_counter()
    model = mlflow.pyfunc.load_model(model_uri)
    answers = predict_answers(model, pd.read_parquet(rows))
    example = example_answers(model)
    return {
        "answers": answers.tolist(),
        "example": None if example is None else example.tolist(),
        "seconds": time.perf_counter() - start,
        "python": platform.python_version(),
        "different": different_requirements(requirements)[:_MAX_DIFFERENT],
    }


def example_answers(model: Any) -> NDArray[Any] | None:
    """Return the answers to a model's input example; None if it has none with named columns."""
    example = model.input_example
    return predict_answers(model, example) if isinstance(example, pd.DataFrame) else None


def different_requirements(requirements: list[str]) -> list[str]:
    """Return the requirements that this environment does not meet, and what it has instead."""
    wrong = []
    for asked in filter(None, map(parsed, requirements)):
        found = _installed(asked.name)
        if found is None or not asked.specifier.contains(found, prereleases=True):
            wrong.append(f"{asked} is declared, {found or 'nothing'} is installed")
    return wrong


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
