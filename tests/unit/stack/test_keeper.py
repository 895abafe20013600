import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from airflow_mlops_provider.stack import keeper

GRANDCHILD_THAT_WILL_NOT_GO = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(sys.argv[1], "w").write(str(os.getpid()))
    time.sleep(600)
"""
PATIENT = "import sys, time; open(sys.argv[1], 'w').write('0'); time.sleep(600)"


def kept(script: str, mark: Path, *, grace: float = 0.3) -> subprocess.Popen[bytes]:
    """Start ``script`` under a keeper with little patience."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(keeper.__file__).parent)!r}); import keeper\n"
        f"keeper.end_descendants.__defaults__ = ({grace},)\n"
        f"sys.exit(keeper.main([sys.executable, '-c', {script!r}, {str(mark)!r}]))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


def wait_for(mark: Path) -> int:
    deadline = time.monotonic() + 20
    while not (mark.exists() and mark.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(mark.read_text())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")
def test_orphans_that_ignore_sigterm_do_not_outlive_the_command(tmp_path):
    process = kept(GRANDCHILD_THAT_WILL_NOT_GO, tmp_path / "pid")
    orphan = wait_for(tmp_path / "pid")
    process.wait(timeout=20)
    assert not psutil.pid_exists(orphan)


@pytest.mark.parametrize("how", ["input closes", "SIGTERM"])
def test_the_command_ends_when_the_parent_does(tmp_path, how):
    process = kept(PATIENT, tmp_path / "mark")
    wait_for(tmp_path / "mark")
    child = psutil.Process(process.pid).children()[0]
    if how == "SIGTERM":
        process.terminate()
    else:
        process.stdin.close()
    process.wait(timeout=20)
    assert not child.is_running()


def test_the_exit_code_is_the_commands(tmp_path):
    process = kept("raise SystemExit(7)", tmp_path / "mark")
    assert process.wait(timeout=20) == 7


def test_a_stop_before_the_start_starts_nothing():
    early = keeper.Keeper()
    early.stop()
    assert early.keep(["/no/such/program"]) == 0
