from airflow_mlops_provider.links import (
    MLFLOW_RUN_KEY,
    BehaviourLink,
    DataCardLink,
    DataDocsLink,
    DriftReportLink,
    EvaluationLink,
    MlflowRunLink,
    ModelCardLink,
    NotebookLink,
)


def test_each_button_has_a_name_and_a_place_of_its_own():
    kinds = (
        MlflowRunLink,
        DataCardLink,
        DataDocsLink,
        DriftReportLink,
        NotebookLink,
        BehaviourLink,
        EvaluationLink,
        ModelCardLink,
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
