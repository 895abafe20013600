"""Evidently's page about drift, for those who know it. The verdict stays ours.

Its page holds all it needs and opens no connection, neither when it is made nor when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.drift.compare import reference_sample
from airflow_mlops_provider.steps.drift.rows import rows_of, sample_of

if TYPE_CHECKING:
    import pandas as pd

    from airflow_mlops_provider.records import DatasetRef

MAX_ROWS = 100_000


def evidently_page(
    current: DatasetRef | pd.DataFrame | str,
    profile_uri: str,
    *,
    columns: Sequence[str] | None = None,
    max_share: float = 0.3,
) -> str:
    """Return the HTML of Evidently's DataDriftPreset.

    Args:
        current: The newer rows, of which at most 100,000 are taken.
        profile_uri: A drift profile that keeps a sample of the reference.
        columns: Features to look at; None means all of the sample. Those without any value on
            either side are left out.
        max_share: From this share of drifted features on, Evidently calls the dataset drifted.

    Raises:
        DataError: the profile has no sample, or there is no value to compare.
        ParameterError: the package evidently is not installed.
    """
    try:
        from evidently import Report
        from evidently.presets import DataDriftPreset
    except ImportError as error:
        installed = 'html, or the extra installed: pip install "airflow-provider-mlops[evidently]"'
        raise ParameterError.of("renderer", "evidently_page", installed, "evidently") from error
    reference = reference_sample(profile_uri)
    if reference is None:
        raise DataError(
            f"The profile {profile_uri} keeps no sample of the reference, which Evidently needs. "
            "Profile the data again with sample_rows=10000, or use renderer='html'."
        )
    chosen = [*(columns or reference.columns)]
    newer = sample_of(rows_of(current), chosen, MAX_ROWS).to_pandas()
    told = [name for name in chosen if reference[name].notna().any() and newer[name].notna().any()]
    if not told:
        raise DataError(
            f"None of the columns {chosen} has values on both sides, so that Evidently has nothing "
            "to compare. Use renderer='html'."
        )
    report = Report([DataDriftPreset(drift_share=max_share)])
    snapshot = report.run(_without_zones(newer[told]), _without_zones(reference[told]))
    return str(snapshot.get_html_str(as_iframe=False))


def _without_zones(frame: pd.DataFrame) -> pd.DataFrame:
    """Return times without their zone, which is UTC and which Evidently warns of."""
    zoned = frame.select_dtypes("datetimetz")
    return frame.assign(**{str(name): zoned[name].dt.tz_localize(None) for name in zoned})
