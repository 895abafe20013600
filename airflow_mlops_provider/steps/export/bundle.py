"""The zip of a model version: its files, what they are, and how to run them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from importlib.metadata import version as installed
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
import pyarrow as pa
from mlflow.exceptions import MlflowException

from airflow_mlops_provider.exceptions import MlflowUnavailableError, ModelError, ParameterError
from airflow_mlops_provider.records import DatasetRef, ModelBundleRef, ModelVersionRef
from airflow_mlops_provider.steps.evaluate import load_model, signature_names
from airflow_mlops_provider.steps.export.convert import (
    Converted,
    NotConverted,
    native_estimator,
    to_onnx,
)
from airflow_mlops_provider.steps.predict import dataset_batches, require_columns
from airflow_mlops_provider.steps.registry_errors import is_outage
from airflow_mlops_provider.workspace import checked_name, join, store_by_content, write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip can say: a bundle is the same whenever it is made."""
_BATCH_ROWS = 65_536
_FORMATS = ("auto", "onnx", "mlflow")
_NOT_THE_MODELS = {"registered_model_meta"}
"""What MLflow adds when it downloads."""


def export_model(
    version: ModelVersionRef,
    *,
    workspace: str,
    format: str = "auto",
    dataset: DatasetRef | None = None,
    sample_rows: int = 1_000,
    tolerance: float = 1e-5,
) -> ModelBundleRef:
    """Pack a model version as one zip, named by its content.

    In it are ``model.onnx`` or the MLflow folder ``model/``, ``signature.json``,
    ``input_example.json`` if there is one, ``requirements.txt``, ``MODEL_CARD.md``, ``predict.py``
    and ``MANIFEST.json`` (the sha256 of every file, and where the model comes from).

    Args:
        version: The version to pack.
        workspace: Where it is kept, under ``bundles/{name}/``.
        format: ``onnx``; ``mlflow``; or ``auto``, which is ONNX if the model converts and agrees.
        dataset: Rows on which ONNX has to agree, beside the model's input example.
        sample_rows: How many of them at most, evenly from all of the dataset.
        tolerance: Largest difference of an answer a, as a share of 1 + abs(a).

    Raises:
        ModelError: the model cannot be loaded, has no signature, or ONNX was asked for and is not
            possible; the message says why.
        ParameterError: ``format`` is unknown, a number is out of its range, or skl2onnx or
            onnxruntime is not installed.
        MlflowUnavailableError: MLflow does not do its part.
    """
    if format not in _FORMATS:
        raise ParameterError.of("format", "export_model", f"one of {_FORMATS}", format)
    if tolerance < 0 or sample_rows < 1:
        got = {"tolerance": tolerance, "sample_rows": sample_rows}
        constraint = "0 or more, and sample_rows 1 or more"
        raise ParameterError.of("tolerance", "export_model", constraint, got)
    with TemporaryDirectory(prefix="mlops-export-") as scratch:
        folder = _downloaded(version.model_uri, scratch)
        pyfunc = load_model(version.model_uri)
        names = signature_names(pyfunc, version.model_uri)
        rows = _rows(pyfunc, names, dataset, sample_rows)
        found: Converted | NotConverted = NotConverted(reason="the format mlflow was asked for")
        if format != "mlflow":
            found = _converted(folder, pyfunc, rows, tolerance)
        if format == "onnx" and isinstance(found, NotConverted):
            raise ModelError(
                f"{version.model_uri} cannot be exported as ONNX: {found.reason}. Use the format "
                "auto or mlflow, or another estimator."
            )
        contents = _contents(version, pyfunc, folder, found, tolerance)
        packed = _zipped(contents)
    place = join(workspace, "bundles", checked_name(_folder_name(version.name), "name", "a model"))
    uri, digest = store_by_content(place, ".zip", lambda uri: write_bytes(uri, packed))
    return ModelBundleRef(
        uri=uri,
        file_hash=digest,
        n_bytes=len(packed),
        model_uri=version.model_uri,
        format="onnx" if isinstance(found, Converted) else "mlflow",
        reason=_reason(found, tolerance),
        max_difference=found.max_difference,
        n_compared=found.n_compared,
    )


def _downloaded(model_uri: str, scratch: str) -> Path:
    try:
        return Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=scratch))
    except MlflowException as error:
        failure = MlflowUnavailableError if is_outage(error) else ModelError
        raise failure(f"MLflow did not give the files of {model_uri!r}: {error}") from error


