"""What is decided and computed, one module per step of the story. No Airflow in here."""
