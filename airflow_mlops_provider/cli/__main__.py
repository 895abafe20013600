"""``python -m airflow_mlops_provider.cli``."""

from __future__ import annotations

import sys

from airflow_mlops_provider.cli import main

sys.exit(main())
