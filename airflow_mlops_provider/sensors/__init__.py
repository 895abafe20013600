"""Waiting for data, models, endpoints and evidence."""

from airflow_mlops_provider.sensors.data import NewDataSensor
from airflow_mlops_provider.sensors.drift import DataDriftSensor
from airflow_mlops_provider.sensors.endpoint import EndpointHealthSensor
from airflow_mlops_provider.sensors.features import FeatureFreshnessSensor
from airflow_mlops_provider.sensors.monitor import ModelPerformanceSensor
from airflow_mlops_provider.sensors.registry import ModelAliasSensor, ModelVersionSensor
from airflow_mlops_provider.sensors.rollout import RolloutApprovalSensor

__all__ = [
    "DataDriftSensor",
    "EndpointHealthSensor",
    "FeatureFreshnessSensor",
    "ModelAliasSensor",
    "ModelPerformanceSensor",
    "ModelVersionSensor",
    "NewDataSensor",
    "RolloutApprovalSensor",
]
