"""Answers that were given where a model is served: logged ones, or those of an endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import requests

from airflow_mlops_provider.exceptions import DataError, ParameterError, ServingUnavailableError
from airflow_mlops_provider.steps.behaviour.asking import Answers
from airflow_mlops_provider.steps.behaviour.sampling import columns_of, sample
from airflow_mlops_provider.steps.prediction_log import INPUT, answered, without_shadows

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_OF_THE_LOG = ["request_id", "row", "status", "attempt", "shadow", "model_uri"]
_ROWS_A_REQUEST = 500
_TIMEOUT_SECONDS = 60
_SERVER_ERROR, _CLIENT_ERROR = 500, 400
_MAX_MESSAGE = 200


def logged(
    source: str, features: Sequence[str], score: str, n: int, *, model_uri: str, seed: int
) -> tuple[pd.DataFrame, Answers]:
    """Draw rows with the answers that were kept with them.

    Of a compacted prediction log, the live, answered predictions of ``model_uri`` are drawn from.

    Args:
        source: Parquet with the features and ``score``, or a compacted prediction log.
        features: The model's.
        score: Column with the answers; rows without one are left out.
        n: Rows to draw.
        model_uri: The model whose answers count.
        seed: Of the draw.

    Raises:
        DataError: a column is missing, or there is no such answer.
    """
    there = columns_of(source)
    of_log = {"model_uri", "shadow"} <= set(there)
    names = {name: INPUT + name if of_log else name for name in features}
    columns = [*names.values(), score, *(_OF_THE_LOG if of_log else [])]
    missing = [name for name in columns if name not in there]
    if missing:
        raise DataError(
            f"Expected columns {missing} beside {sorted(there)} in {source}. Name the column of "
            "the answers in `score`, or another source."
        )

    def keep(piece: pd.DataFrame) -> pd.DataFrame:
        if of_log:
            piece = answered(without_shadows(piece[piece["model_uri"] == model_uri]))
        return piece[piece[score].notna()]

    try:
        rows = sample(source, list(dict.fromkeys(columns)), n, seed=seed, keep=keep)
    except DataError as error:
        raise DataError(f"No answer of {model_uri} to compare with: {error}") from error
    answers = rows[score].to_numpy(dtype=float)[:, None]
    features_of = rows[list(names.values())]
    return features_of.set_axis(list(names), axis=1), Answers(answers)


def served(url: str, rows: pd.DataFrame, of: int | None) -> Answers:
    """Ask an endpoint about rows, 500 a request, over MLflow's scoring protocol.

    Args:
        url: Endpoint; requests go to ``{url}/invocations``.
        rows: Features.
        of: Which of several numbers counts.

    Raises:
        ParameterError: ``url`` is no http(s) address.
        DataError: the endpoint refuses the rows, or does not answer with numbers for each.
        ServingUnavailableError: it does not answer; a retry may help.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ParameterError.of("url", "a consistency test", "an http or https address", url)
    pieces = [
        _asked(url, rows.iloc[start : start + _ROWS_A_REQUEST])
        for start in range(0, len(rows), _ROWS_A_REQUEST)
    ]
    values = np.concatenate(pieces)
    return Answers(values, of if values.shape[1] > 1 else None)


def _asked(url: str, rows: pd.DataFrame) -> NDArray[np.float64]:
    values = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
    body = {"dataframe_split": {"columns": list(rows.columns), "data": values}}
    try:
        answer = requests.post(
            f"{url.rstrip('/')}/invocations",
            data=json.dumps(body, default=str),
            headers={"content-type": "application/json"},
            timeout=_TIMEOUT_SECONDS,
        )
    except requests.RequestException as error:
        raise ServingUnavailableError(
            f"The endpoint {url} does not answer ({type(error).__name__}). Deploy the model, or "
            "correct the url."
        ) from error
    told = answer.text[:_MAX_MESSAGE]
    if answer.status_code >= _SERVER_ERROR:
        raise ServingUnavailableError(f"The endpoint {url} failed ({answer.status_code}): {told}")
    if answer.status_code >= _CLIENT_ERROR:
        raise DataError(
            f"The endpoint {url} refused the rows ({answer.status_code}): {told}. Check that it "
            "serves this model."
        )
    return _numbers(answer, len(rows), url)


def _numbers(answer: requests.Response, n: int, url: str) -> NDArray[np.float64]:
    try:
        rows = [_row(each) for each in answer.json()["predictions"]]
        found = np.array(rows, dtype=float).reshape(n, -1)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"Expected `predictions`, numbers for each of {n} rows, from {url}, got "
            f"{answer.text[:_MAX_MESSAGE]}. Check that it serves this model."
        ) from error
    return found


def _row(output: Any) -> Any:
    return list(output.values()) if isinstance(output, Mapping) else output
