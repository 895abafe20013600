"""Which MLOps maturity level a project has reached, by what its DAGs, files and services show.

``google.py`` and ``microsoft.py`` are the criteria as tables, ``probes.py`` how facts answer them,
``judge.py`` what follows.
"""
