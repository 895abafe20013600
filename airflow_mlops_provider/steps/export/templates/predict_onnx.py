"""Answer rows with this bundle; needs numpy and onnxruntime only.

``python predict.py rows.json`` reads a JSON list of objects, one a row, and prints the answers.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
KINDS = {"tensor(double)": np.float64, "tensor(float)": np.float32, "tensor(int64)": np.int64}


def predict(rows: list[dict[str, Any]]) -> Any:
    """Return one number a row, or the probability of each class if there are more than two."""
    manifest = json.loads((HERE / "MANIFEST.json").read_text())
    signature = json.loads((HERE / "signature.json").read_text())
    columns = [each["name"] for each in json.loads(signature["inputs"])]
    session = onnxruntime.InferenceSession(
        str(HERE / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    inputs = {}
    for each in session.get_inputs():
        names = [each.name] if each.name in columns else columns
        values = [[row[name] for name in names] for row in rows]
        inputs[each.name] = np.array(values, dtype=KINDS.get(each.type, object))
    (answers,) = session.run([manifest["output"]], inputs)
    if answers.ndim == 2 and answers.shape[1] <= 2:
        answers = answers[:, -1]
    return answers.tolist()


if __name__ == "__main__":
    print(json.dumps(predict(json.loads(Path(sys.argv[1]).read_text()))))
