"""CI of a pipeline repository: build, test, stage and publish one exact commit.

``git.py`` and ``build.py`` make a wheel of it, ``checks.py`` tests that, ``staging.py`` trains
with it, ``publish.py`` keeps it. The pipeline's code runs only in processes of ``commands.py``.
"""
