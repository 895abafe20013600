"""What is decided and computed, one module per step of the story. No Airflow in here."""

import logging

logging.getLogger("great_expectations").setLevel(logging.WARNING)  # tells its whole import
