"""What live traffic says of a model.

``model`` tells the story: it opens the ``log`` and looks at ``service``, ``inputs`` (quality and
drift), ``scores``, ``attribution``, ``performance``, ``estimate``, ``fairness``, ``kpi`` and
``segments``; each of these gives a finding, by the thresholds in ``settings``. ``check`` is what
an operator does: measure, keep the window (``steps/reports.py``), and show the ``page``, the
``exposition`` for Prometheus and the MLflow metrics (``tracking``).
"""
