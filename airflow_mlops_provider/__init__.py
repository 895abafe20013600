"""The machine-learning lifecycle as Apache Airflow operators, sensors, triggers and DAGs."""

__version__ = "0.1.0"
