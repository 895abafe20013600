"""``python -m airflow_mlops_provider.steps requirements STEP``: what its environment needs."""

from __future__ import annotations

import argparse

from airflow_mlops_provider.steps.remote import ISOLATED, requirements_of

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m airflow_mlops_provider.steps")
    parser.add_argument("command", choices=["requirements"])
    parser.add_argument("step", choices=ISOLATED)
    print("\n".join(requirements_of(parser.parse_args().step)))
