"""Pages served by Airflow's API server, for logged-in users only."""
