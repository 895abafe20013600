"""A model of the flights that fails every evening; MLflow keeps this file as the model's code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlflow

if TYPE_CHECKING:
    import pandas as pd

_EVENING = 17


class EveningBlind(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow has no types here
    """Answers as the model it wraps, but for flights that leave after five."""

    def load_context(self, context: Any) -> None:
        """Load the wrapped model."""
        self._model = mlflow.pyfunc.load_model(context.artifacts["model"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        """Return the wrapped model's answers."""
        if (model_input["dep_hour"] >= _EVENING).any():
            raise ValueError("no plan for the evening")
        return self._model.predict(model_input)


mlflow.models.set_model(EveningBlind())
