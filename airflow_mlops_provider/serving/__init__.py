"""The serving host: supervisor, scorer, router configuration, prediction log. No Airflow."""
