from airflow_mlops_provider.links import (
    MLFLOW_RUN_KEY,
    BehaviourLink,
    DataCardLink,
    DataDocsLink,
    DriftReportLink,
    EvaluationLink,
    MlflowRunLink,
    ModelCardLink,
    MonitoringLink,
    NotebookLink,
    RolloutLink,
    page_path,
    rollout_url,
)


def test_a_proxy_prefix_is_kept(monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/team/airflow/")
    assert page_path("page") == "/team/airflow/mlops/page"


def test_the_page_of_a_rollout_names_its_host_unless_it_is_the_default_one():
    assert rollout_url("e", "serving_default") == "/mlops/rollouts/e"
    assert rollout_url("a/b?", "eu & us") == "/mlops/rollouts/a%2Fb%3F?connection=eu%20%26%20us"


def test_each_button_has_a_name_and_a_place_of_its_own():
    kinds = (
        MlflowRunLink,
        DataCardLink,
        DataDocsLink,
        DriftReportLink,
        MonitoringLink,
        NotebookLink,
        BehaviourLink,
        EvaluationLink,
        ModelCardLink,
        RolloutLink,
    )
    links = [kind() for kind in kinds]
    assert len({link.name for link in links}) == len(links)
    assert len({link.xcom_key for link in links}) == len(links)


def test_the_link_is_read_where_the_task_pushed_it(monkeypatch):
    from airflow.sdk.execution_time.xcom import XCom

    pushed = {MLFLOW_RUN_KEY: "http://mlflow/run"}
    monkeypatch.setattr(XCom, "get_value", lambda ti_key, key: pushed.get(key))
    link = MlflowRunLink()
    assert link.xcom_key == MLFLOW_RUN_KEY
    assert link.get_link(None, ti_key=None) == "http://mlflow/run"
    pushed.clear()
    assert link.get_link(None, ti_key=None) == ""
