"""KServe: a Kubernetes Connection in, a ``KserveClient`` out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.hooks.mlflow import MlflowHook
from airflow_mlops_provider.steps.extras import required

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.targets.kserve import KserveClient
    from airflow_mlops_provider.serving.targets.prometheus import Prometheus

_MODES = ("Standard", "Knative")


def kserve_client(conn_id: str, extra: Mapping[str, Any]) -> KserveClient:
    """Return a client of KServe in the cluster of a Connection.

    Args:
        conn_id: Connection of type ``kubernetes``, as the cncf.kubernetes provider reads it.
        extra: Its extra: ``mode`` (``Standard``), ``namespace`` (``default``), ``predictor`` (what
            every predictor has beside its model), ``storage_prefixes``, ``settle_seconds`` (60),
            ``mlflow_conn_id``, and ``prometheus_url``, ``prometheus_token`` and
            ``prometheus_queries``.

    Raises:
        ParameterError: the cncf.kubernetes provider is not installed, or the mode is unknown.
    """
    provider = required(
        "airflow.providers.cncf.kubernetes.hooks.kubernetes", "kubernetes", "to serve on KServe"
    )
    from airflow_mlops_provider.serving.targets.cluster import Cluster
    from airflow_mlops_provider.serving.targets.knative import KnativeMode
    from airflow_mlops_provider.serving.targets.kserve import KserveClient
    from airflow_mlops_provider.serving.targets.standard import StandardMode

    mode = extra.get("mode", "Standard")
    if mode not in _MODES:
        raise ParameterError.of("mode", f"the Connection {conn_id!r}", f"one of {_MODES}", mode)
    hook = provider.KubernetesHook(conn_id)
    return KserveClient(
        Cluster(
            hook.custom_object_client, hook.core_v1_client, extra.get("namespace") or "default"
        ),
        StandardMode() if mode == "Standard" else KnativeMode(),
        locate=partial(_located, extra),
        metrics=_prometheus(mode, extra),
        template=extra.get("predictor"),
        settle_seconds=float(extra.get("settle_seconds", 60)),
    )


def _located(extra: Mapping[str, Any], model_uri: str) -> str:
    from airflow_mlops_provider.serving.targets.storage import storage_uri

    hook = MlflowHook(extra.get("mlflow_conn_id", MlflowHook.default_conn_name))
    return storage_uri(hook.get_conn(), model_uri, extra.get("storage_prefixes", {}))


def _prometheus(mode: str, extra: Mapping[str, Any]) -> Prometheus | None:
    from airflow_mlops_provider.serving.targets.prometheus import QUERIES, Prometheus

    if not extra.get("prometheus_url"):
        return None
    queries = {**QUERIES[mode], **extra.get("prometheus_queries", {})}
    return Prometheus(extra["prometheus_url"], queries, extra.get("prometheus_token", ""))
