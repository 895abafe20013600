import os
import sys

import pytest

from airflow_mlops_provider.exceptions import StackUnavailableError
from airflow_mlops_provider.stack.service import (
    Service,
    free_ports,
    stop_all,
    tail,
    wait_until_healthy,
)

SERVER = """
import sys
from http.server import HTTPServer, SimpleHTTPRequestHandler
HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""


def service(tmp_path, script, name="Thing"):
    port = free_ports(1)[0]
    command = [sys.executable, "-u", "-c", script, str(port)]
    log = tmp_path / "logs" / "thing.log"
    return Service(name, command, dict(os.environ), log, f"http://127.0.0.1:{port}/")


def test_a_service_is_waited_for_and_stopped(tmp_path):
    said = []
    thing = service(tmp_path, SERVER)
    thing.start()
    wait_until_healthy([thing], 30, said.append)
    assert thing.running
    assert "Thing is up" in said[0]
    stop_all([thing])
    assert not thing.running
    assert not thing.is_healthy()


def test_a_service_that_ends_is_named_with_the_end_of_its_log(tmp_path):
    thing = service(tmp_path, "print('the disk is full'); raise SystemExit(3)")
    thing.start()
    with pytest.raises(StackUnavailableError, match=r"(?s)Thing ended.*thing\.log.*disk is full"):
        wait_until_healthy([thing], 30, lambda line: None)


def test_a_service_that_hangs_is_named(tmp_path):
    thing = service(tmp_path, "import time; time.sleep(600)")
    thing.start()
    try:
        with pytest.raises(StackUnavailableError, match=r"Thing was not up within 0 s"):
            wait_until_healthy([thing], 0.1, lambda line: None)
    finally:
        stop_all([thing])


def test_stopping_what_never_started_is_no_error(tmp_path):
    stop_all([service(tmp_path, SERVER)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, "(no log was written)"), ("", "(the log is empty)"), ("a\nb\nc\n", "b\nc")],
)
def test_tail(tmp_path, text, expected):
    log = tmp_path / "log"
    if text is not None:
        log.write_text(text)
    assert tail(log, 2) == expected


def test_free_ports_differ():
    assert len(set(free_ports(20))) == 20
