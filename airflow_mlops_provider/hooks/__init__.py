"""One hook per external service: an Airflow Connection in, a client out."""
