"""Print what applying a feature repository to an empty registry would make.

``python feature_plan.py REPOSITORY WORKSPACE``, in the environment of the pipeline.
"""

import sys
from pathlib import Path

from feast.repo_operations import plan

from airflow_mlops_provider.serving.feature_store import open_feature_store

if __name__ == "__main__":
    repository = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(repository))  # where Feast imports the definitions from
    config = open_feature_store(repository, sys.argv[2]).config
    plan(config, repository, skip_source_validation=True)