def _rows(
    pyfunc: Any, names: list[str], dataset: DatasetRef | None, sample_rows: int
) -> pd.DataFrame:
    """Return the input example and rows of the dataset, as far as there are any."""
    frames = []
    if isinstance(pyfunc.input_example, pd.DataFrame):
        frames.append(pyfunc.input_example[names])
    if dataset is not None:
        require_columns(dataset, names, "the model")
        frames.append(sampled(dataset, names, sample_rows))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=names)


def sampled(dataset: DatasetRef, names: list[str], n_rows: int) -> pd.DataFrame:
    """Return every k-th row of a dataset, at most ``n_rows``; a batch at a time is in memory."""
    step, done, taken = -(-dataset.n_rows // n_rows), 0, []
    for rows in dataset_batches(dataset, names, _BATCH_ROWS):
        taken.append(rows.take(pa.array(range(-done % step, rows.num_rows, step), pa.int64())))
        done += rows.num_rows
    frame: pd.DataFrame = pa.concat_tables(taken).to_pandas()
    return frame


def _converted(
    folder: Path, pyfunc: Any, rows: pd.DataFrame, tolerance: float
) -> Converted | NotConverted:
    estimator = native_estimator(str(folder), pyfunc.metadata.flavors)
    if estimator is None:
        flavors = sorted(pyfunc.metadata.flavors)
        return NotConverted(reason=f"only scikit-learn is converted, this model is of {flavors}")
    if rows.empty:
        return NotConverted(reason="it has no input example and no dataset was given to compare on")
    return to_onnx(estimator, pyfunc, rows, tolerance)


def _contents(
    version: ModelVersionRef,
    pyfunc: Any,
    folder: Path,
    found: Converted | NotConverted,
    tolerance: float,
) -> dict[str, bytes]:
    """Return the files of the bundle by name."""
    if isinstance(found, Converted):
        contents = {"model.onnx": found.model, "requirements.txt": _requirements()}
        script = "predict_onnx.py"
    else:
        contents = {f"model/{name}": data for name, data in _files(folder).items()}
        contents["requirements.txt"] = contents.get("model/requirements.txt", b"mlflow\n")
        script = "predict_mlflow.py"
    contents["predict.py"] = files(__package__).joinpath("templates", script).read_bytes()
    contents["signature.json"] = _json(pyfunc.metadata.signature.to_dict())
    contents["MODEL_CARD.md"] = _card(version)
    if isinstance(pyfunc.input_example, pd.DataFrame):
        example = json.loads(pyfunc.input_example.to_json(orient="records"))
        contents["input_example.json"] = _json(example)
    contents["MANIFEST.json"] = _json(_manifest(version, found, tolerance, contents))
    return contents


def _manifest(
    version: ModelVersionRef,
    found: Converted | NotConverted,
    tolerance: float,
    contents: Mapping[str, bytes],
) -> dict[str, Any]:
    lineage = {key: getattr(version, key) for key in ("name", "version", "model_id", "run_id")}
    return {
        "format": "onnx" if isinstance(found, Converted) else "mlflow",
        "reason": _reason(found, tolerance),
        "output": found.output if isinstance(found, Converted) else None,
        "max_difference": found.max_difference,
        "n_compared": found.n_compared,
        "tolerance": tolerance,
        "model": {**lineage, "uri": version.model_uri, "tags": dict(sorted(version.tags.items()))},
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    }


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    """Return a zip that is the same for the same files."""
    target = BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(contents):
            info = zipfile.ZipInfo(name, _TIME)
            info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, contents[name])
    return target.getvalue()


def _files(folder: Path) -> dict[str, bytes]:
    every = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in every
        if path.name not in _NOT_THE_MODELS
    }


def _card(version: ModelVersionRef) -> bytes:
    """Return the description of the version, which is its model card in short."""
    found = mlflow.MlflowClient().get_model_version(version.name, version.version)
    text = found.description or "It was registered without a model card."
    return f"# {version.name}, version {version.version}\n\n{text}\n".encode()


def _requirements() -> bytes:
    return "".join(f"{name}=={installed(name)}\n" for name in ("numpy", "onnxruntime")).encode()


def _reason(found: Converted | NotConverted, tolerance: float) -> str:
    if isinstance(found, NotConverted):
        return found.reason
    return (
        f"its answers differ by at most {found.max_difference:.3g} on {found.n_compared} rows, "
        f"{tolerance:g} is allowed"
    )


def _folder_name(name: str) -> str:
    """Return a folder's name for a model, whose own may hold spaces."""
    return "".join(each if each.isalnum() or each in "._-" else "-" for each in name)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
