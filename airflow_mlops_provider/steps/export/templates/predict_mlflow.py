"""Answer rows with this bundle; needs what requirements.txt says, and mlflow.

``python predict.py rows.json`` reads a JSON list of objects, one a row, and prints the answers.
"""

import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

HERE = Path(__file__).resolve().parent


def predict(rows: list[dict[str, Any]]) -> Any:
    """Return what the model answers."""
    answers = mlflow.pyfunc.load_model(str(HERE / "model")).predict(pd.DataFrame(rows))
    return answers.tolist() if hasattr(answers, "tolist") else answers


if __name__ == "__main__":
    print(json.dumps(predict(json.loads(Path(sys.argv[1]).read_text()))))
