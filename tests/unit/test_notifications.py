"""What people are told, by notifiers as Airflow has them."""

from __future__ import annotations

import email
import socket
import threading
from typing import get_args
from unittest.mock import MagicMock

import pytest
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import DAG, BaseNotifier

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.notifications import Event, told, when

REASON = {"check": "superiority:auc", "passed": False, "detail": "gains <b>-0.01</b>", "n": 9}
REPORT = {"endpoint": "flight-delay", "n_labelled": 900, "reasons": ["The AUC is 0.5."]}
RECORDS = {
    "data_stopped": {
        "suite": "flights",
        "dataset_uri": "/w/a.parquet",
        "outcome": "stop",
        "n_failed": 2,
        "n_errored": 1,
        "n_expectations": 30,
    },
    "drift": REPORT | {"signals": ["drift"]},
    "degraded": REPORT | {"signals": ["performance"]},
    "gate_refused": {
        "outcome": "refused",
        "challenger_uri": "models:/m-1",
        "champion_uri": None,
        "reasons": [REASON],
    },
    "rolled_back": {
        "endpoint": "flight-delay",
        "candidate": "v3",
        "state": "ROLLED_BACK",
        "reason": "errors",
    },
    "model_promoted": {"name": "delay", "version": "3", "aliases": ["champion"]},
}
OTHERS = {
    "data_stopped": {"outcome": "warn"},
    "drift": {"signals": ["performance"]},
    "degraded": {"signals": ["drift"]},
    "gate_refused": {"outcome": "keep_champion"},
    "rolled_back": {"state": "SUCCEEDED"},
    "model_promoted": {"aliases": ["challenger"]},
}
SAID = {
    "data_stopped": ("Data stopped: flights", "2 of 30 expectations"),
    "drift": ("Drift: flight-delay", "- The AUC is 0.5."),
    "degraded": ("Degraded: flight-delay", "900 labelled predictions"),
    "gate_refused": ("Refused: models:/m-1", "- NO superiority:auc: gains <b>-0.01</b> (n=9)"),
    "rolled_back": ("Rolled back: flight-delay", "v3 on flight-delay ended ROLLED_BACK: errors"),
    "model_promoted": ("Champion: delay version 3", "Version 3 of delay is champion now."),
}


class FileNotifier(BaseNotifier):
    """Writes what it has to tell into a file."""

    template_fields = ("subject", "text")

    def __init__(self, path, subject, text):
        super().__init__()
        self.path, self.subject, self.text = path, subject, text

    def notify(self, context):
        self.path.write_text(f"{self.subject}\n{self.text}")


@pytest.fixture
def happened():
    """Make the context of a task that gave a record."""

    def make(record):
        ti = MagicMock(dag_id="a_dag", run_id="a_run", task_id="t", map_index=-1)
        ti.log_url = "http://airflow/log"
        ti.xcom_pull.return_value = record
        with DAG("a_dag") as dag:
            return {"ti": ti, "dag": dag}

    return make


@pytest.fixture
def notify(tmp_path, happened):
    def go(event, record):
        note, path = told(event), tmp_path / "note.txt"
        when(event, FileNotifier(path, note.subject, note.text))(happened(record))
        return path.read_text() if path.exists() else None

    return go


def test_every_event_is_tested():
    assert set(RECORDS) == set(OTHERS) == set(SAID) == set(get_args(Event))


@pytest.mark.parametrize("event", RECORDS)
def test_what_happened_is_told_with_its_figures_and_where_to_look(notify, event):
    subject, text = SAID[event]
    message = notify(event, RECORDS[event])
    assert message.startswith(f"{subject}\n")
    assert text in message
    assert message.endswith("a_dag · a_run · t\nhttp://airflow/log")


@pytest.mark.parametrize("event", OTHERS)
@pytest.mark.parametrize("nothing", [True, False])
def test_what_did_not_happen_is_not_told(notify, event, nothing):
    assert notify(event, None if nothing else OTHERS[event]) is None


def test_drift_of_a_dataset_and_a_proven_roll_back_are_told_too(notify):
    drift = {
        "dataset_uri": "/w/a.parquet",
        "verdict": "drifted",
        "features": [{"feature": "distance", "status": "drifted"}],
    }
    assert "- distance" in notify("drift", drift)
    rolled_back = {
        "outcome": "rolled_back",
        "endpoint": None,
        "champion_uri": "models:/delay/2",
        "previous_uri": "models:/delay/1",
        "reasons": [REASON],
    }
    message = notify("rolled_back", rolled_back)
    assert "models:/delay/2 gave way to models:/delay/1." in message


def test_an_unknown_event_is_refused_when_the_dag_is_parsed():
    with pytest.raises(ParameterError, match="event parameter of notifications"):
        told("sunshine")
    with pytest.raises(ParameterError, match="event parameter of notifications"):
        when("sunshine", MagicMock())


class MailServer:
    """Takes one mail over SMTP and keeps it."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(20)
        self.port = self._socket.getsockname()[1]
        self.mail = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def received(self):
        self._thread.join(20)
        self._socket.close()
        return email.message_from_bytes(self.mail)

    def _serve(self):
        connection, _ = self._socket.accept()
        with connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 ready\r\n")
            for line in lines:
                command = line.split()[0].upper()
                if command == b"DATA":
                    connection.sendall(b"354 go on\r\n")
                    self.mail = b"".join(iter(lines.readline, b".\r\n"))
                connection.sendall(b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n")
                if command == b"QUIT":
                    return


def test_a_mail_shows_what_tasks_found_as_text_and_not_as_html(monkeypatch, happened):
    server = MailServer()
    extra = "disable_ssl=true&disable_tls=true&retry_limit=1"
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", f"smtp://127.0.0.1:{server.port}?{extra}")
    note = told("gate_refused")
    mail = SmtpNotifier(
        to="ml@example.org",
        from_email="airflow@example.org",
        subject=note.subject,
        html_content=note.html,
    )
    when("gate_refused", mail)(happened(RECORDS["gate_refused"]))
    received = server.received()
    assert received["Subject"] == "Refused: models:/m-1"
    (part,) = received.get_payload()
    body = part.get_payload(decode=True).decode()
    assert "gains &lt;b&gt;-0.01&lt;/b&gt;" in body
