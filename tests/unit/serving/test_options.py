import pytest

from airflow_mlops_provider.exceptions import ParameterError, RecordError
from airflow_mlops_provider.serving.options import DeploymentOptions


def test_no_options_are_the_defaults():
    assert DeploymentOptions.of(None) == DeploymentOptions.of({}) == DeploymentOptions()


def test_options_survive_json():
    options = DeploymentOptions.of({"workers": 2, "log_drop_columns": ["name"]})
    assert options.log_drop_columns == ("name",)
    assert DeploymentOptions.of(options.to_xcom()) == options


@pytest.mark.parametrize(
    ("given", "named"),
    [({"workers": 0}, "workers"), ({"workers": 65}, "workers"), ({"memory_mb": 0}, "memory_mb")],
)
def test_a_number_out_of_range_is_named(given, named):
    with pytest.raises(ParameterError, match=named):
        DeploymentOptions.of(given)


@pytest.mark.parametrize("given", [{"wrokers": 2}, {"durability": "none"}, {"workers": "many"}])
def test_an_unknown_option_or_type_is_refused(given):
    with pytest.raises(RecordError, match=next(iter(given))):
        DeploymentOptions.of(given)
